#!/usr/bin/env python3
"""Features and what numpy and scikit-learn make of them, into fixtures/probes.

    python3 scripts/probes/make_goldens.py          needs numpy 2 and scikit-learn 1

probes.json: three classes of 16 features, 150 rows to learn from and 90 to test on; the accuracy of big_vision's ridge regression (eigh, as
in its fewshot_lsr.py) on the first 120 and on the first 9 rows; loss and accuracy of LogisticRegression for several weights."""
import json, os
import numpy as np
from sklearn.linear_model import LogisticRegression

root = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
rng = np.random.default_rng(0)
centers = rng.normal(size=(3, 16)) * 0.55


def sample(n):
    labels = np.arange(n) % 3
    rows = (centers[labels] + rng.normal(size=(n, 16))).astype(np.float32)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32), labels


(train, train_labels), (test, test_labels) = sample(150), sample(90)


def ridge(n):
    x, labels = train[:n].astype(np.float64), train_labels[:n]
    mean, std = x.mean(0, keepdims=True), x.std(0, keepdims=True) + 1e-5
    white = lambda x: np.pad((x - mean) / std, ((0, 0), (0, 1)), constant_values=100.0)
    x, y = white(x), 2.0 * np.eye(3)[labels] - 1.0
    if len(x) >= x.shape[1]:
        eigs, q = np.linalg.eigh(x.T @ x)
        rhs, lhs = q.T @ (x.T @ y), q
    else:
        eigs, q = np.linalg.eigh(x @ x.T)
        rhs, lhs = q.T @ y, x.T @ q
    w = (lhs * (1.0 / (eigs + 2.0**10)).reshape(1, -1)) @ rhs
    return float((np.argmax(white(test.astype(np.float64)) @ w, 1) == test_labels).mean())


def logistic(decay):
    n = len(train)
    model = LogisticRegression(C=1 / (decay * n), tol=1e-10, max_iter=100000).fit(train.astype(np.float64), train_labels)
    p = model.predict_log_proba(train.astype(np.float64))
    loss = -p[np.arange(n), train_labels].mean() + decay / 2 * (model.coef_**2).sum()
    return {"decay": decay, "loss": float(loss), "accuracy": float((model.predict(test.astype(np.float64)) == test_labels).mean())}


out = os.path.join(root, "fixtures", "probes")
os.makedirs(out, exist_ok=True)
flat = lambda rows: [float(np.format_float_positional(x, unique=True)) for x in rows.reshape(-1)]
result = {
    "train_rows": flat(train), "train_labels": train_labels.tolist(), "test_rows": flat(test), "test_labels": test_labels.tolist(),
    "ridge_primal": ridge(120), "ridge_dual": ridge(9), "logistic": [logistic(decay) for decay in (1e-3, 1e-1, 1.0)],
}
with open(os.path.join(out, "probes.json"), "w") as f:
    json.dump(result, f, separators=(",", ":"))
    f.write("\n")
print({k: v for k, v in result.items() if not k.endswith(("rows", "labels"))})

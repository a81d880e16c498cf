//! Attention, one query after the other, in f64.

use super::{Attention, Mask};

/// Gradients by q, k and v.
pub struct Gradients {
    /// Gradient by the queries, summed over examples when they are shared.
    pub dq: Vec<f64>,
    /// Gradient by the keys.
    pub dk: Vec<f64>,
    /// Gradient by the values.
    pub dv: Vec<f64>,
}

/// Where the columns of one head begin in the row of a query, in `[.., heads * head_dim]`.
pub(super) fn query_at(shape: &Attention, example: usize, head: usize, query: usize) -> usize {
    let row = if shape.shared_query { query } else { example * shape.q_len + query };
    (row * shape.heads + head) * shape.head_dim
}

pub(super) fn key_at(shape: &Attention, example: usize, head: usize, key: usize) -> usize {
    ((example * shape.k_len + key) * shape.heads + head) * shape.head_dim
}

fn dot(d: usize, a: &[f64], b: &[f64]) -> f64 {
    (0..d).map(|j| a[j] * b[j]).sum()
}

/// `softmax(scale * q · kᵀ)` of one query over the keys it sees.
pub fn weights(
    shape: &Attention,
    lengths: &[usize],
    (example, head, query): (usize, usize, usize),
    q: &[f64],
    k: &[f64],
) -> Vec<f64> {
    let seen = if shape.mask == Mask::Causal { lengths[example].min(query + 1) } else { lengths[example] };
    let q = &q[query_at(shape, example, head, query)..];
    let scale = 1.0 / (shape.head_dim as f64).sqrt();
    let logit = |key: usize| scale * dot(shape.head_dim, q, &k[key_at(shape, example, head, key)..]);
    let logits: Vec<f64> = (0..seen).map(logit).collect();
    let top = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let total: f64 = logits.iter().map(|logit| (logit - top).exp()).sum();
    logits.iter().map(|logit| (logit - top).exp() / total).collect()
}

pub(super) fn each_row(shape: &Attention, mut work: impl FnMut(usize, usize, usize)) {
    for example in 0..shape.n {
        for head in 0..shape.heads {
            for query in 0..shape.q_len {
                work(example, head, query);
            }
        }
    }
}

/// `y [n * q_len, heads * head_dim]`; q, k, v: rows of `heads * head_dim`; `lengths[i]` keys of example i count.
pub fn forward(shape: &Attention, lengths: &[usize], q: &[f64], k: &[f64], v: &[f64]) -> Vec<f64> {
    let d = shape.head_dim;
    let mut y = vec![0.0; shape.n * shape.q_len * shape.heads * d];
    each_row(shape, |example, head, query| {
        let at = ((example * shape.q_len + query) * shape.heads + head) * d;
        for (key, weight) in weights(shape, lengths, (example, head, query), q, k).iter().enumerate() {
            for j in 0..d {
                y[at + j] += weight * v[key_at(shape, example, head, key) + j];
            }
        }
    });
    y
}

/// Gradients of `sum(dy * y)`.
pub fn backward(shape: &Attention, lengths: &[usize], q: &[f64], k: &[f64], v: &[f64], dy: &[f64]) -> Gradients {
    let d = shape.head_dim;
    let scale = 1.0 / (d as f64).sqrt();
    let (mut dq, mut dk, mut dv) = (vec![0.0; q.len()], vec![0.0; k.len()], vec![0.0; v.len()]);
    each_row(shape, |example, head, query| {
        let w = weights(shape, lengths, (example, head, query), q, k);
        let dy = &dy[((example * shape.q_len + query) * shape.heads + head) * d..];
        let dw: Vec<f64> = (0..w.len()).map(|key| dot(d, dy, &v[key_at(shape, example, head, key)..])).collect();
        let delta: f64 = w.iter().zip(&dw).map(|(w, dw)| w * dw).sum();
        let q_at = query_at(shape, example, head, query);
        for (key, w) in w.iter().enumerate() {
            let k_at = key_at(shape, example, head, key);
            let ds = scale * w * (dw[key] - delta);
            for j in 0..d {
                dq[q_at + j] += ds * k[k_at + j];
                dk[k_at + j] += ds * q[q_at + j];
                dv[k_at + j] += w * dy[j];
            }
        }
    });
    Gradients { dq, dk, dv }
}

//! Linear-probe accuracy: softmax regression on frozen embeddings, to its minimum.

use super::Labelled;

/// Weights of the squared norm that are tried.
const WEIGHT_DECAYS: [f64; 9] = [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0];
/// Every so manieth picture is held back while the weight is chosen.
const HELD_BACK: usize = 5;
const ITERATIONS: usize = 200;
/// Pairs of steps and changes of the gradient that are remembered.
const MEMORY: usize = 10;
/// Norm of the gradient at which the minimum counts as found, of that at the start.
const TOLERANCE: f64 = 1e-6;

/// Accuracy on `test` of the regression whose weight decay does best on every fifth picture of `train`, learned again from all of it.
pub fn accuracy(train: &Labelled, test: &Labelled, classes: usize) -> f64 {
    let part = |held_back: bool| -> Vec<usize> {
        (0..train.labels.len()).filter(|i| (i % HELD_BACK == HELD_BACK - 1) == held_back).collect()
    };
    let (kept, held_back) = (part(false), part(true));
    let mut best = (f64::NEG_INFINITY, WEIGHT_DECAYS[0]);
    for decay in WEIGHT_DECAYS {
        let model = Regression::fit(train, &kept, classes, decay);
        let accuracy = model.accuracy(train, &held_back);
        if accuracy > best.0 {
            best = (accuracy, decay);
        }
    }
    let all: Vec<usize> = (0..train.labels.len()).collect();
    let tested: Vec<usize> = (0..test.labels.len()).collect();
    Regression::fit(train, &all, classes, best.1).accuracy(test, &tested)
}

/// `softmax(W x + b)`, the minimum of the mean cross-entropy plus `decay / 2 |W|^2`; the bias is free.
struct Regression {
    /// `[classes][d + 1]`, the bias last.
    weights: Vec<f64>,
    classes: usize,
}

impl Regression {
    /// Limited-memory BFGS from 0, with halved steps until the loss falls enough.
    fn fit(data: &Labelled, rows: &[usize], classes: usize, decay: f64) -> Self {
        let objective = |weights: &[f64]| loss(data, rows, classes, decay, weights);
        let mut x = vec![0.0; classes * (data.d + 1)];
        let (mut value, mut gradient) = objective(&x);
        let end = TOLERANCE * norm(&gradient).max(1e-12);
        let mut memory: Vec<(Vec<f64>, Vec<f64>)> = Vec::new();
        for _ in 0..ITERATIONS {
            if norm(&gradient) <= end {
                break;
            }
            let direction = direction(&gradient, &memory);
            let slope = dot(&direction, &gradient);
            let mut step = 1.0;
            let (next, after) = loop {
                let next: Vec<f64> = x.iter().zip(&direction).map(|(x, d)| x + step * d).collect();
                let after = objective(&next);
                if after.0 <= value + 1e-4 * step * slope || step < 1e-10 {
                    break (next, after);
                }
                step /= 2.0;
            };
            let difference = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a - b).collect::<Vec<f64>>();
            let (s, y) = (difference(&next, &x), difference(&after.1, &gradient));
            if dot(&s, &y) > 0.0 {
                memory.push((s, y));
                let forgotten = memory.len().saturating_sub(MEMORY);
                memory.drain(..forgotten);
            }
            (x, value, gradient) = (next, after.0, after.1);
        }
        Self { weights: x, classes }
    }

    fn accuracy(&self, data: &Labelled, rows: &[usize]) -> f64 {
        let right = rows.iter().filter(|i| {
            let logits = logits(data, **i, self.classes, &self.weights);
            let best = logits.iter().enumerate().fold(0, |best, (c, z)| if *z > logits[best] { c } else { best });
            best == data.labels[**i] as usize
        });
        right.count() as f64 / rows.len().max(1) as f64
    }
}

fn logits(data: &Labelled, i: usize, classes: usize, weights: &[f64]) -> Vec<f64> {
    let (d, x) = (data.d, &data.rows[i * data.d..(i + 1) * data.d]);
    let own = |class: usize| &weights[class * (d + 1)..(class + 1) * (d + 1)];
    (0..classes)
        .map(|class| own(class).iter().zip(x).map(|(w, x)| w * f64::from(*x)).sum::<f64>() + own(class)[d])
        .collect()
}

/// The objective and its gradient.
fn loss(data: &Labelled, rows: &[usize], classes: usize, decay: f64, weights: &[f64]) -> (f64, Vec<f64>) {
    let (d, share) = (data.d, 1.0 / rows.len().max(1) as f64);
    let (mut value, mut gradient) = (0.0, vec![0.0; weights.len()]);
    for i in rows {
        let z = logits(data, *i, classes, weights);
        let top = z.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = z.iter().map(|z| (z - top).exp()).sum();
        let label = data.labels[*i] as usize;
        value += share * (top + sum.ln() - z[label]);
        for (class, z) in z.iter().enumerate() {
            let error = share * ((z - top).exp() / sum - f64::from(u8::from(class == label)));
            let own = &mut gradient[class * (d + 1)..(class + 1) * (d + 1)];
            own.iter_mut().zip(&data.rows[i * d..(i + 1) * d]).for_each(|(g, x)| *g += error * f64::from(*x));
            own[d] += error;
        }
    }
    for (j, (w, g)) in weights.iter().zip(&mut gradient).enumerate() {
        if j % (d + 1) != d {
            value += decay / 2.0 * w * w;
            *g += decay * w;
        }
    }
    (value, gradient)
}

/// Minus the gradient times an estimate of the inverse Hessian: the two-loop recursion.
fn direction(gradient: &[f64], memory: &[(Vec<f64>, Vec<f64>)]) -> Vec<f64> {
    let mut q: Vec<f64> = gradient.iter().map(|g| -g).collect();
    let add = |q: &mut [f64], factor: f64, v: &[f64]| q.iter_mut().zip(v).for_each(|(q, v)| *q += factor * v);
    let mut factors = Vec::new();
    for (s, y) in memory.iter().rev() {
        let factor = dot(s, &q) / dot(s, y);
        add(&mut q, -factor, y);
        factors.push(factor);
    }
    if let Some((s, y)) = memory.last() {
        let scale = dot(s, y) / dot(y, y);
        q.iter_mut().for_each(|q| *q *= scale);
    }
    for ((s, y), factor) in memory.iter().zip(factors.iter().rev()) {
        let back = dot(y, &q) / dot(s, y);
        add(&mut q, factor - back, s);
    }
    q
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn norm(a: &[f64]) -> f64 {
    dot(a, a).sqrt()
}

/// Features, labels and what other libraries make of them, for the tests of both probes.
#[cfg(test)]
pub(super) fn samples() -> (Labelled, Labelled, serde_json::Value) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/probes/probes.json");
    let golden: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let part = |name: &str| {
        let rows: Vec<f32> = serde_json::from_value(golden[format!("{name}_rows")].clone()).unwrap();
        let labels: Vec<u32> = serde_json::from_value(golden[format!("{name}_labels")].clone()).unwrap();
        Labelled { d: rows.len() / labels.len(), rows, labels }
    };
    (part("train"), part("test"), golden.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_minimum_is_scikit_learns() {
        let (train, test, golden) = samples();
        let all: Vec<usize> = (0..train.labels.len()).collect();
        let tested: Vec<usize> = (0..test.labels.len()).collect();
        for entry in golden["logistic"].as_array().unwrap() {
            let decay = entry["decay"].as_f64().unwrap();
            let model = Regression::fit(&train, &all, 3, decay);
            let (value, _) = loss(&train, &all, 3, decay, &model.weights);
            let expected = entry["loss"].as_f64().unwrap();
            // Of a strictly convex objective equal values mean equal weights; scikit-learn stops at a gradient of 1e-10.
            assert!((value - expected).abs() <= 1e-7 * expected, "decay {decay}: {value}, expected {expected}");
            assert_eq!(model.accuracy(&test, &tested), entry["accuracy"].as_f64().unwrap(), "decay {decay}");
        }
    }

    #[test]
    fn the_gradient_is_the_derivative() {
        let (train, ..) = samples();
        let rows: Vec<usize> = (0..20).collect();
        let weights: Vec<f64> = (0..3 * (train.d + 1)).map(|i| ((i * 37 % 11) as f64 - 5.0) / 7.0).collect();
        let (_, gradient) = loss(&train, &rows, 3, 0.3, &weights);
        for (i, analytic) in gradient.iter().enumerate() {
            let moved = |by: f64| {
                let mut weights = weights.clone();
                weights[i] += by;
                loss(&train, &rows, 3, 0.3, &weights).0
            };
            let numeric = (moved(1e-5) - moved(-1e-5)) / 2e-5;
            assert!((numeric - analytic).abs() < 1e-8, "{i}: {numeric}, {analytic}");
        }
    }

    #[test]
    fn a_probe_learns_what_can_be_told_apart() {
        let (train, test, _) = samples();
        assert!(accuracy(&train, &test, 3) > 0.7);
    }
}

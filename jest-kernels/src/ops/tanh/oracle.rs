//! tanh, one element after the other, in f64.

/// `y = tanh(x)`.
pub fn forward(x: &[f64]) -> Vec<f64> {
    x.iter().map(|x| x.tanh()).collect()
}

/// `dx = dy (1 - y²)` with `y = tanh(x)`.
pub fn backward(y: &[f64], dy: &[f64]) -> Vec<f64> {
    (0..y.len()).map(|i| dy[i] * (1.0 - y[i] * y[i])).collect()
}

//! Columns scaled, one element after the other, in f64.

/// `y[i, j] = x[i, j] * scale[j]`.
pub fn forward(x: &[f64], scale: &[f64]) -> Vec<f64> {
    (0..x.len()).map(|i| x[i] * scale[i % scale.len()]).collect()
}

/// `dx[i, j] = dy[i, j] * scale[j]` and `dscale[j] = sum_i dy[i, j] * x[i, j]`.
pub fn backward(x: &[f64], scale: &[f64], dy: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let (mut dx, mut dscale) = (Vec::new(), vec![0.0; scale.len()]);
    for (i, dy) in dy.iter().enumerate() {
        let j = i % scale.len();
        dx.push(dy * scale[j]);
        dscale[j] += dy * x[i];
    }
    (dx, dscale)
}

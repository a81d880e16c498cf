//! Applying a matrix to every kernel, one element after the other, in f64.

/// `w_new[k, i] = sum_j matrix[i, j] w[k, j]`, with kernels k of `old` elements.
pub fn forward(w: &[f64], matrix: &[f64], old: usize) -> Vec<f64> {
    let mut w_new = Vec::new();
    for kernel in w.chunks(old) {
        for row in matrix.chunks(old) {
            w_new.push(row.iter().zip(kernel).map(|(m, w)| m * w).sum());
        }
    }
    w_new
}

/// `dw[k, j] = sum_i matrix[i, j] dw_new[k, i]`.
pub fn backward(dw_new: &[f64], matrix: &[f64], old: usize) -> Vec<f64> {
    let new = matrix.len() / old;
    let mut dw = vec![0.0; dw_new.len() / new * old];
    for (k, dw_new) in dw_new.chunks(new).enumerate() {
        for (i, row) in matrix.chunks(old).enumerate() {
            for (j, m) in row.iter().enumerate() {
                dw[k * old + j] += m * dw_new[i];
            }
        }
    }
    dw
}

//! Means of rows, one after the other, in f64.

/// `y[i] = mean over j < lengths[i] of x[i * l + j]`, for rows of length d.
pub fn forward(x: &[f64], lengths: &[u32], l: usize, d: usize) -> Vec<f64> {
    let mut y = vec![0.0; lengths.len() * d];
    for (i, length) in lengths.iter().enumerate() {
        for j in 0..*length as usize {
            for k in 0..d {
                y[i * d + k] += x[(i * l + j) * d + k] / f64::from(*length);
            }
        }
    }
    y
}

/// `dx[i * l + j] = dy[i] / lengths[i]` where `j < lengths[i]`, else 0.
pub fn backward(dy: &[f64], lengths: &[u32], l: usize, d: usize) -> Vec<f64> {
    let mut dx = vec![0.0; lengths.len() * l * d];
    for (i, length) in lengths.iter().enumerate() {
        for j in 0..*length as usize {
            for k in 0..d {
                dx[(i * l + j) * d + k] = dy[i * d + k] / f64::from(*length);
            }
        }
    }
    dx
}

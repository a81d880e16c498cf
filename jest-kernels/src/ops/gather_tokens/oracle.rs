//! Choosing tokens, one after the other, in f64.

/// `y[i * k + j] = x[i * l + indices[i * k + j]]` for rows of length d.
pub fn forward(x: &[f64], indices: &[u32], k: usize, l: usize, d: usize) -> Vec<f64> {
    let mut y = Vec::new();
    for (slot, index) in indices.iter().enumerate() {
        let row = slot / k * l + *index as usize;
        y.extend(&x[row * d..(row + 1) * d]);
    }
    y
}

/// Puts the rows of dy where they came from, among zeros.
pub fn backward(dy: &[f64], indices: &[u32], k: usize, l: usize, d: usize) -> Vec<f64> {
    let mut dx = vec![0.0; indices.len() / k * l * d];
    for (slot, index) in indices.iter().enumerate() {
        let row = slot / k * l + *index as usize;
        for j in 0..d {
            dx[row * d + j] += dy[slot * d + j];
        }
    }
    dx
}

//! The norm of all gradients, one element after the other, in f64.

/// `sqrt(sum of g²)`.
pub fn forward(gradients: &[Vec<f64>]) -> f64 {
    gradients.iter().flatten().map(|g| g * g).sum::<f64>().sqrt()
}

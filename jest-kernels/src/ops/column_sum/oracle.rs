//! Column sums, one element after the other, in f64.

/// `out[j] = start[j] + sum_i x[i, j]`.
pub fn accumulate(x: &[f64], start: &[f64]) -> Vec<f64> {
    let mut out = start.to_vec();
    for (i, value) in x.iter().enumerate() {
        out[i % start.len()] += value;
    }
    out
}

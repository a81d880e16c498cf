//! Sums of arrays, one element after the other, in f64.

/// `y = a + b`.
pub fn forward(a: &[f64], b: &[f64]) -> Vec<f64> {
    (0..a.len()).map(|i| a[i] + b[i]).collect()
}

/// `y = x + table`, the table repeated under x.
pub fn forward_rows(x: &[f64], table: &[f64]) -> Vec<f64> {
    (0..x.len()).map(|i| x[i] + table[i % table.len()]).collect()
}

/// `dtable[j] = start[j] + sum_i dy[i * period + j]`, with the period `start.len()`.
pub fn backward_rows(dy: &[f64], start: &[f64]) -> Vec<f64> {
    let mut dtable = start.to_vec();
    for (i, dy) in dy.iter().enumerate() {
        dtable[i % start.len()] += dy;
    }
    dtable
}

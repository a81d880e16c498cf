//! Token embedding, one position after the other, in f64.

/// `y[r] = table[ids[r]] + posemb[r mod l]` for rows of length d.
pub fn forward(ids: &[u32], l: usize, table: &[f64], posemb: &[f64], d: usize) -> Vec<f64> {
    let mut y = Vec::new();
    for (r, id) in ids.iter().enumerate() {
        for j in 0..d {
            y.push(table[*id as usize * d + j] + posemb[r % l * d + j]);
        }
    }
    y
}

/// Adds the gradients by table and posemb to `dtable` and `dposemb`.
pub fn backward(ids: &[u32], l: usize, dy: &[f64], dtable: &mut [f64], dposemb: &mut [f64], d: usize) {
    for (r, id) in ids.iter().enumerate() {
        for j in 0..d {
            dtable[*id as usize * d + j] += dy[r * d + j];
            dposemb[r % l * d + j] += dy[r * d + j];
        }
    }
}

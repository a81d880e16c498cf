//! Rows of length 1, one after the other, in f64.

fn norm(row: &[f64]) -> f64 {
    row.iter().map(|x| x * x).sum::<f64>().sqrt()
}

/// `z = x / max(|x|, eps)` over rows of length d.
pub fn forward(x: &[f64], d: usize, eps: f64) -> Vec<f64> {
    let mut z = Vec::new();
    for row in x.chunks(d) {
        for x in row {
            z.push(x / norm(row).max(eps));
        }
    }
    z
}

/// `dx = (dz - z (z · dz)) / |x|`; of a row shorter than eps, `dx = dz / eps`.
pub fn backward(x: &[f64], dz: &[f64], d: usize, eps: f64) -> Vec<f64> {
    let mut dx = Vec::new();
    for (row, dz) in x.chunks(d).zip(dz.chunks(d)) {
        let length = norm(row);
        let along: f64 = row.iter().zip(dz).map(|(x, dz)| x / length * dz).sum();
        for j in 0..row.len() {
            dx.push(if length < eps { dz[j] / eps } else { (dz[j] - row[j] / length * along) / length });
        }
    }
    dx
}

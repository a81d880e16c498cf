//! Matrix products, one element after the other, in f64.

/// `y [m, n]`, with `a(i, l)` and `b(l, j)` as the operands' elements.
pub fn product(
    m: usize,
    n: usize,
    k: usize,
    a: impl Fn(usize, usize) -> f64,
    b: impl Fn(usize, usize) -> f64,
) -> Vec<f64> {
    let mut y = vec![0.0; m * n];
    for i in 0..m {
        for j in 0..n {
            for l in 0..k {
                y[i * n + j] += a(i, l) * b(l, j);
            }
        }
    }
    y
}

/// `a [m, k] · b [k, n]`.
pub fn ab(m: usize, n: usize, k: usize, a: &[f64], b: &[f64]) -> Vec<f64> {
    product(m, n, k, |i, l| a[i * k + l], |l, j| b[l * n + j])
}

/// `a [m, k] · bᵀ`, b [n, k].
pub fn abt(m: usize, n: usize, k: usize, a: &[f64], b: &[f64]) -> Vec<f64> {
    product(m, n, k, |i, l| a[i * k + l], |l, j| b[j * k + l])
}

/// `aᵀ · b`, a [k, m], b [k, n].
pub fn atb(m: usize, n: usize, k: usize, a: &[f64], b: &[f64]) -> Vec<f64> {
    product(m, n, k, |i, l| a[l * m + i], |l, j| b[l * n + j])
}

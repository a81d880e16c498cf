//! Layer normalisation, one row after the other, in f64.

/// Gradients by each input.
#[derive(Debug)]
pub struct Gradients {
    /// By x.
    pub dx: Vec<f64>,
    /// By gamma.
    pub dgamma: Vec<f64>,
    /// By beta.
    pub dbeta: Vec<f64>,
}

fn statistics(row: &[f64], eps: f64) -> (f64, f64) {
    let n = row.len() as f64;
    let mean = row.iter().sum::<f64>() / n;
    let variance = row.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / n;
    (mean, 1.0 / (variance + eps).sqrt())
}

/// Reciprocal standard deviation of each row.
pub fn rstd(x: &[f64], cols: usize, eps: f64) -> Vec<f64> {
    x.chunks(cols).map(|row| statistics(row, eps).1).collect()
}

/// `y = (x - mean) * rstd * gamma + beta`.
pub fn forward(x: &[f64], gamma: &[f64], beta: &[f64], eps: f64) -> Vec<f64> {
    let mut y = Vec::new();
    for row in x.chunks(gamma.len()) {
        let (mean, rstd) = statistics(row, eps);
        for j in 0..row.len() {
            y.push((row[j] - mean) * rstd * gamma[j] + beta[j]);
        }
    }
    y
}

/// With `xhat = (x - mean) * rstd` and `g = dy * gamma`: `dx = rstd * (g - mean(g) - xhat * mean(g * xhat))`.
pub fn backward(x: &[f64], gamma: &[f64], dy: &[f64], eps: f64) -> Gradients {
    let d = gamma.len();
    let mut out = Gradients { dx: Vec::new(), dgamma: vec![0.0; d], dbeta: vec![0.0; d] };
    for (row, dy) in x.chunks(d).zip(dy.chunks(d)) {
        let (mean, rstd) = statistics(row, eps);
        let xhat: Vec<f64> = row.iter().map(|x| (x - mean) * rstd).collect();
        let mean_g = (0..d).map(|j| dy[j] * gamma[j]).sum::<f64>() / d as f64;
        let mean_gx = (0..d).map(|j| dy[j] * gamma[j] * xhat[j]).sum::<f64>() / d as f64;
        for j in 0..d {
            out.dx.push(rstd * (dy[j] * gamma[j] - mean_g - xhat[j] * mean_gx));
            out.dgamma[j] += dy[j] * xhat[j];
            out.dbeta[j] += dy[j];
        }
    }
    out
}

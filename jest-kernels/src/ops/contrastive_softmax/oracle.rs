//! The two-sided softmax loss, one pair after the other, in f64.

/// Gradients by each input.
#[derive(Debug)]
pub struct Gradients {
    /// By the image embeddings.
    pub dimage: Vec<f64>,
    /// By the text embeddings.
    pub dtext: Vec<f64>,
    /// By the logarithm of the logit scale.
    pub dlog_scale: f64,
}

/// `L_ij = exp(log_scale) image_i · text_j`, [n, n].
pub fn logits(d: usize, image: &[f64], text: &[f64], log_scale: f64) -> Vec<f64> {
    let n = image.len() / d;
    let dot = |i: usize, j: usize| (0..d).map(|k| image[i * d + k] * text[j * d + k]).sum::<f64>();
    (0..n * n).map(|at| log_scale.exp() * dot(at / n, at % n)).collect()
}

/// `ln sum exp(x)`.
pub fn log_sum_exp(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let top = values.clone().fold(f64::MIN, f64::max);
    top + values.map(|x| (x - top).exp()).sum::<f64>().ln()
}

/// Log-sum-exps of all rows and of all columns.
pub fn both_sides(n: usize, logits: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let rows = (0..n).map(|i| log_sum_exp((0..n).map(move |j| logits[i * n + j]))).collect();
    let cols = (0..n).map(|j| log_sum_exp((0..n).map(move |i| logits[i * n + j]))).collect();
    (rows, cols)
}

/// `-(1/2n) sum_i (log softmax over row i + log softmax over column i) at i`.
pub fn forward(d: usize, image: &[f64], text: &[f64], log_scale: f64) -> f64 {
    let n = image.len() / d;
    let logits = logits(d, image, text, log_scale);
    let (rows, cols) = both_sides(n, &logits);
    (0..n).map(|i| rows[i] + cols[i] - 2.0 * logits[i * n + i]).sum::<f64>() / (2 * n) as f64
}

/// `G_ij = dloss / dL_ij = ((p_row + p_col) / 2 - [i = j]) / n`, [n, n].
pub fn by_logits(d: usize, image: &[f64], text: &[f64], log_scale: f64) -> Vec<f64> {
    let n = image.len() / d;
    let logits = logits(d, image, text, log_scale);
    let (rows, cols) = both_sides(n, &logits);
    let mut g = Vec::new();
    for i in 0..n {
        for j in 0..n {
            let logit = logits[i * n + j];
            let p = ((logit - rows[i]).exp() + (logit - cols[j]).exp()) / 2.0;
            g.push((p - if i == j { 1.0 } else { 0.0 }) / n as f64);
        }
    }
    g
}

/// `dimage = t G text`, `dtext = t Gᵀ image`, `dlog_scale = sum G_ij L_ij`.
pub fn backward(d: usize, image: &[f64], text: &[f64], log_scale: f64) -> Gradients {
    let (n, t) = (image.len() / d, log_scale.exp());
    let g = by_logits(d, image, text, log_scale);
    let logits = logits(d, image, text, log_scale);
    let dlog_scale = g.iter().zip(&logits).map(|(g, logit)| g * logit).sum();
    let mut out = Gradients { dimage: vec![0.0; n * d], dtext: vec![0.0; n * d], dlog_scale };
    for i in 0..n {
        for j in 0..n {
            for k in 0..d {
                out.dimage[i * d + k] += t * g[i * n + j] * text[j * d + k];
                out.dtext[j * d + k] += t * g[i * n + j] * image[i * d + k];
            }
        }
    }
    out
}

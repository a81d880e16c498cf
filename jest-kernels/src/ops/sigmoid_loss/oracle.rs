//! The sigmoid loss, one pair after the other, in f64.

/// Gradients by each input.
#[derive(Debug)]
pub struct Gradients {
    /// By the image embeddings.
    pub dimage: Vec<f64>,
    /// By the text embeddings.
    pub dtext: Vec<f64>,
    /// By the logarithm of the logit scale.
    pub dlog_scale: f64,
    /// By the logit bias.
    pub dbias: f64,
}

/// `ln(1 + exp(x))`.
pub fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// `image_i · text_j`.
pub fn dot(d: usize, image: &[f64], i: usize, text: &[f64], j: usize) -> f64 {
    (0..d).map(|k| image[i * d + k] * text[j * d + k]).sum()
}

/// `(1/n) sum_ij softplus(-z_ij L_ij)`, `L_ij = exp(log_scale) image_i · text_j + bias`, z = 1 where i = j, else -1.
pub fn forward(d: usize, image: &[f64], text: &[f64], log_scale: f64, bias: f64) -> f64 {
    let n = image.len() / d;
    let mut loss = 0.0;
    for i in 0..n {
        for j in 0..n {
            let logit = log_scale.exp() * dot(d, image, i, text, j) + bias;
            loss += softplus(if i == j { -logit } else { logit }) / n as f64;
        }
    }
    loss
}

/// `G_ij = dloss / dL_ij = (sigmoid(L_ij) - [i = j]) / n`, [n, n].
pub fn by_logits(d: usize, image: &[f64], text: &[f64], log_scale: f64, bias: f64) -> Vec<f64> {
    let n = image.len() / d;
    let mut g = Vec::new();
    for i in 0..n {
        for j in 0..n {
            let logit = log_scale.exp() * dot(d, image, i, text, j) + bias;
            g.push(if i == j { -1.0 / (1.0 + logit.exp()) } else { 1.0 / (1.0 + (-logit).exp()) } / n as f64);
        }
    }
    g
}

/// `dimage = t G text`, `dtext = t Gᵀ image`, `dlog_scale = sum G_ij t image_i · text_j`, `dbias = sum G_ij`.
pub fn backward(d: usize, image: &[f64], text: &[f64], log_scale: f64, bias: f64) -> Gradients {
    let (n, t) = (image.len() / d, log_scale.exp());
    let g = by_logits(d, image, text, log_scale, bias);
    let mut out =
        Gradients { dimage: vec![0.0; n * d], dtext: vec![0.0; n * d], dlog_scale: 0.0, dbias: g.iter().sum() };
    for i in 0..n {
        for j in 0..n {
            out.dlog_scale += g[i * n + j] * t * dot(d, image, i, text, j);
            for k in 0..d {
                out.dimage[i * d + k] += t * g[i * n + j] * text[j * d + k];
                out.dtext[j * d + k] += t * g[i * n + j] * image[i * d + k];
            }
        }
    }
    out
}

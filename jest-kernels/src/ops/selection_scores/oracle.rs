//! Conditional scores of joint selection, one pair after the other, in f64.

/// One model's embeddings [B, d] and how its logits are made of them.
#[derive(Clone, Copy, Debug)]
pub struct Candidates<'a> {
    /// Width of a row.
    pub d: usize,
    /// Image embeddings.
    pub image: &'a [f64],
    /// Text embeddings.
    pub text: &'a [f64],
    /// Logarithm of the logit scale.
    pub log_scale: f64,
    /// Logit bias.
    pub bias: f64,
}

impl Candidates<'_> {
    /// `L_ij = exp(log_scale) image_i · text_j + bias`.
    pub fn logit(&self, i: usize, j: usize) -> f64 {
        let dot: f64 = (0..self.d).map(|k| self.image[i * self.d + k] * self.text[j * self.d + k]).sum();
        self.log_scale.exp() * dot + self.bias
    }
}

/// `ln(1 + exp(x))`.
pub fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// `conditional_x += weight softplus(-L_xx)`.
pub fn diagonal(weight: f64, candidates: Candidates<'_>, conditional: &mut [f64]) {
    for (x, score) in conditional.iter_mut().enumerate() {
        *score += weight * softplus(-candidates.logit(x, x));
    }
}

/// `conditional_x += weight sum_k (softplus(L_xk) + softplus(L_kx))` for the open candidates x, over the chunk.
pub fn condition_on(weight: f64, candidates: Candidates<'_>, open: &[u32], chunk: &[u32], conditional: &mut [f64]) {
    for x in open {
        let x = *x as usize;
        for k in chunk {
            let k = *k as usize;
            conditional[x] += weight * (softplus(candidates.logit(x, k)) + softplus(candidates.logit(k, x)));
        }
    }
}

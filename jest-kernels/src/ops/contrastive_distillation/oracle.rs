//! Distillation of a teacher's softmaxes over rows and columns, one pair after the other, in f64.

pub use super::super::contrastive_softmax::oracle::Gradients;
use super::super::contrastive_softmax::oracle::{both_sides, logits};

/// Embeddings of a batch, [n, d] each, and the logarithm of their logit scale.
#[derive(Clone, Copy, Debug)]
pub struct Model<'a> {
    /// Length of an embedding.
    pub d: usize,
    /// Images.
    pub image: &'a [f64],
    /// Texts.
    pub text: &'a [f64],
    /// ln t
    pub log_scale: f64,
}

impl Model<'_> {
    fn logits(&self) -> Vec<f64> {
        logits(self.d, self.image, self.text, self.log_scale)
    }
}

/// Logarithms of the softmax over each row and over each column, both [n, n].
pub fn log_softmaxes(model: Model<'_>) -> [Vec<f64>; 2] {
    let (n, logits) = (model.image.len() / model.d, model.logits());
    let (rows, cols) = both_sides(n, &logits);
    let by_row = logits.iter().enumerate().map(|(at, logit)| logit - rows[at / n]).collect();
    let by_col = logits.iter().enumerate().map(|(at, logit)| logit - cols[at % n]).collect();
    [by_row, by_col]
}

/// `-(1/2n) sum_ij p_row log q_row + p_col log q_col`.
pub fn forward(student: Model<'_>, teacher: Model<'_>) -> f64 {
    let n = student.image.len() / student.d;
    let (q, p) = (log_softmaxes(student), log_softmaxes(teacher));
    let side = |side: usize| p[side].iter().zip(&q[side]).map(|(p, q)| p.exp() * q).sum::<f64>();
    -(side(0) + side(1)) / (2 * n) as f64
}

/// `G_ij = ((q_row - p_row) + (q_col - p_col)) / 2n`, [n, n].
pub fn by_logits(student: Model<'_>, teacher: Model<'_>) -> Vec<f64> {
    let n = student.image.len() / student.d;
    let (q, p) = (log_softmaxes(student), log_softmaxes(teacher));
    let gap = |side: usize, at: usize| q[side][at].exp() - p[side][at].exp();
    (0..n * n).map(|at| (gap(0, at) + gap(1, at)) / (2 * n) as f64).collect()
}

/// `dimage = t G text`, `dtext = t Gᵀ image`, `dlog_scale = sum G_ij L_ij`, of the student's.
pub fn backward(student: Model<'_>, teacher: Model<'_>) -> Gradients {
    let Model { d, image, text, log_scale } = student;
    let (n, t) = (image.len() / d, log_scale.exp());
    let g = by_logits(student, teacher);
    let dlog_scale = g.iter().zip(student.logits()).map(|(g, logit)| g * logit).sum();
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

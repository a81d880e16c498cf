//! Conditional scores of the sigmoid objective, from embeddings.

use std::num::NonZeroUsize;

use super::open::OpenCandidates;
use super::tile::{PackedRows, cross};
use crate::{Candidate, ConditionalScores, InputError, ScoreTerms};

/// Texts gathered at once for row sums, so that no second copy of all of them is made.
const ROW_SUM_TEXTS: usize = 2_048;

/// Conditional scores of the sigmoid objective in `O(B d)` memory: what a chunk adds is summed a tile at a time.
///
/// `S_ij = sum over terms of weight * softplus(-z_ij * logits_ij)`, z = +1 on the diagonal, -1 elsewhere. Picked
/// candidates are skipped. Dot products and softplus are in f32, the sums over candidates in f64; the result does not
/// depend on the number of threads.
///
/// # Units
/// `8 B c d` floating-point operations a chunk for learnability, half of that for the other kinds.
///
/// # Source
/// Paper, algorithms 1 and 2.
#[derive(Debug, Clone)]
pub struct StreamingScores<'a> {
    terms: ScoreTerms<'a>,
    open: OpenCandidates<f64>,
    conditional: Vec<f32>,
    threads: NonZeroUsize,
}

impl<'a> StreamingScores<'a> {
    /// Scores before the first draw, `S_xx`.
    pub fn new(terms: ScoreTerms<'a>, threads: NonZeroUsize) -> Self {
        let mut diagonal = vec![0.0; terms.super_batch()];
        for (weight, e) in terms.iter() {
            for (sum, cosine) in diagonal.iter_mut().zip(e.own_cosines()) {
                let logit = f64::from(e.logit_scale) * cosine + f64::from(e.logit_bias);
                *sum += weight * f64::from(softplus(-logit as f32));
            }
        }
        let conditional = diagonal.iter().map(|&sum| sum as f32).collect();
        Self { terms, open: OpenCandidates::new(diagonal.into_iter()), conditional, threads }
    }
}

impl ConditionalScores for StreamingScores<'_> {
    type Error = InputError;

    fn conditional(&self) -> &[f32] {
        &self.conditional
    }

    fn condition_on(&mut self, chunk: &[Candidate]) -> Result<(), InputError> {
        self.open.close(chunk)?;
        for (weight, e) in self.terms.iter() {
            // S_xk reads image x beside text k, S_kx text x beside image k; z is -1 in both.
            for (own, other) in [(e.image, e.text), (e.text, e.image)] {
                let packed = PackedRows::gather(other, e.width, chunk);
                let (scale, bias) = (e.logit_scale, e.logit_bias);
                cross(own, self.open.as_mut_slice(), &packed, self.threads, |sum, dots| {
                    dots.iter().for_each(|dot| *sum += weight * f64::from(softplus(scale * dot + bias)));
                });
            }
        }
        self.open.write(&mut self.conditional, |&sum| sum);
        Ok(())
    }

    /// `sum over terms of weight * (sum_j softplus(logits_xj) - logits_xx)`, as `softplus(a) - a = softplus(-a)`.
    fn row_sums(&mut self) -> Result<Option<Vec<f32>>, InputError> {
        if !self.open.is_full() {
            return Ok(None);
        }
        let mut sums: Vec<(Candidate, f64)> = self.open.as_mut_slice().iter().map(|(x, _)| (*x, 0.0)).collect();
        let all: Vec<Candidate> = sums.iter().map(|(x, _)| *x).collect();
        for (weight, e) in self.terms.iter() {
            let (scale, bias) = (e.logit_scale, e.logit_bias);
            for texts in all.chunks(ROW_SUM_TEXTS) {
                let packed = PackedRows::gather(e.text, e.width, texts);
                cross(e.image, &mut sums, &packed, self.threads, |sum, dots| {
                    dots.iter().for_each(|dot| *sum += weight * f64::from(softplus(scale * dot + bias)));
                });
            }
            for ((_, sum), cosine) in sums.iter_mut().zip(e.own_cosines()) {
                *sum -= weight * (f64::from(scale) * cosine + f64::from(bias));
            }
        }
        Ok(Some(sums.into_iter().map(|(_, sum)| sum as f32).collect()))
    }
}

/// `ln(1 + exp(x))`, stable at both ends.
fn softplus(x: f32) -> f32 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

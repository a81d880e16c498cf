//! The oracle: the whole score matrix, in f64.

use super::open::OpenCandidates;
use crate::embeddings::dot;
use crate::{Candidate, ConditionalScores, InputError, ScoreTerms};

/// Conditional scores of the sigmoid objective from the full matrix `S`, for tests and toys: `8 B^2` bytes.
///
/// `S_ij = sum over terms of weight * softplus(-z_ij * logits_ij)`, z = +1 on the diagonal, -1 elsewhere.
///
/// # Source
/// Paper, algorithms 1 and 2.
#[derive(Debug, Clone)]
pub struct DenseScores {
    /// `[B, B]`
    s: Vec<f64>,
    /// Sums in f64, of every candidate, picked or not. `[B]`
    sums: Vec<f64>,
    conditional: Vec<f32>,
    open: OpenCandidates<()>,
}

impl DenseScores {
    /// The score matrix of `terms`.
    pub fn new(terms: &ScoreTerms<'_>) -> Self {
        let super_batch = terms.super_batch();
        let mut s = vec![0.0; super_batch * super_batch];
        for (weight, e) in terms.iter() {
            for (i, image) in e.image.chunks_exact(e.width).enumerate() {
                for (j, text) in e.text.chunks_exact(e.width).enumerate() {
                    let z = if i == j { 1.0 } else { -1.0 };
                    let logit = f64::from(e.logit_scale) * dot(image, text) + f64::from(e.logit_bias);
                    s[i * super_batch + j] += weight * softplus(-z * logit);
                }
            }
        }
        Self::start(s, super_batch)
    }

    /// Any score matrix, row-major. `[B, B]`
    ///
    /// # Errors
    /// `Length` if `s` does not hold `B * B` values.
    pub fn from_matrix(s: Vec<f64>, super_batch: usize) -> Result<Self, InputError> {
        if s.len() != super_batch * super_batch {
            let (expected, got) = (super_batch * super_batch, s.len());
            return Err(InputError::Length { what: "score matrix", expected, got });
        }
        Ok(Self::start(s, super_batch))
    }

    fn start(s: Vec<f64>, super_batch: usize) -> Self {
        let sums: Vec<f64> = s.iter().step_by(super_batch + 1).copied().collect();
        let conditional = sums.iter().map(|&sum| sum as f32).collect();
        Self { s, sums, conditional, open: OpenCandidates::new(std::iter::repeat_n((), super_batch)) }
    }

    /// `S_ij`, the score of image i beside text j.
    pub fn score(&self, i: Candidate, j: Candidate) -> f64 {
        self.s[i.index() * self.sums.len() + j.index()]
    }

    /// `sum over i and j in batch of S_ij`: the score of the batch, times its size.
    pub fn total(&self, batch: &[Candidate]) -> f64 {
        batch.iter().flat_map(|&i| batch.iter().map(move |&j| (i, j))).map(|(i, j)| self.score(i, j)).sum()
    }
}

impl ConditionalScores for DenseScores {
    type Error = InputError;

    fn conditional(&self) -> &[f32] {
        &self.conditional
    }

    fn condition_on(&mut self, chunk: &[Candidate]) -> Result<(), InputError> {
        self.open.close(chunk)?;
        chunk.iter().for_each(|&k| self.add(k, 1.0));
        Ok(())
    }

    fn take_back(&mut self, candidate: Candidate) -> Result<bool, InputError> {
        self.open.reopen(candidate, ())?;
        self.add(candidate, -1.0);
        Ok(true)
    }

    fn row_sums(&mut self) -> Result<Option<Vec<f32>>, InputError> {
        let rows = self.s.chunks_exact(self.sums.len());
        Ok(Some(rows.map(|row| row.iter().sum::<f64>() as f32).collect()))
    }
}

impl DenseScores {
    /// Adds `sign * (S_xk + S_kx)` to every x.
    fn add(&mut self, k: Candidate, sign: f64) {
        let super_batch = self.sums.len();
        let row = &self.s[k.index() * super_batch..][..super_batch];
        for (x, (sum, s_kx)) in self.sums.iter_mut().zip(row).enumerate() {
            *sum += sign * (s_kx + self.s[x * super_batch + k.index()]);
            self.conditional[x] = *sum as f32;
        }
    }
}

/// `ln(1 + exp(x))`, stable at both ends.
fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

#[cfg(test)]
mod tests {
    use super::softplus;

    #[test]
    fn softplus_at_both_ends() {
        for (x, expected) in [(0.0, std::f64::consts::LN_2), (800.0, 800.0), (-800.0, 0.0), (-40.0, (-40.0f64).exp())] {
            assert!((softplus(x) - expected).abs() <= 1e-15 * expected, "{x}");
        }
    }
}

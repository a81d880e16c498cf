//! Conditional scores of the softmax objective, from embeddings.

use std::num::NonZeroUsize;

use super::open::OpenCandidates;
use super::tile::{PackedRows, cross};
use crate::{Candidate, ConditionalScores, InputError, ScoreTerms};

/// Conditional scores of the softmax objective, with running log-sum-exps in place of sums.
///
/// `sum over terms of weight * (-logits_xx + (LSE_k logits_xk + LSE_k logits_kx) / 2)` over picked k; before the first
/// draw `-weight * logits_xx`. A candidate's own pair is not in its denominator, and logit_bias is not read: it would
/// cancel. Memory and threads are as in [`StreamingScores`](crate::StreamingScores).
///
/// # Source
/// Paper, algorithm 3, with the reference's logits where the print repeats the learner's.
#[derive(Debug, Clone)]
pub struct SoftmaxScores<'a> {
    terms: ScoreTerms<'a>,
    open: OpenCandidates<State>,
    conditional: Vec<f32>,
    threads: NonZeroUsize,
}

/// What is kept for a candidate: its own pair's part, and `[term][direction]` log-sum-exps.
#[derive(Debug, Clone, Copy, Default)]
struct State {
    own: f64,
    others: [[LogSumExp; 2]; 2],
}

impl<'a> SoftmaxScores<'a> {
    /// Scores before the first draw.
    pub fn new(terms: ScoreTerms<'a>, threads: NonZeroUsize) -> Self {
        let mut states = vec![State::default(); terms.super_batch()];
        for (weight, e) in terms.iter() {
            for (state, cosine) in states.iter_mut().zip(e.own_cosines()) {
                state.own -= weight * f64::from(e.logit_scale) * cosine;
            }
        }
        let conditional = states.iter().map(|state| state.own as f32).collect();
        Self { terms, open: OpenCandidates::new(states.into_iter()), conditional, threads }
    }
}

impl ConditionalScores for SoftmaxScores<'_> {
    type Error = InputError;

    fn conditional(&self) -> &[f32] {
        &self.conditional
    }

    fn condition_on(&mut self, chunk: &[Candidate]) -> Result<(), InputError> {
        // The log-sum-exp over nothing would be -inf.
        if chunk.is_empty() {
            return Ok(());
        }
        self.open.close(chunk)?;
        for (term, (_, e)) in self.terms.iter().enumerate() {
            for (direction, (own, other)) in [(e.image, e.text), (e.text, e.image)].into_iter().enumerate() {
                let packed = PackedRows::gather(other, e.width, chunk);
                let scale = e.logit_scale;
                cross(own, self.open.as_mut_slice(), &packed, self.threads, |state, dot| {
                    state.others[term][direction].add(scale * dot);
                });
            }
        }
        self.open.write(&mut self.conditional, |state| {
            let denominators = self.terms.iter().zip(state.others);
            let sum: f64 = denominators.map(|((weight, _), [a, b])| weight * 0.5 * (a.value() + b.value())).sum();
            state.own + sum
        });
        Ok(())
    }
}

/// `ln sum exp(x)` over the values added so far, as their maximum and the sum relative to it.
#[derive(Debug, Clone, Copy)]
struct LogSumExp {
    max: f32,
    sum: f64,
}

impl Default for LogSumExp {
    fn default() -> Self {
        Self { max: f32::NEG_INFINITY, sum: 0.0 }
    }
}

impl LogSumExp {
    fn add(&mut self, x: f32) {
        if x <= self.max {
            self.sum += f64::from((x - self.max).exp());
        } else {
            self.sum = self.sum * f64::from((self.max - x).exp()) + 1.0;
            self.max = x;
        }
    }

    fn value(self) -> f64 {
        f64::from(self.max) + self.sum.ln()
    }
}

#[cfg(test)]
mod tests {
    use super::LogSumExp;

    #[test]
    fn log_sum_exp_in_any_order() {
        for values in [[100.0, 0.0, -100.0], [-100.0, 0.0, 100.0], [99.0, 100.0, 98.0], [1.0, 1.0, 1.0]] {
            let mut lse = LogSumExp::default();
            values.iter().for_each(|&x| lse.add(x));
            let max = values.iter().fold(f32::MIN, |a, &b| a.max(b));
            let expected = f64::from(max) + values.iter().map(|&x| f64::from(x - max).exp()).sum::<f64>().ln();
            assert!((lse.value() - expected).abs() < 1e-7, "{values:?}: {} is not {expected}", lse.value());
        }
    }
}

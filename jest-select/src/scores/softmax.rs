//! Conditional scores of the softmax objective, from embeddings.

use std::num::NonZeroUsize;

use super::open::OpenCandidates;
use super::tile::{PackedRows, cross};
use crate::{Candidate, ConditionalScores, InputError, ScoreTerms};

/// Others gathered at once for row sums.
const ROW_SUM_OTHERS: usize = 2_048;

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
#[derive(Debug, Clone)]
struct State {
    own: f64,
    others: Vec<[LogSumExp; 2]>,
}

impl<'a> SoftmaxScores<'a> {
    /// Scores before the first draw.
    pub fn new(terms: ScoreTerms<'a>, threads: NonZeroUsize) -> Self {
        let others = vec![[LogSumExp::default(); 2]; terms.iter().count()];
        let mut states = vec![State { own: 0.0, others }; terms.super_batch()];
        for (weight, e) in terms.iter() {
            for (state, cosine) in states.iter_mut().zip(e.own_cosines()) {
                state.own -= weight * f64::from(e.logit_scale) * cosine;
            }
        }
        let conditional = states.iter().map(|state| state.own as f32).collect();
        Self { terms, open: OpenCandidates::new(states.into_iter()), conditional, threads }
    }
}

impl SoftmaxScores<'_> {
    /// Adds a chunk to the log-sum-exps of these candidates.
    fn add(&self, states: &mut [(Candidate, State)], chunk: &[Candidate]) {
        for (term, (_, e)) in self.terms.iter().enumerate() {
            for (direction, (own, other)) in [(e.image, e.text), (e.text, e.image)].into_iter().enumerate() {
                let packed = PackedRows::gather(other, e.width, chunk);
                let scale = e.logit_scale;
                cross(own, states, &packed, self.threads, |state, dots| {
                    state.others[term][direction].add(scale, dots);
                });
            }
        }
    }
}

/// Own pair and denominators of a candidate.
fn score(terms: &ScoreTerms<'_>, state: &State) -> f64 {
    let denominators = terms.iter().zip(&state.others);
    let sum: f64 = denominators.map(|((weight, _), [a, b])| weight * 0.5 * (a.value() + b.value())).sum();
    state.own + sum
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
        let mut states = std::mem::take(self.open.as_mut_vec());
        self.add(&mut states, chunk);
        *self.open.as_mut_vec() = states;
        let Self { open, conditional, terms, .. } = self;
        open.write(conditional, |state| score(terms, state));
        Ok(())
    }

    /// `sum over terms of weight * (-logits_xx + (LSE_j logits_xj + LSE_j logits_jx) / 2)`, j over all: equation 1.
    fn row_sums(&mut self) -> Result<Option<Vec<f32>>, InputError> {
        if !self.open.is_full() {
            return Ok(None);
        }
        let mut states: Vec<(Candidate, State)> = self.open.as_mut_slice().to_vec();
        let all: Vec<Candidate> = states.iter().map(|(x, _)| *x).collect();
        for chunk in all.chunks(ROW_SUM_OTHERS) {
            self.add(&mut states, chunk);
        }
        Ok(Some(states.iter().map(|(_, state)| score(&self.terms, state) as f32).collect()))
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
    /// Adds `scale * dot` of each; scale is positive, dots are finite.
    fn add(&mut self, scale: f32, dots: &[f32]) {
        let max = scale * dots.iter().fold(f32::NEG_INFINITY, |max, &dot| max.max(dot));
        if max > self.max {
            self.sum *= f64::from((self.max - max).exp());
            self.max = max;
        }
        self.sum += dots.iter().map(|dot| f64::from((scale * dot - self.max).exp())).sum::<f64>();
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
            values.iter().for_each(|&x| lse.add(1.0, &[x]));
            let mut at_once = LogSumExp::default();
            at_once.add(2.0, &values.map(|x| x / 2.0));
            assert!((lse.value() - at_once.value()).abs() < 1e-6, "{values:?}");
            let max = values.iter().fold(f32::MIN, |a, &b| a.max(b));
            let expected = f64::from(max) + values.iter().map(|&x| f64::from(x - max).exp()).sum::<f64>().ln();
            assert!((lse.value() - expected).abs() < 1e-7, "{values:?}: {} is not {expected}", lse.value());
        }
    }
}

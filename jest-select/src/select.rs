//! Joint example selection, the algorithm.

use crate::{BatchPlan, Candidate, Noise, SelectError, SubBatch};

/// Score of adding each candidate to what is drawn so far; before the first draw `S_xx`.
///
/// The sums below are the sigmoid objective's. Softmax merges log-sum-exps instead: see
/// [`SoftmaxScores`](crate::SoftmaxScores).
pub trait ConditionalScores {
    /// Why conditioning can fail; a device's error, for example.
    type Error;

    /// `S_xx + sum over picked k of (S_xk + S_kx)`, for each candidate x. `[B]`
    ///
    /// Values of candidates that are picked already mean nothing, and are not read.
    ///
    /// # Units
    /// Not scaled: the plan's gain is applied at the draw.
    fn conditional(&self) -> &[f32];

    /// Adds `sum over k in chunk of (S_xk + S_kx)` to the conditional of each candidate x that is not picked.
    ///
    /// # Errors
    /// Whatever computing the sums can meet.
    fn condition_on(&mut self, chunk: &[Candidate]) -> Result<(), Self::Error>;

    /// Takes a picked candidate back: the inverse of conditioning on it. False where the scores cannot.
    ///
    /// # Errors
    /// Whatever computing the sums can meet.
    fn take_back(&mut self, _candidate: Candidate) -> Result<bool, Self::Error> {
        Ok(false)
    }

    /// Before the first draw, the score of each candidate among all: `sum_j S_xj`, j over the whole super-batch.
    /// `None` where the scores have no pairs. `[B]`
    ///
    /// # Errors
    /// Whatever computing the sums can meet.
    fn row_sums(&mut self) -> Result<Option<Vec<f32>>, Self::Error> {
        Ok(None)
    }
}

/// Joint example selection: draws N chunks without replacement, each candidate with `p ~ exp(gain * conditional)`.
///
/// Within a chunk the draw is the top c of `gain * conditional + noise` (Gumbel-top-k), which has the same law as
/// drawing one by one from the softmax, and never forms an exponential. Infinite gain leaves the noise out, gain 0 the
/// scores. Ties go to the lower index. Nothing is conditioned on the last chunk.
///
/// # Errors
/// `NonFinite` if the score of a candidate that could be drawn is NaN, +inf or -inf; `ScoreCount` if there are not B
/// scores; `Scores` if conditioning fails.
///
/// # Source
/// Paper, algorithm 1.
pub fn select<S, G>(scores: &mut S, plan: &BatchPlan, noise: &G) -> Result<SubBatch, SelectError<S::Error>>
where
    S: ConditionalScores + ?Sized,
    G: Noise + ?Sized,
{
    let (super_batch, got) = (plan.super_batch(), scores.conditional().len());
    if got != super_batch {
        return Err(SelectError::ScoreCount { super_batch, got });
    }
    let mut draw = Draw::new(super_batch);
    let mut picked = Vec::with_capacity(plan.sub_batch());
    for chunk in 0..plan.chunks() {
        let conditional = scores.conditional();
        let drawn = draw.top_k(plan.chunk_size(), |candidate| {
            let score = conditional[candidate.index()];
            if !score.is_finite() {
                return Err(SelectError::NonFinite { candidate, score, chunk });
            }
            Ok(key(score, plan.gain(), || noise.at(chunk, candidate)))
        })?;
        if chunk + 1 < plan.chunks() {
            scores.condition_on(&drawn).map_err(|source| SelectError::Scores { chunk, source })?;
        }
        picked.extend(drawn);
    }
    Ok(SubBatch::from_draw(picked, plan.chunk_size()))
}

/// `gain * score + noise`, and the score alone at infinite gain. In f64, where the product cannot overflow.
pub(crate) fn key(score: f32, gain: f32, noise: impl Fn() -> f32) -> f64 {
    if gain == f32::INFINITY { f64::from(score) } else { f64::from(gain) * f64::from(score) + f64::from(noise()) }
}

/// A draw without replacement from B candidates.
pub(crate) struct Draw {
    /// Whether a candidate has been drawn. `[B]`
    taken: Vec<bool>,
}

impl Draw {
    /// A draw in which all of `super_batch` candidates are open. The plan has checked that `u32` counts them.
    pub(crate) fn new(super_batch: usize) -> Self {
        Self { taken: vec![false; super_batch] }
    }

    /// A draw from those that are not marked as taken. `[B]`
    pub(crate) fn without(taken: &[bool]) -> Self {
        Self { taken: taken.to_vec() }
    }

    /// Takes the k open candidates with the largest keys, largest first, ties to the lower index. O(B + k log k).
    ///
    /// # Errors
    /// The error of the lowest candidate whose key has one. Keys are finite, and at least k candidates are open.
    pub(crate) fn top_k<E>(
        &mut self,
        k: usize,
        key: impl Fn(Candidate) -> Result<f64, E>,
    ) -> Result<Vec<Candidate>, E> {
        let mut keyed = Vec::with_capacity(self.taken.len());
        for candidate in (0u32..).zip(&self.taken).filter(|&(_, &taken)| !taken).map(|(index, _)| Candidate::new(index))
        {
            // Adding 0 makes -0 and +0 tie.
            keyed.push((key(candidate)? + 0.0, candidate));
        }
        let best_first = |a: &(f64, Candidate), b: &(f64, Candidate)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
        if k < keyed.len() {
            keyed.select_nth_unstable_by(k, best_first);
            keyed.truncate(k);
        }
        keyed.sort_unstable_by(best_first);
        for (_, candidate) in &keyed {
            self.taken[candidate.index()] = true;
        }
        Ok(keyed.into_iter().map(|(_, candidate)| candidate).collect())
    }
}

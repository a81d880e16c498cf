//! Joint selection and the baselines it is compared with, behind one call.

use std::{convert::Infallible, fmt, str::FromStr};

use crate::gibbs::gibbs;
use crate::select::{Draw, select};
use crate::{BatchPlan, ConditionalScores, InputError, Noise, SelectError, SubBatch};

/// How the sub-batch is chosen from the super-batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Method {
    /// In chunks, each conditioned on those before: [`select`].
    #[default]
    Joint,
    /// One draw of b in proportion to `exp(gain * S_xx)`: joint selection with N = 1.
    ///
    /// The paper does not spell out its scalar; [`IndependentRowSum`](Self::IndependentRowSum) is the other reading.
    Independent,
    /// One draw of b in proportion to `exp(gain * sum_j S_xj)`: the loss of an example inside its super-batch.
    IndependentRowSum,
    /// The b largest `S_xx`, ties to the lower index: `Independent` without noise.
    TopK,
    /// Single-site Gibbs sampling of whole batches: brute force, for small B. Reads [`Selection::with_gibbs_steps`].
    Gibbs,
    /// The b largest of a scalar an example, learner loss minus cached reference loss: RHO-LOSS.
    Rho,
    /// By the cosine of each pair under the reference: the b largest, or those that reach a threshold.
    ClipScore,
    /// Greedily by tags, so that concepts are balanced: [`ConceptScores`](crate::ConceptScores).
    Cabs,
    /// b candidates at random. Needs no scores: see [`pick_uniform`].
    Uniform,
}

/// What a method reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reads {
    /// Losses of learner and reference, as the kind of score weighs them.
    Scores,
    /// Losses of pairs alone, of learner and reference.
    Losses,
    /// Cosines of pairs alone, of the reference.
    Cosines,
    /// Tags of the examples.
    Tags,
    /// Nothing.
    Nothing,
}

impl Method {
    /// Every method, in the order of the variants.
    pub const ALL: [Self; 9] = [
        Self::Joint,
        Self::Independent,
        Self::IndependentRowSum,
        Self::TopK,
        Self::Gibbs,
        Self::Rho,
        Self::ClipScore,
        Self::Cabs,
        Self::Uniform,
    ];

    /// What a pick reads.
    pub fn reads(self) -> Reads {
        match self {
            Self::Joint | Self::Independent | Self::IndependentRowSum | Self::TopK | Self::Gibbs => Reads::Scores,
            Self::Rho => Reads::Losses,
            Self::ClipScore => Reads::Cosines,
            Self::Cabs => Reads::Tags,
            Self::Uniform => Reads::Nothing,
        }
    }

    /// Whether the draw is in chunks of the plan. Elsewhere N is 1.
    pub fn in_chunks(self) -> bool {
        self == Self::Joint
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Joint => "joint",
            Self::Independent => "independent",
            Self::IndependentRowSum => "independent_row_sum",
            Self::TopK => "top_k",
            Self::Gibbs => "gibbs",
            Self::Rho => "rho",
            Self::ClipScore => "clip_score",
            Self::Cabs => "cabs",
            Self::Uniform => "uniform",
        })
    }
}

impl FromStr for Method {
    type Err = InputError;

    fn from_str(word: &str) -> Result<Self, InputError> {
        // Other tools write these words with hyphens.
        let spelt = word.replace('-', "_");
        let known = Self::ALL.into_iter().find(|method| method.to_string() == spelt);
        known.ok_or_else(|| InputError::UnknownWord {
            what: "selection method",
            got: word.to_owned(),
            expected: "joint, independent, independent_row_sum, top_k, gibbs, rho, clip_score, cabs, uniform",
        })
    }
}

/// A method, the sizes it works on, and what only some methods read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Selection {
    method: Method,
    plan: BatchPlan,
    gibbs_steps: usize,
    threshold: Option<f32>,
}

impl Selection {
    /// Selection by `method` of the sizes of `plan`, with `8 b` steps of Gibbs sampling and no threshold.
    ///
    /// `Joint`, `Independent`, `IndependentRowSum` and `Gibbs` read the plan's gain, the others do not.
    pub fn new(method: Method, plan: BatchPlan) -> Self {
        Self { method, plan, gibbs_steps: 8 * plan.sub_batch(), threshold: None }
    }

    /// The same selection with so many exchanges of a member by `Gibbs`.
    pub fn with_gibbs_steps(self, gibbs_steps: usize) -> Self {
        Self { gibbs_steps, ..self }
    }

    /// The same selection where `ClipScore` draws at random among the candidates that score `threshold` or more.
    pub fn with_threshold(self, threshold: f32) -> Self {
        Self { threshold: Some(threshold), ..self }
    }

    /// How the sub-batch is chosen.
    pub fn method(&self) -> Method {
        self.method
    }

    /// The sizes and the gain.
    pub fn plan(&self) -> &BatchPlan {
        &self.plan
    }

    /// The sub-batch that the method picks: N chunks where it is joint, b where it is `Cabs`, otherwise one chunk of b.
    ///
    /// `scores` are what the method [`reads`](Method::reads): for `Rho` and `ClipScore`
    /// [`FixedScores`](crate::FixedScores), for `Cabs` [`ConceptScores`](crate::ConceptScores).
    ///
    /// # Errors
    /// Those of [`select`]; `Unsupported` where the scores lack what the method needs; `TooFewValid` where fewer than b
    /// reach the threshold; none where the method is uniform, which reads no score.
    pub fn pick<S, G>(&self, scores: &mut S, noise: &G) -> Result<SubBatch, SelectError<S::Error>>
    where
        S: ConditionalScores + ?Sized,
        G: Noise + ?Sized,
    {
        let best = self.plan.in_one_chunk().without_noise();
        match self.method {
            Method::Joint => select(scores, &self.plan, noise),
            Method::Independent => select(scores, &self.plan.in_one_chunk(), noise),
            Method::IndependentRowSum => {
                let sums = scores.row_sums().map_err(|source| SelectError::Scores { chunk: 0, source })?;
                let method = self.method;
                let sums = sums.ok_or(SelectError::Unsupported { method, needs: "scores of pairs" })?;
                draw_once(&sums, &self.plan, noise)
            }
            Method::Gibbs => gibbs(scores, &self.plan, self.gibbs_steps, noise),
            Method::Cabs => select(scores, &self.plan.one_at_a_time().without_noise(), noise),
            Method::ClipScore if self.threshold.is_some() => self.pick_valid(scores.conditional(), noise),
            Method::TopK | Method::Rho | Method::ClipScore => select(scores, &best, noise),
            Method::Uniform => Ok(pick_uniform(&self.plan, noise)),
        }
    }

    /// b at random of those that reach the threshold. A score that is NaN reaches none.
    fn pick_valid<E, G: Noise + ?Sized>(&self, scores: &[f32], noise: &G) -> Result<SubBatch, SelectError<E>> {
        let (super_batch, sub_batch) = (self.plan.super_batch(), self.plan.sub_batch());
        if scores.len() != super_batch {
            return Err(SelectError::ScoreCount { super_batch, got: scores.len() });
        }
        let threshold = self.threshold.unwrap_or(f32::NEG_INFINITY);
        let reaches = |score: &f32| *score >= threshold;
        let left_out: Vec<bool> = scores.iter().map(|score| !reaches(score)).collect();
        let valid = left_out.iter().filter(|out| !**out).count();
        if valid < sub_batch {
            return Err(SelectError::TooFewValid { valid, super_batch, sub_batch, threshold });
        }
        let key = |candidate| Ok::<_, Infallible>(f64::from(noise.at(0, candidate)));
        let Ok(drawn) = Draw::without(&left_out).top_k(sub_batch, key);
        Ok(SubBatch::from_draw(drawn, sub_batch))
    }
}

/// One draw by scalars.
fn draw_once<E, G: Noise + ?Sized>(scores: &[f32], plan: &BatchPlan, noise: &G) -> Result<SubBatch, SelectError<E>> {
    struct Scalars<'a, E>(&'a [f32], std::marker::PhantomData<E>);
    impl<E> ConditionalScores for Scalars<'_, E> {
        type Error = E;
        fn conditional(&self) -> &[f32] {
            self.0
        }
        fn condition_on(&mut self, _: &[crate::Candidate]) -> Result<(), E> {
            Ok(())
        }
    }
    select(&mut Scalars(scores, std::marker::PhantomData), &plan.in_one_chunk(), noise)
}

/// b of B candidates at random, every subset as likely as any other, in one chunk. Reads no scores and no gain.
pub fn pick_uniform<G: Noise + ?Sized>(plan: &BatchPlan, noise: &G) -> SubBatch {
    let mut draw = Draw::new(plan.super_batch());
    let key = |candidate| Ok::<_, Infallible>(f64::from(noise.at(0, candidate)));
    let Ok(drawn) = draw.top_k(plan.sub_batch(), key);
    SubBatch::from_draw(drawn, plan.sub_batch())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        for (method, word, reads) in [
            (Method::Joint, "joint", Reads::Scores),
            (Method::Independent, "independent", Reads::Scores),
            (Method::IndependentRowSum, "independent_row_sum", Reads::Scores),
            (Method::TopK, "top_k", Reads::Scores),
            (Method::Gibbs, "gibbs", Reads::Scores),
            (Method::Rho, "rho", Reads::Losses),
            (Method::ClipScore, "clip_score", Reads::Cosines),
            (Method::Cabs, "cabs", Reads::Tags),
            (Method::Uniform, "uniform", Reads::Nothing),
        ] {
            assert_eq!(method.to_string(), word);
            assert_eq!(word.parse(), Ok(method));
            assert_eq!(word.replace('_', "-").parse(), Ok(method));
            assert_eq!(method.reads(), reads);
            assert!("Joint".parse::<Method>().unwrap_err().to_string().contains(word));
        }
    }
}

//! Joint selection and the baselines it is compared with, behind one call.

use std::{convert::Infallible, fmt, str::FromStr};

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
    /// The paper does not spell out its scalar. The other reading, a row sum of `S` over the super-batch, is not here.
    Independent,
    /// The b largest `S_xx`, ties to the lower index: `Independent` without noise.
    TopK,
    /// b candidates at random. Needs no scores: see [`pick_uniform`].
    Uniform,
}

impl Method {
    /// Whether a pick reads the scores. Where it does not, scoring can be left out.
    pub fn needs_scores(self) -> bool {
        self != Self::Uniform
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Joint => "joint",
            Self::Independent => "independent",
            Self::TopK => "top_k",
            Self::Uniform => "uniform",
        })
    }
}

impl FromStr for Method {
    type Err = InputError;

    fn from_str(word: &str) -> Result<Self, InputError> {
        match word {
            "joint" => Ok(Self::Joint),
            "independent" => Ok(Self::Independent),
            "top_k" => Ok(Self::TopK),
            "uniform" => Ok(Self::Uniform),
            _ => Err(InputError::UnknownWord {
                what: "selection method",
                got: word.to_owned(),
                expected: "joint, independent, top_k, uniform",
            }),
        }
    }
}

/// A method and the sizes it works on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Selection {
    method: Method,
    plan: BatchPlan,
}

impl Selection {
    /// Selection by `method` of the sizes of `plan`. Only `Joint` and `Independent` read the plan's gain.
    pub fn new(method: Method, plan: BatchPlan) -> Self {
        Self { method, plan }
    }

    /// How the sub-batch is chosen.
    pub fn method(&self) -> Method {
        self.method
    }

    /// The sizes and the gain.
    pub fn plan(&self) -> &BatchPlan {
        &self.plan
    }

    /// The sub-batch that the method picks: N chunks where it is joint, otherwise one chunk of b.
    ///
    /// # Errors
    /// Those of [`select`]; none where the method is uniform, which reads no score.
    pub fn pick<S, G>(&self, scores: &mut S, noise: &G) -> Result<SubBatch, SelectError<S::Error>>
    where
        S: ConditionalScores + ?Sized,
        G: Noise + ?Sized,
    {
        match self.method {
            Method::Joint => select(scores, &self.plan, noise),
            Method::Independent => select(scores, &self.plan.in_one_chunk(), noise),
            Method::TopK => select(scores, &self.plan.in_one_chunk().without_noise(), noise),
            Method::Uniform => Ok(pick_uniform(&self.plan, noise)),
        }
    }
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
        for (method, word) in [
            (Method::Joint, "joint"),
            (Method::Independent, "independent"),
            (Method::TopK, "top_k"),
            (Method::Uniform, "uniform"),
        ] {
            assert_eq!(method.to_string(), word);
            assert_eq!(word.parse(), Ok(method));
            assert_eq!(method.needs_scores(), word != "uniform");
        }
        assert!("Joint".parse::<Method>().is_err());
    }
}

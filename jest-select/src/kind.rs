//! What a score is made of: which losses, with which sign.

use std::{fmt, str::FromStr};

use crate::InputError;

/// `score = learner_weight * learner loss + reference_weight * reference loss`.
///
/// # Source
/// Paper §3.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ScoreKind {
    /// Learner loss minus reference loss: not learned yet, and learnable.
    #[default]
    Learnability,
    /// Minus the reference loss: what the reference finds easy. Needs no learner.
    EasyReference,
    /// The learner loss: what the learner finds hard. Needs no reference.
    HardLearner,
}

impl ScoreKind {
    /// Factor on the learner loss: 1, 0, 1 in the order of the variants.
    pub fn learner_weight(self) -> f32 {
        match self {
            Self::Learnability | Self::HardLearner => 1.0,
            Self::EasyReference => 0.0,
        }
    }

    /// Factor on the reference loss: -1, -1, 0 in the order of the variants.
    pub fn reference_weight(self) -> f32 {
        match self {
            Self::Learnability | Self::EasyReference => -1.0,
            Self::HardLearner => 0.0,
        }
    }
}

impl fmt::Display for ScoreKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Learnability => "learnability",
            Self::EasyReference => "easy_reference",
            Self::HardLearner => "hard_learner",
        })
    }
}

impl FromStr for ScoreKind {
    type Err = InputError;

    fn from_str(word: &str) -> Result<Self, InputError> {
        match word.replace('-', "_").as_str() {
            "learnability" => Ok(Self::Learnability),
            "easy_reference" => Ok(Self::EasyReference),
            "hard_learner" => Ok(Self::HardLearner),
            _ => Err(InputError::UnknownWord {
                what: "score kind",
                got: word.to_owned(),
                expected: "learnability, easy_reference, hard_learner",
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_weights() {
        for (kind, word, weights) in [
            (ScoreKind::Learnability, "learnability", (1.0, -1.0)),
            (ScoreKind::EasyReference, "easy_reference", (0.0, -1.0)),
            (ScoreKind::HardLearner, "hard_learner", (1.0, 0.0)),
        ] {
            assert_eq!(kind.to_string(), word);
            assert_eq!(word.parse(), Ok(kind));
            assert_eq!(word.replace('_', "-").parse(), Ok(kind));
            assert_eq!((kind.learner_weight(), kind.reference_weight()), weights);
        }
        let error = "rho".parse::<ScoreKind>().unwrap_err().to_string();
        assert_eq!(error, "unknown score kind `rho`; one of: learnability, easy_reference, hard_learner");
    }
}

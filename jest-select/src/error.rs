//! What can be wrong with a plan, with embeddings, and with a draw.

use crate::{Candidate, Method, ScoreKind};

/// A plan, a word, embeddings or a chunk that cannot be used as given.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum InputError {
    /// A size or a count that must be at least 1.
    #[error("{what} is 0; it must be at least 1")]
    Zero {
        /// Which size.
        what: &'static str,
    },
    /// More candidates than a 32-bit index can name.
    #[error("super-batch {super_batch} is too large; at most {} candidates", u32::MAX)]
    SuperBatchTooLarge {
        /// B, or infinity where the filter ratio asks for it.
        super_batch: f64,
    },
    /// More to select than there is to select from.
    #[error("sub-batch {sub_batch} is larger than super-batch {super_batch}; draw at least {sub_batch} candidates")]
    SubBatchTooLarge {
        /// B.
        super_batch: usize,
        /// b.
        sub_batch: usize,
    },
    /// Chunks would not all have the same size.
    #[error("sub-batch {sub_batch} is not divisible by {chunks} chunks; {}", nearest(*.super_batch, *.sub_batch, *.chunks))]
    NotDivisible {
        /// B.
        super_batch: usize,
        /// b.
        sub_batch: usize,
        /// N.
        chunks: usize,
    },
    /// A gain that is negative or NaN.
    #[error("gain {gain} is not usable; 0 draws uniformly, 1 is the default, inf takes the best")]
    Gain {
        /// The gain given.
        gain: f32,
    },
    /// A filter ratio outside `[0, 1)`.
    #[error("filter_ratio {filter_ratio} is outside [0, 1); 0.8 keeps one candidate in five")]
    FilterRatio {
        /// The ratio given.
        filter_ratio: f64,
    },
    /// A word that names no variant.
    #[error("unknown {what} `{got}`; one of: {expected}")]
    UnknownWord {
        /// What the word was to name.
        what: &'static str,
        /// The word given.
        got: String,
        /// The words that work.
        expected: &'static str,
    },
    /// Image and text, or learner and reference, disagree about the number of rows, or rows are cut short.
    #[error("{what} has {got} entries, expected {expected}: one whole row for each candidate")]
    Length {
        /// Which input.
        what: &'static str,
        /// Entries expected.
        expected: usize,
        /// Entries given.
        got: usize,
    },
    /// An embedding that is not of norm 1, or not finite.
    #[error("{side} row {row} has norm {norm}; divide each row by its norm, and check it for NaN")]
    NotUnit {
        /// `image` or `text`.
        side: &'static str,
        /// Index of the row.
        row: usize,
        /// The row's norm.
        norm: f32,
    },
    /// A logit_scale that is not positive and finite, or a logit_bias that is not finite.
    #[error(
        "{what} {value} is not usable; logit_scale is positive and finite (as used, not its log), logit_bias finite"
    )]
    LogitParameter {
        /// `logit_scale` or `logit_bias`.
        what: &'static str,
        /// The value given.
        value: f32,
    },
    /// The kind of score weighs a loss that was not given.
    #[error("score {kind} needs the loss of the {missing}; pass it, or choose another kind")]
    MissingLoss {
        /// The kind asked for.
        kind: ScoreKind,
        /// `learner` or `reference`.
        missing: &'static str,
    },
    /// A candidate outside the super-batch, or one that was conditioned on before.
    #[error("{candidate} cannot be conditioned on: it is outside super-batch {super_batch}, or was picked before")]
    Chunk {
        /// The candidate.
        candidate: Candidate,
        /// B.
        super_batch: usize,
    },
    /// A candidate outside the super-batch, or one that was not picked, to be taken back.
    #[error("{candidate} cannot be taken back: it is outside super-batch {super_batch}, or was not picked")]
    NotPicked {
        /// The candidate.
        candidate: Candidate,
        /// B.
        super_batch: usize,
    },
}

/// Why no sub-batch was drawn; `E` is the error of the scores.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SelectError<E> {
    /// A score is NaN or infinite; -inf too, which is not a way to exclude a candidate.
    #[error("{candidate} has score {score} in chunk {chunk}; check the embeddings and logit_scale for overflow or NaN")]
    NonFinite {
        /// The first such candidate.
        candidate: Candidate,
        /// Its conditional score.
        score: f32,
        /// Index of the chunk that was to be drawn.
        chunk: usize,
    },
    /// The scores are of another super-batch than the plan's.
    #[error("{got} scores for super-batch {super_batch}; build the plan and the scores from the same candidates")]
    ScoreCount {
        /// B of the plan.
        super_batch: usize,
        /// Length of the conditional scores.
        got: usize,
    },
    /// Fewer candidates reach the threshold than are to be picked.
    #[error(
        "{valid} of {super_batch} candidates score {threshold} or more, {sub_batch} are needed; lower the threshold or draw more"
    )]
    TooFewValid {
        /// Candidates that reach it.
        valid: usize,
        /// B.
        super_batch: usize,
        /// b.
        sub_batch: usize,
        /// The least score.
        threshold: f32,
    },
    /// The scores cannot give what the method reads.
    #[error("method {method} needs {needs}, which these scores do not have; use sigmoid scores, or another method")]
    Unsupported {
        /// The method.
        method: Method,
        /// What is missing.
        needs: &'static str,
    },
    /// The scores could not be conditioned on a chunk.
    #[error("scores could not be conditioned on chunk {chunk}")]
    Scores {
        /// Index of the chunk just drawn.
        chunk: usize,
        /// What went wrong.
        #[source]
        source: E,
    },
}

/// The multiples of `chunks` on either side of `sub_batch` that a plan accepts, in words.
fn nearest(super_batch: usize, sub_batch: usize, chunks: usize) -> String {
    let below = sub_batch - sub_batch % chunks;
    let above = below.saturating_add(chunks);
    match (below > 0, above <= super_batch) {
        (true, true) => format!("nearest: {below} or {above}"),
        (true, false) => format!("nearest: {below}"),
        (false, true) => format!("nearest: {above}"),
        (false, false) => format!("use at most {sub_batch} chunks"),
    }
}

//! Joint example selection: draws the sub-batch that a model learns most from out of a larger super-batch.
//!
//! A score matrix `S` over all pairs of candidates says how much a batch is worth: `sum_ij S_ij` over its members.
//! [`select`] draws a sub-batch in chunks, each candidate in proportion to `exp(gain * conditional)`, where the
//! conditional is what the candidate adds to what is drawn so far: `S_xx + sum_k (S_xk + S_kx)`.
//!
//! ```
//! use jest_select::{BatchPlan, Candidate, DenseScores, Gumbel, select};
//!
//! // Alone, candidates 0 and 1 score best; 2 is worth little alone, and much beside 0.
//! let s = [
//!     5.0, -9.0, 4.0, //
//!     0.0, 3.0, 0.0, //
//!     4.0, 0.0, 1.0,
//! ];
//! let mut scores = DenseScores::from_matrix(s.to_vec(), 3)?;
//! let plan = BatchPlan::new(3, 2, 2)?.with_gain(f32::INFINITY)?; // B = 3, b = 2, one candidate a chunk, no noise
//! let picked = select(&mut scores, &plan, &Gumbel::new(0, 0))?;
//! assert_eq!(picked.candidates(), [Candidate::new(0), Candidate::new(2)]);
//! assert_eq!(scores.total(picked.candidates()), 14.0); // 5 + 4 + 4 + 1; the two best alone, 0 and 1, are worth -1
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! In training the matrix is never stored. [`StreamingScores`] computes what each chunk adds from embeddings:
//!
//! ```
//! use std::num::NonZeroUsize;
//! use jest_select::{Embeddings, LearnerLoss, ReferenceLoss, ScoreKind, ScoreTerms};
//! use jest_select::{BatchPlan, Gumbel, Method, Selection, StreamingScores};
//!
//! // Four examples of width 2. The learner mistakes caption 3; the reference does not.
//! let image = [1.0, 0.0, 0.0, 1.0, -1.0, 0.0, 0.0, -1.0];
//! let mistaken = [1.0, 0.0, 0.0, 1.0, -1.0, 0.0, 0.0, 1.0];
//! let learner = LearnerLoss(Embeddings::new(&image, &mistaken, 2, 10.0, -5.0)?);
//! let reference = ReferenceLoss(Embeddings::new(&image, &image, 2, 10.0, -5.0)?);
//! let terms = ScoreTerms::new(ScoreKind::Learnability, Some(learner), Some(reference))?;
//! let mut scores = StreamingScores::new(terms, NonZeroUsize::MIN);
//!
//! let selection = Selection::new(Method::Joint, BatchPlan::new(4, 2, 2)?);
//! let picked = selection.pick(&mut scores, &Gumbel::new(7, 0))?;
//! assert_eq!(picked.candidates()[0].index(), 3); // 15 nats more learnable than the others
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Source
//! Evans, Parthasarathy, Merzic, Henaff: Data curation via joint example selection further accelerates multimodal
//! learning (arXiv 2406.17711), algorithms 1 and 3. Differences: sizes are integers that divide; the draw is by
//! Gumbel noise and never forms an exponential; no `B x B` matrix is stored; the first chunk, too, is drawn in
//! proportion to `exp(score)`; the gain is 1 unless asked for; algorithm 3 reads the reference where it is meant.

mod embeddings;
mod error;
mod gibbs;
mod kind;
mod method;
mod noise;
mod plan;
mod scores;
mod select;
mod sub_batch;

pub use embeddings::{Embeddings, LearnerLoss, ReferenceLoss, ScoreTerms};
pub use error::{InputError, SelectError};
pub use kind::ScoreKind;
pub use method::{Method, Reads, Selection, pick_uniform};
pub use noise::{Gumbel, Noise};
pub use plan::BatchPlan;
pub use scores::{ConceptScores, DenseScores, FixedScores, SoftmaxScores, StreamingScores};
pub use select::{ConditionalScores, select};
pub use sub_batch::{Candidate, SubBatch};

//! Where conditional scores come from: a matrix (the oracle), embeddings a tile at a time, scalars, or tags.

mod concepts;
mod dense;
mod fixed;
mod open;
mod softmax;
mod streaming;
mod tile;

pub use concepts::ConceptScores;
pub use dense::DenseScores;
pub use fixed::FixedScores;
pub use softmax::SoftmaxScores;
pub use streaming::StreamingScores;

//! Where conditional scores come from: a matrix (the oracle), or embeddings, a tile at a time.

mod dense;
mod open;
mod softmax;
mod streaming;
mod tile;

pub use dense::DenseScores;
pub use softmax::SoftmaxScores;
pub use streaming::StreamingScores;

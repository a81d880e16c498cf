//! Embeddings of a fixed model on disk, so that a reference scores every example once.

mod cache;
mod key;
mod part;

pub use cache::EmbeddingCache;
pub use key::CacheKey;

//! Embeddings of a fixed model on disk, so that a reference scores every example once.

mod cache;
mod key;
mod part;
mod shards;

pub use cache::EmbeddingCache;
pub use key::CacheKey;
pub use part::Precision;

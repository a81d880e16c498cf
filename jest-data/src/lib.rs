//! Image-text shards to decoded, tokenised super-batches, and a cache of reference embeddings.
//!
//! A [`Source`] lists tar shards as WebDataset and img2dataset write them. A [`Loader`] turns them into an endless, shuffled
//! stream of [`SuperBatch`]es that resumes exactly; [`read_all`] passes over them once, in order.
//!
//! ```
//! use jest_data::{Loader, LoaderConfig, LoaderState, Preprocess, Source, Tokenizer};
//! use std::{path::Path, sync::Arc};
//!
//! let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets/sample");
//! let sources = vec![Source::folder(&sample.join("train"))?];
//! let tokenizer = Arc::new(Tokenizer::open(&sample)?);
//! let config = LoaderConfig::new(sources, Preprocess::siglip(32), tokenizer, 16);
//!
//! let mut loader = Loader::new(config.clone(), LoaderState::default())?;
//! let first = loader.next_super_batch(256)?;
//! assert_eq!(first.pixels().len(), 256 * 3 * 32 * 32);
//! assert_eq!(first.tokens.len(), 256 * 16);
//!
//! // A checkpoint keeps the state; a loader started there goes on as if nothing had happened.
//! let state = loader.state();
//! let mut resumed = Loader::new(config, state)?;
//! assert_eq!(resumed.next_super_batch(256)?.ids, loader.next_super_batch(256)?.ids);
//! # Ok::<(), jest_data::DataError>(())
//! ```
//!
//! Shards come from anywhere, so every size is checked before memory is taken ([`Limits`]), and a sample that cannot be used is
//! left out and counted by reason ([`SkipReport`]) instead of ending the run. Every image is what Pillow and the SigLIP image
//! processor make of it, byte for byte where the decoder allows ([`Preprocess`]).
//!
//! ```
//! use jest_data::{CacheKey, EmbeddingCache, EvalTask, ExampleId};
//! # use std::path::Path;
//! # let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets/sample");
//! // Evaluation folders say what they ask.
//! let tasks = EvalTask::discover(&sample.join("eval"))?;
//! assert_eq!(tasks.len(), 3);
//!
//! // Embeddings of a reference are computed once and found by id.
//! # let temporary = tempfile::tempdir().expect("a temporary folder");
//! # let folder = temporary.path();
//! let key = CacheKey {
//!     model: "0123".into(), tokenizer: "4567".into(), preprocess: "89ab".into(),
//!     image_size: 32, text_tokens: 16, caption_bytes: 8192, dim: 2,
//! };
//! let mut cache = EmbeddingCache::open(folder, &key)?;
//! let id = ExampleId::new("train", "000000.tar", "000000001", 0);
//! cache.add(&[id], &[0.6, 0.8], &[1.0, 0.0], 0.0)?;
//! cache.flush()?;
//! assert_eq!(EmbeddingCache::open(folder, &key)?.get(&id), Some((&[0.6, 0.8][..], &[1.0, 0.0][..])));
//! # Ok::<(), jest_data::DataError>(())
//! ```

mod batch;
mod braces;
mod embeddings;
mod error;
mod eval;
mod example;
mod fields;
mod limits;
mod loader;
mod pixels;
mod remote;
mod shard;
mod skip;
mod source;
mod subset;
mod survey;
mod text;
mod writer;

pub use batch::SuperBatch;
pub use braces::expand_braces;
pub use embeddings::{CacheKey, EmbeddingCache, Precision};
pub use error::{DataError, Result};
pub use eval::{EvalKind, EvalTask};
pub use example::{BadExampleId, ExampleId};
pub use fields::Fields;
pub use limits::Limits;
pub use loader::{
    CaptionChoice, Captions, Loader, LoaderConfig, LoaderState, OtherCaption, ReadAll, Shuffle, read_all, read_captions,
};
pub use pixels::{Augmentation, Interpolation, Preprocess, ResizeMode, RgbImage, decode_rgb, resize};
pub use remote::RemoteOptions;
pub use skip::{Skip, SkipReason, SkipReport};
pub use source::{Shard, ShardStats, Source, SourceOptions};
pub use subset::Subset;
pub use survey::{PictureHeader, Surveyed, survey};
pub use text::{Canonicalize, Tokenizer, Tokens, train_tokenizer};
pub use writer::{ShardSize, ShardWriter};

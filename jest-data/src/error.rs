//! What can go wrong for a whole data set, as opposed to one sample of it ([`SkipReason`](crate::SkipReason)).

use std::io;
use std::path::{Path, PathBuf};

/// Shorthand for results of this crate.
pub type Result<T> = std::result::Result<T, DataError>;

/// An error of this crate: names the file, the value and the way out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// The operating system refused a file or folder.
    #[error("cannot {action} {path}", path = path.display())]
    Io {
        /// What was tried: `read`, `write`, `list`, ...
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The operating system's answer.
        #[source]
        source: io::Error,
    },
    /// A source specification that cannot be understood or used.
    #[error("data source `{spec}`: {problem}")]
    Source {
        /// The specification as given.
        spec: String,
        /// What is wrong with it, and what to write instead.
        problem: &'static str,
    },
    /// A file that says what the examples are, and cannot be used.
    #[error("{path}: {problem}", path = path.display())]
    Table {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        problem: String,
    },
    /// Two sources would give the same ids to different examples.
    #[error(
        "shard `{shard}` appears twice under the source name `{name}`; write `othername=...` in front of one of them"
    )]
    SameShard {
        /// The name of the source.
        name: String,
        /// The name of the shard.
        shard: String,
    },
    /// A setting outside its range.
    #[error("{setting} = {value}: {problem}")]
    Setting {
        /// Name of the field.
        setting: &'static str,
        /// Its value.
        value: String,
        /// The range that is accepted.
        problem: &'static str,
    },
    /// A whole pass over the shards gave not a single usable example.
    #[error("no usable example in {shards} shards ({skips}); need shards of `.jpg|.jpeg|.png|.webp` + `.txt` members")]
    NoExamples {
        /// How many shards were listed.
        shards: usize,
        /// The reasons, counted.
        skips: String,
    },
    /// More shards are missing than the limit allows.
    #[error(
        "{missing} of {shards} shards are missing, more than the limit of {limit}; first: {first}; restore them or raise `max_missing_shards`"
    )]
    TooManyMissing {
        /// Shards that are not there.
        missing: u64,
        /// Shards listed.
        shards: usize,
        /// The limit.
        limit: u64,
        /// The first of them.
        first: String,
    },
    /// More samples were skipped than the limit allows.
    #[error(
        "{skipped} of {seen} samples skipped, more than the limit of {limit}: {skips}; repair the shards or raise `max_skipped_share`"
    )]
    TooManySkipped {
        /// Samples skipped so far.
        skipped: u64,
        /// Samples seen so far.
        seen: u64,
        /// The largest share accepted.
        limit: f64,
        /// The reasons, counted, with the first samples.
        skips: String,
    },
    /// Fewer distinct examples than a super-batch holds.
    #[error(
        "super-batch {super_batch} is larger than the data set: {distinct} distinct usable examples; take at most {distinct}"
    )]
    TooFewExamples {
        /// Distinct usable examples in one pass.
        distinct: usize,
        /// The size asked for.
        super_batch: usize,
    },
    /// The start of a loader belongs to other data or another order.
    #[error(
        "cannot resume the data order: {problem}; restore the data, seed and shuffle settings, or start from `LoaderState::default()`"
    )]
    Resume {
        /// What does not agree.
        problem: String,
    },
    /// A tokenizer that cannot be read, trained or applied.
    #[error("tokenizer: cannot {action}")]
    Tokenizer {
        /// What was tried.
        action: &'static str,
        /// The answer of the tokenizer library.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A `preprocessor_config.json` that asks for what is not done here.
    #[error("{path}: {problem}", path = path.display())]
    ImageProcessor {
        /// The file.
        path: PathBuf,
        /// What it asks for.
        problem: String,
    },
    /// A file of a tokenizer that cannot be used.
    #[error("{path}", path = path.display())]
    TokenizerFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: Box<DataError>,
    },
    /// An evaluation folder that does not describe a task.
    #[error("evaluation task {path}: {problem}", path = path.display())]
    EvalTask {
        /// The folder.
        path: PathBuf,
        /// What is missing or wrong.
        problem: String,
    },
    /// The embedding cache was made by something else.
    #[error("embedding cache {folder} was made with other settings: {differences}; use another folder or delete this one", folder = folder.display())]
    CacheKey {
        /// The folder of the cache.
        folder: PathBuf,
        /// `field: cached VALUE, wanted VALUE`, joined.
        differences: String,
    },
    /// A file of the embedding cache that cannot be trusted, or rows that must not enter it.
    #[error("embedding cache {path}: {problem}", path = path.display())]
    Cache {
        /// The part, or the folder.
        path: PathBuf,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// A worker thread ended without an answer.
    #[error(
        "a data worker thread stopped early; this is a defect, please report it with the shard that was being read"
    )]
    WorkerLost,
}

impl DataError {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DataError {
        let path = path.to_path_buf();
        move |source| DataError::Io { action, path, source }
    }
}

//! From a shard to raw samples: members of an archive grouped by key, rows, or files.

mod archive;
mod group;
mod open;
#[cfg(feature = "parquet")]
mod parquet;
mod rows;

pub(crate) use group::{Found, RawSample};
#[cfg(feature = "parquet")]
pub(crate) use parquet::count_rows;
pub(crate) use rows::{Beside, read_samples};

use crate::SkipReason;
use std::path::Path;

/// Why a shard cannot be read on, and from where.
#[derive(Debug)]
pub(crate) struct Broken {
    pub reason: SkipReason,
    pub detail: String,
    /// Whether the samples read so far are whole.
    pub between_members: bool,
}

impl Broken {
    pub(crate) fn new(reason: SkipReason, detail: impl Into<String>) -> Broken {
        Broken { reason, detail: detail.into(), between_members: false }
    }
}

/// Samples with a picture in a tar file, by the names of its members; as far as it can be read.
pub(crate) fn count_samples(path: &Path) -> u64 {
    open::open_to_skim(path).map_or(0, group::count_keys)
}

/// Rows of a Parquet file, which cannot be read without the feature.
#[cfg(not(feature = "parquet"))]
pub(crate) fn count_rows(_path: &Path) -> u64 {
    0
}

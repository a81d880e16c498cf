//! From a shard file to raw samples: archive, then grouping by key.

mod archive;
mod group;
mod open;

pub(crate) use group::{Found, RawSample, SampleReader};
pub(crate) use open::open_shard;

use crate::SkipReason;

/// Why a shard cannot be read on, and from where.
#[derive(Debug)]
pub(crate) struct Broken {
    pub reason: SkipReason,
    pub detail: String,
    /// Whether the samples read so far are whole.
    pub between_members: bool,
}

impl Broken {
    fn new(reason: SkipReason, detail: impl Into<String>) -> Broken {
        Broken { reason, detail: detail.into(), between_members: false }
    }
}

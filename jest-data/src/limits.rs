//! How much one hostile sample may cost.

use serde::{Deserialize, Serialize};

/// Limits that every sample is held to before memory is taken for it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// Largest member of a shard, in bytes; read from its header, before allocation.
    pub member_bytes: u64,
    /// Most pixels of an image, width times height; read from its header, before decoding.
    pub image_pixels: u64,
    /// Longest caption in bytes; what is longer is cut at a character and kept.
    pub caption_bytes: usize,
    /// Largest share of samples that may be skipped before the data set counts as unusable.
    pub max_skipped_share: f64,
    /// Samples seen before `max_skipped_share` is looked at.
    pub skip_check_after: u64,
    /// Shards that may be missing at the start; none for all but one.
    pub max_missing_shards: Option<u64>,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            member_bytes: 64 << 20,
            image_pixels: 25_000_000,
            caption_bytes: 8192,
            max_skipped_share: 0.5,
            skip_check_after: 1000,
            max_missing_shards: None,
        }
    }
}

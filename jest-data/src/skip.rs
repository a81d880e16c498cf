//! Why a sample or a shard was left out: counted by reason, the first few named.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $word:literal,)*) => {
        /// Why a sample, or the rest of a shard, was left out.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[non_exhaustive]
        pub enum SkipReason { $($(#[$doc])* #[serde(rename = $word)] $name,)* }

        impl SkipReason {
            /// The reason as one word, as logs and reports spell it.
            pub fn word(self) -> &'static str {
                match self { $(SkipReason::$name => $word,)* }
            }
        }
    };
}

reasons! {
    /// The shard cannot be opened.
    ShardMissing = "shard_missing",
    /// The shard is neither tar nor gzipped tar.
    ShardFormat = "shard_format",
    /// Other shards of the folder have img2dataset's `_stats.json`, this one has not; what is in it is used.
    ShardUnfinished = "shard_unfinished",
    /// The shard ends in the middle of a member, or before the end mark of the archive.
    TarTruncated = "tar_truncated",
    /// A header of the archive is not one; the rest of the shard is abandoned.
    TarDamaged = "tar_damaged",
    /// The gzip stream is broken; the rest of the shard is abandoned.
    GzDamaged = "gz_damaged",
    /// A Parquet file, or one of its pages, cannot be decoded; the rest of it is abandoned.
    ParquetDamaged = "parquet_damaged",
    /// The operating system failed to read on; the rest of the shard is abandoned.
    ReadError = "read_error",
    /// A member claims more bytes than the limit.
    MemberTooLarge = "member_too_large",
    /// Members of samples are interleaved, or one extension repeats within a key.
    WdsOrder = "wds_order",
    /// A row of a table has other columns than its header, or is no JSON object with a path and a text.
    BadRow = "bad_row",
    /// The file of a picture cannot be read.
    ImageMissing = "image_missing",
    /// No `.jpg`, `.jpeg`, `.png` or `.webp` member.
    NoImage = "no_image",
    /// No `.txt` member, or none of the keys of the `.json` member that were asked for holds a text.
    NoCaption = "no_caption",
    /// The caption has no token.
    EmptyCaption = "empty_caption",
    /// The caption is not UTF-8.
    CaptionNotUtf8 = "caption_not_utf8",
    /// The bytes of the image are in no format we read.
    UnknownFormat = "unknown_format",
    /// The image has more pixels than the limit, as its header says.
    ImageTooLarge = "image_too_large",
    /// The image is truncated or corrupt.
    DecodeError = "decode_error",
    /// The tokenizer refused the caption.
    TokenizeError = "tokenize_error",
    /// The label is absent, or not one of the task's classes.
    BadLabel = "bad_label",
}

impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// One thing that was left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skip {
    /// Why.
    pub reason: SkipReason,
    /// Name of the source.
    #[serde(with = "shared_text")]
    pub source: Arc<str>,
    /// Name of the shard within the source.
    #[serde(with = "shared_text")]
    pub shard: Arc<str>,
    /// Key of the sample; none where the shard itself is meant.
    pub key: Option<String>,
    /// Numbers: byte offset, sizes, the decoder's words.
    pub detail: String,
}

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}/{}", self.reason, self.source, self.shard)?;
        if let Some(key) = &self.key {
            write!(f, " at `{key}`")?;
        }
        if self.detail.is_empty() { Ok(()) } else { write!(f, " ({})", self.detail) }
    }
}

/// An `Arc<str>` as a plain text.
mod shared_text {
    use super::{Arc, Deserialize};
    use serde::{Deserializer, Serializer};

    pub fn serialize<S: Serializer>(text: &Arc<str>, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(text)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Arc<str>, D::Error> {
        String::deserialize(from).map(Arc::from)
    }
}

/// Counts of what was kept and what was left out, and the first few of each reason.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkipReport {
    kept: u64,
    counts: BTreeMap<SkipReason, u64>,
    first: Vec<Skip>,
}

impl SkipReport {
    /// How many of each reason are named in [`first`](Self::first).
    pub const NAMED: u64 = 3;

    pub(crate) fn keep(&mut self) {
        self.kept += 1;
    }

    /// Counts one more, and names it if it is among the first of its reason.
    pub fn add(&mut self, skip: &Skip) {
        let count = self.counts.entry(skip.reason).or_default();
        *count += 1;
        if *count <= Self::NAMED {
            self.first.push(skip.clone());
        }
    }

    /// Examples delivered.
    pub fn kept(&self) -> u64 {
        self.kept
    }

    /// Everything left out, all reasons together.
    pub fn skipped(&self) -> u64 {
        self.counts.values().sum()
    }

    /// How often one reason occurred.
    pub fn count(&self, reason: SkipReason) -> u64 {
        self.counts.get(&reason).copied().unwrap_or(0)
    }

    /// The reasons that occurred, with their counts.
    pub fn counts(&self) -> impl Iterator<Item = (SkipReason, u64)> + '_ {
        self.counts.iter().map(|(reason, count)| (*reason, *count))
    }

    /// The first [`NAMED`](Self::NAMED) of each reason, in order of occurrence.
    pub fn first(&self) -> &[Skip] {
        &self.first
    }
}

impl fmt::Display for SkipReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} kept, {} skipped", self.kept, self.skipped())?;
        for (i, (reason, count)) in self.counts.iter().enumerate() {
            write!(f, "{}{reason} {count}", if i == 0 { ": " } else { ", " })?;
        }
        match self.first.first() {
            Some(skip) => write!(f, "; first: {skip}"),
            None => Ok(()),
        }
    }
}

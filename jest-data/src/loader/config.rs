//! What a loader reads, and how.

use super::stream::Shared;
use crate::example::{Needs, Recipe};
use crate::source::check_distinct;
use crate::{DataError, Fields, Limits, Preprocess, Result, SkipReason, SkipReport, Source, Subset, Tokenizer};
use std::sync::Arc;

/// How far samples are mixed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Shuffle {
    /// Whether shards are visited in a new random order each epoch.
    pub shards: bool,
    /// Samples held back and given out in random order; 0 keeps the order within shards. Costs their file sizes in memory.
    pub buffer: usize,
}

impl Default for Shuffle {
    fn default() -> Shuffle {
        Shuffle { shards: true, buffer: 5000 }
    }
}

/// Which of several captions an example has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CaptionChoice {
    /// The first that can be used.
    #[default]
    First,
    /// One drawn anew each epoch. Each caption of a picture makes an example with an id of its own.
    Random,
}

/// Where captions are found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Captions {
    /// Which of several is used by a [`Loader`](crate::Loader); a single pass uses the first.
    pub choice: CaptionChoice,
    /// Keys of the `.json` member, by priority, that hold a text or a list of texts; empty for the `.txt` member.
    pub json_keys: Vec<String>,
}

/// What a loader reads, and how. Only `sources`, `seed`, `shuffle`, `captions`, `weights` and `limits` decide which examples come,
/// and in which order; `workers`, `prefetch` and `cache_bytes` only decide how fast.
#[derive(Clone, Debug)]
pub struct LoaderConfig {
    /// Where the shards are.
    pub sources: Vec<Source>,
    /// How images become pixels.
    pub preprocess: Preprocess,
    /// How captions become ids.
    pub tokenizer: Arc<Tokenizer>,
    /// Ids per caption.
    pub text_tokens: usize,
    /// Seed of the order.
    pub seed: u64,
    /// Threads that decode; one more reads.
    pub workers: usize,
    /// Samples being decoded or waiting for the consumer, at most. A super-batch is prepared while another is trained on only if
    /// this is at least its size; costs s * s * 3 bytes each.
    pub prefetch: usize,
    /// How far samples are mixed.
    pub shuffle: Shuffle,
    /// What one hostile sample may cost, and how many may be skipped.
    pub limits: Limits,
    /// Where captions are found, and which of several is used.
    pub captions: Captions,
    /// How often an example of each source comes, relative to the others; empty for equally often. An epoch has every example of
    /// the sources with the largest weight once, and of the others a share, drawn anew each epoch.
    pub weights: Vec<f64>,
    /// The only examples that are used, where it is given: those with a `uid` in their JSON, or an id, that it has.
    pub subset: Option<Arc<Subset>>,
    /// What the JSON of an example that is used says.
    pub fields: Fields,
    /// Memory for decoded samples, so that a small data set is decoded once; 0 is off.
    pub cache_bytes: u64,
}

impl LoaderConfig {
    /// The defaults: seed 0, two workers, 4,096 samples in flight, shards and 5,000 samples shuffled, 1 GiB of cache.
    pub fn new(
        sources: Vec<Source>,
        preprocess: Preprocess,
        tokenizer: Arc<Tokenizer>,
        text_tokens: usize,
    ) -> LoaderConfig {
        LoaderConfig {
            sources,
            preprocess,
            tokenizer,
            text_tokens,
            seed: 0,
            workers: 2,
            prefetch: 4096,
            shuffle: Shuffle::default(),
            limits: Limits::default(),
            captions: Captions::default(),
            weights: Vec::new(),
            subset: None,
            fields: Fields::default(),
            cache_bytes: 1 << 30,
        }
    }

    /// Refuses what no loader can read: a setting out of range, a shard that is there twice, no shard at all.
    ///
    /// # Errors
    /// `Setting`, `SameShard`; `NoExamples` if no shard is a file.
    pub fn check(&self) -> Result<()> {
        self.check_settings()?;
        let names: Vec<&str> = self.sources.iter().map(Source::name).collect();
        if let Some(source) = self.fields.unknown(&names) {
            let problem = "a condition asks it of a source that is none of the data's";
            return Err(DataError::Setting { setting: "where", value: source.to_string(), problem });
        }
        let shards = || self.sources.iter().flat_map(|source| source.shards());
        // The shards of a source share their options.
        self.sources
            .iter()
            .filter_map(|source| source.shards().first()?.remote())
            .try_for_each(|remote| remote.check())?;
        let missing: Vec<_> = shards().filter(|shard| !shard.exists()).collect();
        let (count, missing_count) = (shards().count(), missing.len() as u64);
        let first = || missing.first().map_or(String::new(), |shard| shard.path.display().to_string());
        if missing.len() == count {
            return Err(DataError::NoExamples { shards: count, skips: format!("none is a file; first: {}", first()) });
        }
        match self.limits.max_missing_shards {
            Some(limit) if missing_count > limit => {
                Err(DataError::TooManyMissing { missing: missing_count, shards: count, limit, first: first() })
            }
            _ => Ok(()),
        }
    }

    fn check_settings(&self) -> Result<()> {
        let within = |setting, value: usize, low: usize, high: usize, problem| {
            let bad = DataError::Setting { setting, value: value.to_string(), problem };
            if (low..=high).contains(&value) { Ok(()) } else { Err(bad) }
        };
        within("sources", self.sources.len(), 1, usize::MAX, "give at least one source")?;
        within("workers", self.workers, 1, 1024, "must be 1 to 1024")?;
        within("prefetch", self.prefetch, 1, 1 << 24, "must be 1 to 16777216")?;
        within("text_tokens", self.text_tokens, 1, 1 << 16, "must be 1 to 65536")?;
        within("preprocess.size", self.preprocess.size, 1, 1 << 13, "must be 1 to 8192")?;
        if !self.preprocess.std.iter().all(|std| std.is_normal()) {
            let value = format!("{:?}", self.preprocess.std);
            return Err(DataError::Setting {
                setting: "preprocess.std",
                value,
                problem: "must be finite and not zero",
            });
        }
        let positive = self.weights.iter().all(|weight| *weight > 0.0 && weight.is_finite());
        if !positive || !self.weights.is_empty() && self.weights.len() != self.sources.len() {
            let value = format!("{:?} for {} sources", self.weights, self.sources.len());
            return Err(DataError::Setting { setting: "weights", value, problem: "give one number above 0 a source" });
        }
        check_distinct(&self.sources)
    }

    /// Checks the settings and that at least one shard exists; with `every`, examples keep all their captions.
    pub(super) fn shared(&self, needs: Needs, every: bool, cache_bytes: u64) -> Result<Shared> {
        self.check()?;
        let LoaderConfig { preprocess, text_tokens, limits, seed, .. } = *self;
        let (tokenizer, captions) = (self.tokenizer.clone(), self.captions.clone());
        let recipe = Recipe { preprocess, tokenizer, text_tokens, limits, needs, captions, every, seed };
        Ok(Shared::new(self, recipe, cache_bytes))
    }
}

/// Shards that cannot be opened, from the first on, after which the share is looked at where servers are read: a server that is
/// gone costs half a minute a shard.
const DEAD_SHARDS: u64 = 16;

/// How much may be left out.
pub(super) struct Tolerance {
    limits: Limits,
    remote: bool,
}

impl Tolerance {
    pub fn new(config: &LoaderConfig) -> Tolerance {
        let mut shards = config.sources.iter().flat_map(|source| source.shards());
        Tolerance { limits: config.limits, remote: shards.any(|shard| shard.remote().is_some()) }
    }

    /// `TooManySkipped` if the share is over the limit; before the end of an epoch only after enough samples, or if the first shards
    /// give none.
    pub fn check(&self, skips: &SkipReport, epoch_ended: bool) -> Result<()> {
        let (skipped, seen) = (skips.skipped(), skips.skipped() + skips.kept());
        let dead = self.remote && skips.kept() == 0 && skips.count(SkipReason::ShardMissing) >= DEAD_SHARDS;
        let limit = self.limits.max_skipped_share;
        if (epoch_ended || dead || seen >= self.limits.skip_check_after) && skipped as f64 > limit * seen as f64 {
            return Err(DataError::TooManySkipped { skipped, seen, limit, skips: skips.to_string() });
        }
        Ok(())
    }
}

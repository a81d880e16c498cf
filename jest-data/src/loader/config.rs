//! What a loader reads, and how.

use super::stream::Shared;
use crate::example::{Needs, Recipe};
use crate::source::check_distinct;
use crate::{DataError, Limits, Preprocess, Result, SkipReport, Source, Tokenizer};
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

/// What a loader reads, and how. Only `sources`, `seed`, `shuffle` and `limits` decide which examples come, and in which order;
/// `workers`, `prefetch` and `cache_bytes` only decide how fast.
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
            cache_bytes: 1 << 30,
        }
    }

    /// Refuses what no loader can read: a setting out of range, a shard that is there twice, no shard at all.
    ///
    /// # Errors
    /// `Setting`, `SameShard`; `NoExamples` if no shard is a file.
    pub fn check(&self) -> Result<()> {
        self.check_settings()?;
        let shards = || self.sources.iter().flat_map(|source| source.shards());
        if shards().any(|shard| shard.path.is_file()) {
            return Ok(());
        }
        let first = shards().next().map_or(String::new(), |shard| shard.path.display().to_string());
        Err(DataError::NoExamples { shards: shards().count(), skips: format!("none is a file; first: {first}") })
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
        check_distinct(&self.sources)
    }

    /// Checks the settings and that at least one shard exists.
    pub(super) fn shared(&self, needs: Needs, cache_bytes: u64) -> Result<Shared> {
        self.check()?;
        let LoaderConfig { preprocess, text_tokens, limits, .. } = *self;
        let recipe = Recipe { preprocess, tokenizer: self.tokenizer.clone(), text_tokens, limits, needs };
        Ok(Shared::new(&self.sources, recipe, cache_bytes))
    }
}

/// `TooManySkipped` if the share is over the limit; before the end of an epoch only after enough samples.
pub(super) fn check_share(skips: &SkipReport, limits: &Limits, epoch_ended: bool) -> Result<()> {
    let (skipped, seen) = (skips.skipped(), skips.skipped() + skips.kept());
    if (epoch_ended || seen >= limits.skip_check_after) && skipped as f64 > limits.max_skipped_share * seen as f64 {
        let limit = limits.max_skipped_share;
        return Err(DataError::TooManySkipped { skipped, seen, limit, skips: skips.to_string() });
    }
    Ok(())
}

//! Arguments of `jest data`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// What `jest data` is asked to do.
#[derive(Debug, Clone, Subcommand)]
pub enum DataCommand {
    /// Say what is wrong with a data set: by reason, with a list; exit code 4 when it cannot be used
    Check(DataCheckArgs),
    /// Count: examples, captions, picture sizes, shares by source
    Stats(DataStatsArgs),
    /// Write tar shards from any source
    Build(DataBuildArgs),
    /// Write the subset file of the best examples, by `jest score`
    Subset(DataSubsetArgs),
}

/// Arguments of `jest data check`.
#[derive(Debug, Clone, Args)]
pub struct DataCheckArgs {
    /// Sources; `::` joins several
    #[arg(value_name = "SPEC")]
    pub data: String,
    /// Threads that decode
    #[arg(long, default_value_t = 2)]
    pub workers: usize,
    /// Faults listed, at most
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub limit: u64,
    /// Share of samples that may be left out before the data count as unusable
    #[arg(long, value_name = "SHARE", default_value_t = 0.5)]
    pub max_skipped_share: f64,
}

/// Arguments of `jest data stats`.
#[derive(Debug, Clone, Args)]
pub struct DataStatsArgs {
    /// Sources; `::` joins several
    #[arg(value_name = "SPEC")]
    pub data: String,
    /// Field of the JSON beside pictures whose values are counted
    #[arg(long, value_name = "FIELD")]
    pub by: Option<String>,
    /// Print one object of JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `jest data build`.
#[derive(Debug, Clone, Args)]
pub struct DataBuildArgs {
    /// Sources; `::` joins several
    #[arg(value_name = "SPEC")]
    pub data: String,
    /// Folder that the shards are written to; it must be empty
    #[arg(value_name = "FOLDER")]
    pub out: PathBuf,
    /// Samples of a shard, at most
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub samples_per_shard: u64,
    /// Million bytes after which a shard takes no further sample
    #[arg(long, value_name = "MB", default_value_t = 3000)]
    pub max_shard_mb: u64,
}

/// Arguments of `jest data subset`.
#[derive(Debug, Clone, Args)]
pub struct DataSubsetArgs {
    /// What `jest score` wrote: Parquet, or CSV with a header
    #[arg(value_name = "SCORES")]
    pub scores: PathBuf,
    /// Subset file that is written
    #[arg(value_name = "FILE")]
    pub out: PathBuf,
    /// Share of the examples that is kept: those with the largest values
    #[arg(long, value_name = "SHARE")]
    pub keep: f64,
    /// Column of the values
    #[arg(long, value_name = "COLUMN", default_value = "learnability")]
    pub by: String,
}

//! Arguments of the verbs other than `train`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use jest_kernels::Precision;

use super::TrainArgs;
use crate::config::Objective;

/// The device that a verb computes on.
#[derive(Debug, Clone, Args)]
pub struct OnDevice {
    /// auto, cpu, gpu, gpu:N, or a part of an adapter's name
    #[arg(long, default_value = "auto")]
    pub device: String,
    /// Threads of the CPU device [default: all]
    #[arg(long)]
    pub threads: Option<usize>,
    /// The usual tiles of matrix products, without timing others on a real GPU
    #[arg(long)]
    pub no_autotune: bool,
}

/// The image-text pairs that a verb reads.
#[derive(Debug, Clone, Args)]
pub struct Pairs {
    /// Shards with brace ranges, folders or files; `::` joins sources
    #[arg(long, value_name = "SHARDS")]
    pub data: String,
    /// Threads that read and decode
    #[arg(long, default_value_t = 2)]
    pub workers: usize,
}

/// Arguments of `jest embed`.
#[derive(Debug, Clone, Args)]
pub struct EmbedArgs {
    /// Checkpoint folder
    #[arg(long, value_name = "FOLDER")]
    pub checkpoint: PathBuf,
    /// Folder that the embeddings are written to
    #[arg(long, value_name = "FOLDER")]
    pub out: PathBuf,
    /// What it reads
    #[command(flatten)]
    pub pairs: Pairs,
    /// Where it computes
    #[command(flatten)]
    pub on: OnDevice,
}

/// Arguments of `jest score`.
#[derive(Debug, Clone, Args)]
pub struct ScoreArgs {
    /// Checkpoint folder of the learner
    #[arg(long, value_name = "FOLDER")]
    pub learner: PathBuf,
    /// Checkpoint folder of the reference; may be repeated, and their losses are averaged
    #[arg(long, value_name = "FOLDER", required = true)]
    pub reference: Vec<PathBuf>,
    /// Loss of a pair [default: what the learner was trained with]
    #[arg(long, value_enum)]
    pub objective: Option<Objective>,
    /// File that the scores are written to; without an ending, a folder of one file a shard, which is gone on with
    #[arg(long, value_name = "PATH")]
    pub out: PathBuf,
    /// Format of that file [default: by its ending]
    #[arg(long, value_enum)]
    pub format: Option<ScoreFormat>,
    /// What it reads
    #[command(flatten)]
    pub pairs: Pairs,
    /// Its part of that
    #[command(flatten)]
    pub share: Share,
    /// Where it computes
    #[command(flatten)]
    pub on: OnDevice,
}

/// Which part of the shards a process works on.
#[derive(Debug, Clone, Copy, Args)]
pub struct Share {
    /// Number of this process, from 0: it takes every shard whose place leaves it as remainder
    #[arg(long, default_value_t = 0, value_name = "K")]
    pub task_index: usize,
    /// Processes that share the work
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub num_tasks: usize,
}

impl Share {
    /// Its shards, counted over all sources.
    ///
    /// # Errors
    /// `Task` for an index that is not below the number of tasks.
    pub fn of(self, sources: Vec<jest_data::Source>) -> crate::Result<Vec<jest_data::Source>> {
        let Self { task_index, num_tasks } = self;
        if task_index >= num_tasks {
            return Err(crate::TrainError::Task { index: task_index, tasks: num_tasks });
        }
        let mut place = 0;
        let mut own = |_: &jest_data::Shard| {
            place += 1;
            (place - 1) % num_tasks == task_index
        };
        Ok(sources.into_iter().map(|source| source.with_shards(&mut own)).collect())
    }
}

/// What `jest reference` is asked to do.
#[derive(Debug, Clone, Subcommand)]
pub enum ReferenceCommand {
    /// Train one: `jest train` with selection.method = "uniform", in a run named `reference`
    Train(Box<TrainArgs>),
    /// Compute its embeddings of a data set, for runs with `selection.reference_cache`
    Cache(ReferenceCacheArgs),
}

/// Arguments of `jest reference cache`.
#[derive(Debug, Clone, Args)]
pub struct ReferenceCacheArgs {
    /// Checkpoint folder
    #[arg(long, value_name = "FOLDER")]
    pub checkpoint: PathBuf,
    /// Folder of caches, one in it for each model [default: `reference_cache` beside the folder of the first shard]
    #[arg(long, value_name = "FOLDER")]
    pub out: Option<PathBuf>,
    /// Precision of products, as the runs have it that are to find the cache: f32, f16 or bf16
    #[arg(long, default_value_t)]
    pub precision: Precision,
    /// How rows are written
    #[arg(long, value_enum, default_value = "f16")]
    pub rows: RowPrecision,
    /// What it reads
    #[command(flatten)]
    pub pairs: Pairs,
    /// Its part of that
    #[command(flatten)]
    pub share: Share,
    /// Where it computes
    #[command(flatten)]
    pub on: OnDevice,
}

/// Precision of embeddings on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RowPrecision {
    /// As computed
    F32,
    /// Half the size
    F16,
}

impl From<RowPrecision> for jest_data::Precision {
    fn from(precision: RowPrecision) -> Self {
        match precision {
            RowPrecision::F32 => Self::F32,
            RowPrecision::F16 => Self::F16,
        }
    }
}

/// Format of scores on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ScoreFormat {
    /// Parquet
    Parquet,
    /// Comma-separated values
    Csv,
}

impl ScoreArgs {
    /// The format asked for, else that of the file's ending: CSV for `.csv`, Parquet for any other.
    pub fn format(&self) -> ScoreFormat {
        let ending = self.out.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("csv"));
        self.format.unwrap_or(if ending { ScoreFormat::Csv } else { ScoreFormat::Parquet })
    }
}

/// What `jest tokenizer` is asked to do.
#[derive(Debug, Clone, Subcommand)]
pub enum TokenizerCommand {
    /// Make a tokenizer.json from the captions of a data set
    Train(TokenizerTrainArgs),
}

/// Arguments of `jest tokenizer train`.
#[derive(Debug, Clone, Args)]
pub struct TokenizerTrainArgs {
    /// Shards with brace ranges, folders or files; `::` joins sources
    #[arg(long, value_name = "SHARDS")]
    pub data: String,
    /// Size of the vocabulary, special tokens counted
    #[arg(long, default_value_t = 8192)]
    pub vocab_size: usize,
    /// File that is written
    #[arg(long, value_name = "FILE", default_value = "tokenizer.json")]
    pub out: PathBuf,
}

/// Arguments of `jest inspect`.
#[derive(Debug, Clone, Args)]
pub struct InspectArgs {
    /// Checkpoint folder, weight file, or shard
    #[arg(value_name = "PATH")]
    pub path: PathBuf,
    /// Examples or tensors shown
    #[arg(long, default_value_t = 20)]
    pub limit: usize,
}

/// Arguments of `jest parity`.
#[derive(Debug, Clone, Args)]
pub struct ParityArgs {
    /// Folder of files and folders of expected values
    #[arg(value_name = "FOLDER")]
    pub folder: PathBuf,
    /// Print all checks as one line of JSON at the end
    #[arg(long)]
    pub json: bool,
    /// Where it computes
    #[command(flatten)]
    pub on: OnDevice,
}

/// What `jest bench` measures.
#[derive(Debug, Clone, Subcommand)]
pub enum BenchCommand {
    /// Whole training steps and scoring passes on synthetic examples
    Step(BenchStepArgs),
    /// Matrix products and softmax cross-entropy of fixed sizes
    Ops(BenchOpsArgs),
    /// The sigmoid loss with its gradients
    Loss(BenchLossArgs),
    /// Errors of operations against their f64 oracles, as a table
    Numerics(BenchNumericsArgs),
    /// One joint selection from embeddings at random
    Select(BenchSelectArgs),
}

/// Arguments of `jest bench numerics`.
#[derive(Debug, Clone, Args)]
pub struct BenchNumericsArgs {
    /// cpu, gpu, gpu:N, or a part of an adapter's name; may be repeated
    #[arg(long = "device", value_name = "DEVICE", default_value = "cpu")]
    pub devices: Vec<String>,
    /// Threads of the CPU device [default: all]
    #[arg(long)]
    pub threads: Option<usize>,
    /// Where the document is written; without it, it is printed
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// Arguments of `jest bench select`.
#[derive(Debug, Clone, Args)]
pub struct BenchSelectArgs {
    /// B, candidates
    #[arg(long, default_value_t = 16_384)]
    pub super_batch: usize,
    /// b, how many are picked
    #[arg(long, default_value_t = 3_264)]
    pub sub_batch: usize,
    /// N, chunks of the draw
    #[arg(long, default_value_t = 16)]
    pub chunks: usize,
    /// Width of the embeddings
    #[arg(long, default_value_t = 256)]
    pub width: usize,
    /// Seed of embeddings and noise
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// One JSON line, which is what is printed in any case
    #[arg(long)]
    pub json: bool,
    /// Where it computes
    #[command(flatten)]
    pub on: OnDevice,
}

/// Arguments of `jest bench step`.
#[derive(Debug, Clone, Args)]
pub struct BenchStepArgs {
    /// Preset of the model
    #[arg(long, default_value = "xs64")]
    pub preset: String,
    /// Examples of a step
    #[arg(long, default_value_t = 128)]
    pub batch: usize,
    /// Precision of products: f32, f16 or bf16
    #[arg(long, default_value_t)]
    pub precision: Precision,
    /// Examples whose activations are held at once
    #[arg(long, value_name = "N")]
    pub micro_batch: Option<std::num::NonZeroUsize>,
    /// Keep the inputs of blocks alone, and compute the rest again
    #[arg(long)]
    pub recompute: bool,
    /// Timed repeats, after two that are not
    #[arg(long, default_value_t = 5)]
    pub repeats: usize,
    /// Also time every kernel of one more training step
    #[arg(long)]
    pub profile: bool,
    /// End with one line of JSON
    #[arg(long)]
    pub json: bool,
    /// Where it computes
    #[command(flatten)]
    pub on: OnDevice,
}

/// Arguments of `jest bench ops`.
#[derive(Debug, Clone, Args)]
pub struct BenchOpsArgs {
    /// Products of these sizes alone, rows x inner length x columns; may be repeated
    #[arg(long = "product", value_name = "MxKxN", value_parser = sizes::<3>)]
    pub products: Vec<[usize; 3]>,
    /// Copies, layer norm, GELU, softmax cross-entropy and AdamW over rows x columns; may be repeated
    #[arg(long = "rows", value_name = "RxC", value_parser = sizes::<2>)]
    pub rows: Vec<[usize; 2]>,
    /// Attention of examples x tokens x heads x width of a head, with and without gradient; may be repeated
    #[arg(long = "attention", value_name = "NxLxHxD", value_parser = sizes::<4>)]
    pub attention: Vec<[usize; 4]>,
    /// Precision of products: f32, f16 or bf16
    #[arg(long, default_value_t)]
    pub precision: Precision,
    /// Timed repeats, after two that are not
    #[arg(long, default_value_t = 5)]
    pub repeats: usize,
    /// End with one line of JSON
    #[arg(long)]
    pub json: bool,
    /// Where it computes
    #[command(flatten)]
    pub on: OnDevice,
}

/// `MxKxN` and the like: so many positive numbers.
fn sizes<const N: usize>(text: &str) -> std::result::Result<[usize; N], String> {
    let sizes: Option<Vec<usize>> = text.split('x').map(|size| size.parse().ok().filter(|size| *size > 0)).collect();
    let example = || format!("expected {N} numbers, as {}", ["1024", "192", "12", "64"][..N].join("x"));
    sizes.and_then(|sizes| sizes.try_into().ok()).ok_or_else(example)
}

/// Arguments of `jest bench loss`.
#[derive(Debug, Clone, Args)]
pub struct BenchLossArgs {
    /// Image-text pairs
    #[arg(long, default_value_t = 8192)]
    pub batch: usize,
    /// Width of the embeddings
    #[arg(long, default_value_t = 256)]
    pub width: usize,
    /// Timed repeats, after two that are not
    #[arg(long, default_value_t = 5)]
    pub repeats: usize,
    /// End with one line of JSON
    #[arg(long)]
    pub json: bool,
    /// Where it computes
    #[command(flatten)]
    pub on: OnDevice,
}

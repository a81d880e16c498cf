//! Arguments of the verbs other than `train`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

/// The device that a verb computes on.
#[derive(Debug, Clone, Args)]
pub struct OnDevice {
    /// auto, cpu, gpu, gpu:N, or a part of an adapter's name
    #[arg(long, default_value = "auto")]
    pub device: String,
    /// Threads of the CPU device [default: all]
    #[arg(long)]
    pub threads: Option<usize>,
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

/// Arguments of `jest eval`.
#[derive(Debug, Clone, Args)]
pub struct EvalArgs {
    /// Checkpoint folder
    #[arg(long, value_name = "FOLDER")]
    pub checkpoint: PathBuf,
    /// Folder of a task; may be repeated
    #[arg(long = "task", value_name = "FOLDER", required = true)]
    pub tasks: Vec<PathBuf>,
    /// Threads that read and decode
    #[arg(long, default_value_t = 2)]
    pub workers: usize,
    /// Where it computes
    #[command(flatten)]
    pub on: OnDevice,
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
    /// Checkpoint folder of the reference
    #[arg(long, value_name = "FOLDER")]
    pub reference: PathBuf,
    /// File that the scores are written to
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Format of that file [default: by its ending]
    #[arg(long, value_enum)]
    pub format: Option<ScoreFormat>,
    /// What it reads
    #[command(flatten)]
    pub pairs: Pairs,
    /// Where it computes
    #[command(flatten)]
    pub on: OnDevice,
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
    /// Timed repeats, after two that are not
    #[arg(long, default_value_t = 5)]
    pub repeats: usize,
    /// Where it computes
    #[command(flatten)]
    pub on: OnDevice,
}

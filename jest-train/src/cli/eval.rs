//! `jest eval`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::OnDevice;

/// Arguments of `jest eval`.
#[derive(Debug, Clone, Args)]
pub struct EvalArgs {
    /// Checkpoint folder
    #[arg(long, value_name = "FOLDER")]
    pub checkpoint: PathBuf,
    /// Folder of a task; may be repeated
    #[arg(long = "task", value_name = "FOLDER", required = true)]
    pub tasks: Vec<PathBuf>,
    /// What is learned from a task's labelled pictures, beside zero-shot; may be repeated
    #[arg(long = "probe", value_enum)]
    pub probes: Vec<Probe>,
    /// Pictures a class that the few-shot probe learns from
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    pub shots: u32,
    /// Words of the result
    #[arg(long, value_enum, default_value = "jest")]
    pub format: EvalFormat,
    /// Folder that gets TASK.json of every task
    #[arg(long, value_name = "FOLDER")]
    pub out: Option<PathBuf>,
    /// Threads that read and decode
    #[arg(long, default_value_t = 2)]
    pub workers: usize,
    /// Where it computes
    #[command(flatten)]
    pub on: OnDevice,
}

/// A classifier on frozen embeddings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Probe {
    /// Ridge regression on a few pictures a class
    FewShot,
    /// Softmax regression on all of them
    Linear,
}

/// Words of the result of an evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum EvalFormat {
    /// {"task", "metrics"}
    Jest,
    /// {"dataset", "model", "pretrained", "task", "metrics", "language"}
    ClipBenchmark,
}

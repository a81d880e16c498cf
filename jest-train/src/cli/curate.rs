//! Arguments of `jest curate` and `jest explain`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Args;
use jest_select::{Method, ScoreKind};

use super::{OnDevice, Pairs};
use crate::config::Objective;

/// Arguments of `jest curate`.
#[derive(Debug, Clone, Args)]
pub struct CurateArgs {
    /// How examples are chosen: a word of `selection.method`
    #[arg(long, default_value = "joint", value_parser = word::<Method>)]
    pub method: Method,
    /// What is scored: a word of `selection.score`
    #[arg(long, default_value = "learnability", value_parser = word::<ScoreKind>)]
    pub score: ScoreKind,
    /// Share of every super-batch that is kept: 20% or 0.2 [default: 20%; with --threshold, all that reach it]
    #[arg(long)]
    pub keep: Option<Keep>,
    /// Least cosine, for clip_score; with --keep, the share is drawn at random from those that reach it
    #[arg(long)]
    pub threshold: Option<Cosine>,
    /// Examples that are selected from at once
    #[arg(long, default_value = "20480")]
    pub super_batch: NonZeroUsize,
    /// Chunks of a joint draw
    #[arg(long, default_value = "16")]
    pub chunks: NonZeroUsize,
    /// Factor on the scores at the draw; inf takes the best
    #[arg(long, default_value = "1")]
    pub gain: GainFlag,
    /// Fields of a sample's JSON that hold its concepts, for cabs
    #[arg(long, default_value = "concept", value_delimiter = ',')]
    pub tags: Vec<String>,
    /// Seed of the draw
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Checkpoint folder of the learner, where the score reads one
    #[arg(long, value_name = "FOLDER")]
    pub learner: Option<PathBuf>,
    /// Checkpoint folder of the reference; may be repeated, and their losses are averaged
    #[arg(long, value_name = "FOLDER")]
    pub reference: Vec<PathBuf>,
    /// Loss of a pair [default: what the learner was trained with]
    #[arg(long, value_enum)]
    pub objective: Option<Objective>,
    /// What is written: without an ending, a folder of shards with the samples that are kept; else a file, a DataComp subset
    /// for .npy, or one line an example
    #[arg(long, value_name = "PATH")]
    pub out: PathBuf,
    /// Parquet file of every choice with its scores
    #[arg(long, value_name = "FILE")]
    pub audit: Option<PathBuf>,
    /// What it reads
    #[command(flatten)]
    pub pairs: Pairs,
    /// Where it computes
    #[command(flatten)]
    pub on: OnDevice,
}

/// Arguments of `jest explain`.
#[derive(Debug, Clone, Args)]
pub struct ExplainArgs {
    /// Run folder of runs with `selection.audit = true`
    #[arg(value_name = "RUN")]
    pub run: PathBuf,
    /// What shares are told of: `source`, and fields of a sample's JSON
    #[arg(long, default_value = "source,style,noise", value_delimiter = ',')]
    pub fields: Vec<String>,
    /// Page that shows the ends of each quarter's choices with their pictures, beside what is printed
    #[arg(long, value_name = "FILE.html")]
    pub out: Option<PathBuf>,
}

/// A share as `20%` or `0.2`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Keep(pub f64);

impl std::str::FromStr for Keep {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, unit) = text.strip_suffix('%').map_or((text, 1.0), |number| (number, 100.0));
        let share = number.trim().parse::<f64>().ok().map(|number| number / unit);
        share
            .filter(|share| *share > 0.0 && *share <= 1.0)
            .map(Self)
            .ok_or_else(|| "a share is above 0 and at most 1: 20% or 0.2".to_owned())
    }
}

/// A cosine.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cosine(pub f32);

impl std::str::FromStr for Cosine {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let cosine = text.parse::<f32>().ok().filter(|cosine| (-1.0..=1.0).contains(cosine));
        cosine.map(Self).ok_or_else(|| "a cosine is between -1 and 1".to_owned())
    }
}

/// A gain: a number of 0 or more, or `inf`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GainFlag(pub f32);

impl std::str::FromStr for GainFlag {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let gain = text.parse::<f32>().ok().filter(|gain| *gain >= 0.0);
        gain.map(Self).ok_or_else(|| "a gain is a number of 0 or more, or inf".to_owned())
    }
}

/// Reads a word by the type that knows it.
fn word<T: std::str::FromStr<Err = jest_select::InputError>>(text: &str) -> Result<T, jest_select::InputError> {
    text.parse()
}

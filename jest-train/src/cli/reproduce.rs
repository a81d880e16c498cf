//! `jest reproduce`: the studies.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use jest_kernels::Precision;

use super::OnDevice;

/// Arguments of `jest reproduce`.
#[derive(Debug, Clone, Args)]
pub struct ReproduceArgs {
    /// Studies by name, in this order; `all` for every one
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,
    /// List the studies and what the paper found in each
    #[arg(long)]
    pub list: bool,
    /// Seeds 0 to N - 1 [default: the study's own number]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub seeds: Option<u64>,
    /// Seeds trained at the same time, which share the threads: small models gain by it
    #[arg(long, value_name = "N", default_value = "1")]
    pub jobs: NonZeroUsize,
    /// Time after which training stops; the same command goes on later: 90s, 45m, 2h
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub budget: Option<Duration>,
    /// One seed of 20 steps a run on the shipped sample, in a folder of its own
    #[arg(long)]
    pub quick: bool,
    /// Draw again what is in the records, without training
    #[arg(long, conflicts_with_all = ["quick", "budget", "seeds"])]
    pub draw: bool,
    /// Data set with train, curated, eval and tokenizer.json
    #[arg(long, value_name = "FOLDER", default_value = "runs/data/quickstart", conflicts_with = "quick")]
    pub data: PathBuf,
    /// Folder of run folders; with --quick, another beside it with -quick behind its name
    #[arg(long, value_name = "FOLDER", default_value = "runs/reproduce")]
    pub out: PathBuf,
    /// Folder of the studies' configurations
    #[arg(long, value_name = "FOLDER", default_value = "configs/reproduce")]
    pub configs: PathBuf,
    /// Folder of records and figures
    #[arg(long, value_name = "FOLDER", default_value = "docs/reproduction", conflicts_with = "quick")]
    pub records: PathBuf,
    /// f32, bf16 or f16, in place of the studies' own
    #[arg(long, value_name = "WORD")]
    pub precision: Option<Precision>,
    /// Where it computes
    #[command(flatten)]
    pub on: OnDevice,
}

/// A number with s, m or h behind it.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text} is no time; write 90s, 45m or 2h");
    let number = text.get(..text.len().saturating_sub(1)).unwrap_or_default();
    let unit = match text.chars().last() {
        Some('s') => 1.0,
        Some('m') => 60.0,
        Some('h') => 3600.0,
        _ => return Err(wrong()),
    };
    let value: f64 = number.parse().map_err(|_| wrong())?;
    Duration::try_from_secs_f64(value * unit).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit() {
        for (text, seconds) in [("90s", 90.0), ("45m", 2700.0), ("1.5h", 5400.0), ("0s", 0.0)] {
            assert_eq!(duration(text).map(|time| time.as_secs_f64()), Ok(seconds));
        }
        for text in ["", "2", "h", "2d", "-1s", "1e400h", "é"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}

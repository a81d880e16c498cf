//! Run configuration, the training loop, checkpoints, evaluation, reports and the `jest` command.
//!
//! A configuration and flags become a plan, once; what a run does, it tells as events; sinks write them down:
//!
//! ```
//! use jest_train::config::{Overrides, Surroundings, resolve};
//! use jest_train::events::{Event, Events, RunStarted};
//! use jest_train::sinks::Collect;
//!
//! let config = "batch_size = 64\nexamples = 1000\ndata.train = 'a.tar'\nmodel.preset = 'mu'";
//! let around = Surroundings { cores: 2, exists: &|_| false, count: &|_| Ok(1000) };
//! let run = &resolve(config, None, &Overrides::default(), &around)?.plan.runs[0];
//! assert_eq!(run.steps, 16); // 1000 / 64, rounded up
//!
//! let mut sink = Collect::default();
//! sink.emit(&Event::RunStarted(RunStarted {
//!     run: run.name.clone(),
//!     first_step: 0,
//!     steps: run.steps,
//!     batch_size: run.batch_size(),
//!     super_batch: run.selection.sizes.super_batch(),
//! }))?;
//! assert_eq!(sink.0[0].position(), ("train", 0));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod approximation;
pub mod assemble;
pub mod audit;
pub mod checkpoint;
pub mod cli;
pub mod clock;
mod columns;
pub mod config;
pub mod embed;
pub mod error;
pub mod evaluation;
pub mod events;
mod exit_code;
pub mod history;
pub mod learnability;
pub mod learner;
pub mod lock;
pub mod loss_scale;
pub mod memory;
pub mod meter;
pub mod optimizer;
pub mod pipeline_cache;
pub mod profile;
#[cfg(any(test, doctest))]
mod readme;
pub mod reference;
pub mod report;
pub mod resources;
pub mod reuse;
pub mod run_loop;
pub mod run_state;
mod say;
pub mod schedule;
pub mod selector;
pub mod signals;
pub mod sinks;
pub mod storage;
pub mod studies;
pub mod table;
pub mod tiles;
mod verbs;

use std::ffi::OsString;
use std::process::ExitCode;

pub use error::{Result, TrainError};

/// The `jest` command: parses `args`, does what they ask, and gives the exit code.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    cli::run(args, verbs::execute)
}

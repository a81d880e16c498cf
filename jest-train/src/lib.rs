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
//! let around = Surroundings { cores: 2, exists: &|_| false };
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

pub mod cli;
pub mod clock;
pub mod config;
mod error;
pub mod events;
pub mod history;
pub mod lock;
pub mod report;
pub mod schedule;
pub mod signals;
pub mod sinks;
pub mod storage;
pub mod table;

pub use error::{Result, TrainError};

//! Run configuration, the training loop, checkpoints, evaluation, reports and the `jest` command.

pub mod clock;
pub mod config;
mod error;
pub mod events;
pub mod history;
pub mod lock;
pub mod schedule;
pub mod signals;
pub mod sinks;
pub mod storage;

pub use error::{Result, TrainError};

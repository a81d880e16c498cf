//! What can go wrong in a run, and the exit code each fault has.

use std::{io, path::Path, path::PathBuf};

use crate::config::ConfigError;

/// `Ok`, or why the run cannot go on.
pub type Result<T> = std::result::Result<T, TrainError>;

/// Why a run cannot start or go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// The configuration or the flags do not make a plan.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A loss, gradient or score is NaN or infinite; the parameters are as before that step.
    #[error(
        "{quantity} is not finite at step {step} of run {run}; the last checkpoint is intact, a lower optimizer.lr may help"
    )]
    NonFinite {
        /// What was not finite: `loss`, `grad_norm`.
        quantity: &'static str,
        /// Name of the run.
        run: String,
        /// Updates made, the one refused included.
        step: u64,
    },
    /// A file could not be read, written, renamed or locked.
    #[error("cannot {action} {}", .path.display())]
    Storage {
        /// What was tried, as a verb.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// A line of `metrics.jsonl` is not a line that this program wrote.
    #[error("line {line} of {} is no event", .path.display())]
    History {
        /// The file.
        path: PathBuf,
        /// 1-based.
        line: usize,
        /// What the reader expected.
        #[source]
        source: serde_json::Error,
    },
    /// Another process works in the run folder.
    #[error("{} is in use by process {pid}; wait for it, or choose another folder with --out", .folder.display())]
    Locked {
        /// The run folder.
        folder: PathBuf,
        /// Its process id, or `unknown`.
        pid: String,
    },
    /// The system refused a signal handler.
    #[error("cannot listen to signal {signal}")]
    Signals {
        /// Its number.
        signal: i32,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// A picture of the report could not be encoded.
    #[error("cannot encode the picture of example {id}")]
    Picture {
        /// Id of the example.
        id: String,
        /// The encoder's answer.
        #[source]
        source: image::ImageError,
    },
    /// The report's template failed.
    #[error("cannot render the report")]
    Template(#[from] minijinja::Error),
    /// A signal ended the run after a checkpoint.
    #[error("stopped by a signal at step {step} of run {run}; saved {}, run again with --resume latest to go on", .checkpoint.display())]
    Stopped {
        /// Name of the run.
        run: String,
        /// Updates made.
        step: u64,
        /// The checkpoint to go on from.
        checkpoint: PathBuf,
    },
}

impl TrainError {
    /// Wraps the system's answer to `action` on `path`, for `map_err`.
    pub fn storage(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Self {
        let path = path.as_ref().to_path_buf();
        move |source| Self::Storage { action, path, source }
    }

    /// 1 unexpected, 3 configuration, 4 data, 5 not finite, 6 device, 7 storage, 8 checkpoint, 75 stopped by a signal.
    ///
    /// 0 is success and 2 is usage, neither an error of this type.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Signals { .. } | Self::Picture { .. } | Self::Template(_) => 1,
            Self::Config(_) => 3,
            Self::NonFinite { .. } => 5,
            Self::Storage { .. } | Self::Locked { .. } => 7,
            Self::History { .. } => 8,
            Self::Stopped { .. } => 75,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes() {
        let stopped = TrainError::Stopped { run: "jest".into(), step: 7, checkpoint: "runs/x".into() };
        let not_finite = TrainError::NonFinite { quantity: "loss", run: "jest".into(), step: 7 };
        let full = TrainError::storage("write", "a/b")(io::ErrorKind::StorageFull.into());
        let locked = TrainError::Locked { folder: "runs/x".into(), pid: "1".into() };
        let config = TrainError::Config(ConfigError::NoData { run: "train".into() });
        for (error, code) in [(config, 3), (not_finite, 5), (full, 7), (locked, 7), (stopped, 75)] {
            assert_eq!(error.exit_code(), code, "{error}");
        }
    }

    #[test]
    fn storage_names_the_path_and_keeps_the_cause() {
        let error = TrainError::storage("write", "a/b")(io::ErrorKind::StorageFull.into());
        assert_eq!(error.to_string(), "cannot write a/b");
        assert!(std::error::Error::source(&error).is_some());
    }
}

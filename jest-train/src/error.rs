//! What can go wrong in a run, and the exit code each fault has.

use std::{io, path::Path, path::PathBuf};

use crate::config::ConfigError;
use crate::studies::StudyError;

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
        /// What was not finite: `loss`, `grad_norm`, a score.
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
    /// Shards, pictures, captions, tokenizers or caches.
    #[error(transparent)]
    Data(#[from] jest_data::DataError),
    /// The device or an operation on it.
    #[error(transparent)]
    Kernel(#[from] jest_kernels::KernelError),
    /// Model sizes or weight files.
    #[error(transparent)]
    Model(#[from] jest_model::ModelError),
    /// Scores on a device, or the draw from them.
    #[error(transparent)]
    DeviceSelection(#[from] jest_select::SelectError<jest_kernels::KernelError>),
    /// Scores on the host, or the draw from them.
    #[error(transparent)]
    HostSelection(#[from] jest_select::SelectError<jest_select::InputError>),
    /// What selection was given.
    #[error(transparent)]
    Selection(#[from] jest_select::InputError),
    /// A value of our own could not be written as JSON, or was not what was expected.
    #[error("{what} is not the JSON that this program writes")]
    Json {
        /// The file.
        what: &'static str,
        /// The parser's answer.
        #[source]
        source: serde_json::Error,
    },
    /// The plan could not be written as TOML.
    #[error("the plan cannot be written as TOML")]
    PlanText {
        /// The writer's answer.
        #[source]
        source: toml::ser::Error,
    },
    /// Scores could not be written as Parquet.
    #[error("cannot write {} as Parquet; --format csv is the plain form", .path.display())]
    Parquet {
        /// The file.
        path: PathBuf,
        /// The writer's answer.
        #[source]
        source: parquet::errors::ParquetError,
    },
    /// A file of a checkpoint is missing, cut short or changed.
    #[error("{} is missing or damaged", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// A run has no checkpoint to start from.
    #[error("{} holds no whole checkpoint; train that run first", .path.display())]
    NoCheckpoint {
        /// The folder.
        path: PathBuf,
    },
    /// A checkpoint holds another model than the plan.
    #[error("{} holds another model than the plan: {difference}", .path.display())]
    OtherModel {
        /// The checkpoint.
        path: PathBuf,
        /// The first difference.
        difference: String,
    },
    /// `--resume` under another plan than the one that was saved.
    #[error("the plan is not the one in {}: {difference}; resume with the same configuration, or start anew without --resume", .path.display())]
    OtherPlan {
        /// The saved plan.
        path: PathBuf,
        /// The first difference.
        difference: String,
    },
    /// `--resume` names another folder than the plan's.
    #[error("--resume {} is not the run folder {}; add --out to name the folder", .named.display(), .out.display())]
    ResumeElsewhere {
        /// What was named.
        named: PathBuf,
        /// The plan's run folder.
        out: PathBuf,
    },
    /// `--resume` where nothing was ever started.
    #[error("nothing to resume: {} does not exist; start without --resume", .path.display())]
    NothingToResume {
        /// The plan that would be there.
        path: PathBuf,
    },
    /// Reference and learner cannot read the same examples.
    #[error("reference {} has {what} {reference}, the learner {learner}; train a reference with the learner's, or change the learner's", .path.display())]
    Unfit {
        /// What differs.
        what: &'static str,
        /// The reference's.
        reference: String,
        /// The learner's.
        learner: String,
        /// The reference's folder.
        path: PathBuf,
    },
    /// A preprocessor makes pictures of another size than its model reads.
    #[error("preprocessor_config.json in {} makes pictures of {pixels} pixels, the model beside it reads {model}; set its size to {model}", .path.display())]
    PixelsOfOtherSize {
        /// The model's folder.
        path: PathBuf,
        /// Side of the pictures.
        pixels: usize,
        /// Side that the model reads.
        model: usize,
    },
    /// The tokenizer has more ids than the model has embeddings.
    #[error("model.vocab_size is {model}, the tokenizer has {tokenizer} ids; leave vocab_size out, or raise it")]
    Vocabulary {
        /// The model's.
        model: usize,
        /// The tokenizer's.
        tokenizer: usize,
    },
    /// The plan names no tokenizer.
    #[error(
        "text.tokenizer is not set; write clip, name a tokenizer.json, or make one with `jest tokenizer train --data SHARDS`"
    )]
    NoTokenizer,
    /// The plan names a tokenizer that is not there.
    #[error("text.tokenizer {} does not exist; name another, or make it with `jest tokenizer train --data SHARDS`", .path.display())]
    MissingTokenizer {
        /// The file or folder.
        path: PathBuf,
    },
    /// A checkpoint has no tokenizer beside its weights.
    #[error("{} has no tokenizer.json beside its weights; copy the one that it was trained with there", .path.display())]
    NoTokenizerBeside {
        /// The checkpoint.
        path: PathBuf,
    },
    /// A super-batch without a single tag to balance.
    #[error("none of {candidates} candidates has a tag in `{fields}` of its JSON; name its fields in selection.tags")]
    NoTags {
        /// B.
        candidates: usize,
        /// Where they were looked for.
        fields: String,
    },
    /// A candidate's reference embeddings are neither cached nor computable.
    #[error("example {id} is not in the reference cache; remove the cache folder, it is made again")]
    NotCached {
        /// The example.
        id: String,
    },
    /// Values differ from those of other libraries, or there were none to compare with.
    #[error("{}: {out} of {all} checks are out; a folder to check holds what docs/interchange.md lists", .path.display())]
    Parity {
        /// The folder.
        path: PathBuf,
        /// Checks that failed.
        out: usize,
        /// All checks.
        all: usize,
    },
    /// A file that should be a table of ours.
    #[error("{} is no table that this program wrote", .path.display())]
    NoTable {
        /// The file.
        path: PathBuf,
        /// The reader's answer.
        #[source]
        source: parquet::errors::ParquetError,
    },
    /// A folder of scores of other models or of other data.
    #[error("{} says that these scores are of {what}; choose another --out", .path.display())]
    OtherScores {
        /// The file that says so.
        path: PathBuf,
        /// What differs.
        what: String,
    },
    /// A cache without a place of its own, of data that lies in no folder.
    #[error("the data lies in no folder of this machine beside which a cache could be kept; say where by --out FOLDER")]
    NoPlaceBeside,
    /// Nothing to explain.
    #[error("{} has no audit; set selection.audit = true in the run that is to be explained", .out.display())]
    NoAudit {
        /// The run folder.
        out: PathBuf,
    },
    /// A method of curation without a model that it reads.
    #[error("jest curate by {method} needs {missing}; name a checkpoint folder, or choose another --method or --score")]
    Curate {
        /// The method.
        method: String,
        /// The flag.
        missing: &'static str,
    },
    /// A threshold for a method that knows none.
    #[error("--threshold is the least cosine of --method clip_score, and {method} reads no cosine; leave it out")]
    Threshold {
        /// The method.
        method: String,
    },
    /// Data that changed while a part of it was copied.
    #[error("of {kept} examples that were kept {found} were found when they were copied to {}; the data has changed", .path.display())]
    Changed {
        /// The folder of new shards, which is not finished.
        path: PathBuf,
        /// Examples that were kept.
        kept: usize,
        /// Those that were found again.
        found: usize,
    },
    /// Curation without any model.
    #[error("jest curate needs --learner or --reference: the data is read as the model reads it")]
    NothingToCurateBy,
    /// A tensor of expected values that cannot be what its name says.
    #[error("tensor `{name}` {problem}")]
    Values {
        /// Its name in the file.
        name: String,
        /// What is wrong with it, and what it must be.
        problem: &'static str,
    },
    /// A task that is none of those that share the work.
    #[error("--task-index {index} is not below --num-tasks {tasks}; tasks count from 0")]
    Task {
        /// Its number.
        index: usize,
        /// How many there are.
        tasks: usize,
    },
    /// A study that cannot be run or drawn.
    #[error(transparent)]
    Study(#[from] StudyError),
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

/// What to do about a disk that refuses, after its answer.
const STORAGE_REMEDY: &str = "; make room or choose another folder, and a run goes on with --resume latest";

impl TrainError {
    /// Wraps the system's answer to `action` on `path`, for `map_err`.
    pub fn storage(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Self {
        let path = path.as_ref().to_path_buf();
        move |source| Self::Storage { action, path, source }
    }

    /// Whether the disk refused, be it full or not writable.
    pub fn is_storage(&self) -> bool {
        self.exit_code() == 7 && !matches!(self, Self::Locked { .. })
    }

    /// The error, its causes and what to do about it, on one line.
    pub fn explain(&self) -> String {
        // What cannot be read is not for want of room.
        let writing = self.is_storage() && !matches!(self, Self::Storage { action: "read" | "list", .. });
        let remedy = if writing { STORAGE_REMEDY } else { "" };
        // Some libraries answer in several lines.
        let lines = chain(self) + remedy;
        lines.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
    }
}

/// An error and its causes on one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text += &format!(": {inner}");
        cause = inner.source();
    }
    text
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

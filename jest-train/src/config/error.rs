//! What can be wrong with a configuration. Messages name the key, the value and a value that works.

use std::path::PathBuf;

use jest_select::InputError;

/// A configuration or flags that do not make a plan.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// The text is not TOML.
    #[error("the configuration is not valid TOML")]
    Syntax(#[from] toml::de::Error),
    /// A key that nothing reads.
    #[error("unknown key \"{key}\" {place}; nearest: \"{nearest}\"")]
    UnknownKey {
        /// The key as written.
        key: String,
        /// Where it stands: `in [selection]`, `at the top level`.
        place: String,
        /// The known key of that place with the fewest edits.
        nearest: String,
    },
    /// A key of the whole file inside a `[[run]]`.
    #[error("key \"{key}\" {place} holds for all runs; set it at the top of the file")]
    RunWide {
        /// The key.
        key: String,
        /// The run it stands in.
        place: String,
    },
    /// A table where a value belongs, or the other way round.
    #[error("{key} must be {expected}")]
    Shape {
        /// The key.
        key: String,
        /// What belongs there.
        expected: &'static str,
    },
    /// A value of the wrong type, or a word that is none of the known ones.
    #[error("a value of {place} cannot be used")]
    Value {
        /// The run, or the top level.
        place: String,
        /// The reader's answer, with the key.
        #[source]
        source: toml::de::Error,
    },
    /// A number outside its range.
    #[error("{key} = {value} in run \"{run}\" is out of range; {expected}")]
    Range {
        /// Name of the run.
        run: String,
        /// The key, with its table.
        key: &'static str,
        /// The value given.
        value: f64,
        /// What works.
        expected: &'static str,
    },
    /// Two keys that say the same thing.
    #[error("\"{first}\" and \"{second}\" {place} say the same thing twice; keep one")]
    Both {
        /// One key.
        first: &'static str,
        /// The other.
        second: &'static str,
        /// Where both stand.
        place: String,
    },
    /// A key without a default.
    #[error("run \"{run}\" has no {key}; {remedy}")]
    Missing {
        /// Name of the run.
        run: String,
        /// The key.
        key: &'static str,
        /// How to give it.
        remedy: &'static str,
    },
    /// Nothing to train on.
    #[error(
        "run \"{run}\" has no data; set data.train or --train-data, e.g. --train-data 'shards/{{00000..00099}}.tar'"
    )]
    NoData {
        /// Name of the run.
        run: String,
    },
    /// A length in epochs, of data that cannot be counted.
    #[error("run \"{run}\" has a length in epochs, and its examples cannot be counted; set data.num_examples or steps")]
    Uncounted {
        /// Name of the run.
        run: String,
        /// What stands in the way.
        #[source]
        source: jest_data::DataError,
    },
    /// The filter ratio does not give a whole super-batch.
    #[error(
        "batch_size {batch_size} with filter_ratio {filter_ratio} in run \"{run}\" needs a super-batch of {exact}; {remedy}"
    )]
    Ratio {
        /// Name of the run.
        run: String,
        /// b.
        batch_size: usize,
        /// Share discarded.
        filter_ratio: f64,
        /// `b / (1 - filter_ratio)`.
        exact: f64,
        /// The nearest sizes that work.
        remedy: String,
    },
    /// Sizes that do not divide, or a gain that is none.
    #[error("the sizes of run \"{run}\" do not work")]
    Sizes {
        /// Name of the run.
        run: String,
        /// Which, and the nearest that do.
        #[source]
        source: InputError,
    },
    /// Warm-up longer than the run.
    #[error(
        "schedule.warmup {warmup} is longer than the {steps} steps of run \"{run}\"; nearest: {steps}, or a share such as \"1%\""
    )]
    Warmup {
        /// Name of the run.
        run: String,
        /// Steps of warm-up.
        warmup: u64,
        /// Steps of the run.
        steps: u64,
    },
    /// A run's name that cannot name a folder.
    #[error(
        "run name \"{name}\" cannot name a folder; use letters, digits, '-', '_' and '.', and begin with a letter or digit"
    )]
    RunName {
        /// The name.
        name: String,
    },
    /// Two runs of one name.
    #[error("two runs are named \"{name}\"; give each its own name")]
    SameName {
        /// The name.
        name: String,
    },
    /// A reference (or init) that is neither an earlier run nor a folder.
    #[error("{key} \"{origin}\" of run \"{run}\" is {fault}")]
    Origin {
        /// Name of the run.
        run: String,
        /// `reference` or `init`.
        key: &'static str,
        /// What was named.
        origin: String,
        /// What is wrong with it, and the nearest that works.
        fault: String,
    },
    /// A setting that jest-data refuses.
    #[error("run \"{run}\" cannot read its data so")]
    Data {
        /// Name of the run.
        run: String,
        /// What it says.
        #[source]
        source: jest_data::DataError,
    },
    /// A cheap view that the run's model cannot give.
    #[error("selection.approximation in run \"{run}\" is no view of its model")]
    View {
        /// Name of the run.
        run: String,
        /// Which of its sizes, and what it may be.
        #[source]
        source: jest_model::ModelError,
    },
    /// Two settings that do not go together.
    #[error("{key} in run \"{run}\" does not go with {other}: {remedy}")]
    Apart {
        /// Name of the run.
        run: String,
        /// The key, or the setting.
        key: &'static str,
        /// The other setting.
        other: String,
        /// Why, and what to do instead.
        remedy: &'static str,
    },
    /// `--set` without `=`, or with an empty key.
    #[error("--set {text} is no assignment; write --set table.key=value")]
    Assignment {
        /// The argument.
        text: String,
    },
    /// `--set run.NAME.key=value` for a run that is not in the file.
    #[error("--set names run \"{name}\", which the configuration does not have; runs: {known}")]
    NoSuchRun {
        /// The name.
        name: String,
        /// The runs there are.
        known: String,
    },
}

//! What can go wrong in a model or its files.

use std::path::PathBuf;

use jest_kernels::KernelError;

/// Everything that describing, running, saving or loading a model can report.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// An operation failed.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// No preset has this name.
    #[error("unknown preset {name:?}; presets: {known}")]
    UnknownPreset {
        /// What was asked for.
        name: String,
        /// All names there are.
        known: String,
    },
    /// A size of the configuration is outside its range.
    #[error("{what} is {got}, but must be {rule}")]
    Size {
        /// Key of the configuration.
        what: &'static str,
        /// Its value.
        got: usize,
        /// The range in words.
        rule: String,
    },
    /// A size does not divide another.
    #[error("{what} {got} does not divide {whole} {of}; nearest: {nearest}")]
    NotDivisor {
        /// Key of the divisor.
        what: &'static str,
        /// Its value.
        got: usize,
        /// Key of the size to be divided.
        whole: &'static str,
        /// Its value.
        of: usize,
        /// Closest values that divide.
        nearest: String,
    },
    /// A real number of the configuration is outside its range.
    #[error("{what} is {got}, but must be {rule}")]
    Value {
        /// Key of the configuration.
        what: &'static str,
        /// Its value.
        got: f64,
        /// The range in words.
        rule: &'static str,
    },
    /// A choice that the model's family does not have.
    #[error("a model of family {family} has {key} {supported}")]
    Family {
        /// The family.
        family: crate::Family,
        /// Keys of the configuration.
        key: &'static str,
        /// The only values.
        supported: &'static str,
    },
    /// An input has another shape than the configuration asks for.
    #[error("{what} has shape {got:?}, expected {expected:?}")]
    Input {
        /// The input.
        what: &'static str,
        /// The shape that the model takes.
        expected: Vec<usize>,
        /// The shape given.
        got: Vec<usize>,
    },
    /// A backward pass was given what the forward pass of another model kept.
    #[error("the activations were kept by a model of another family; give backward what the same model's forward kept")]
    OtherActivations,
    /// A token length is zero or longer than the row.
    #[error("length {got} of text {index} is not within 1..={limit}")]
    Length {
        /// Row of the batch.
        index: usize,
        /// The length given.
        got: u32,
        /// Tokens in a row.
        limit: usize,
    },
    /// A file could not be read or written.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// A tensor file is shorter or longer than its header says.
    #[error("{} has {found} bytes, its header asks for {expected}: damaged, copy it again", path.display())]
    FileLength {
        /// The file.
        path: PathBuf,
        /// Bytes that the header asks for.
        expected: u64,
        /// Bytes there are.
        found: u64,
    },
    /// The header of a tensor file claims an absurd length.
    #[error("{} claims a header of {got} bytes, over the limit of {limit}: not a safetensors file", path.display())]
    HeaderLength {
        /// The file.
        path: PathBuf,
        /// Bytes claimed.
        got: u64,
        /// Most that is accepted.
        limit: u64,
    },
    /// A JSON text is damaged, or describes tensors that overlap, leave holes or do not fit their shapes.
    #[error("{} is not valid", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// The parser's reason.
        #[source]
        source: serde_json::Error,
    },
    /// Two tensors of a file have one name.
    #[error("{} holds tensor {name:?} twice", path.display())]
    DuplicateTensor {
        /// The file.
        path: PathBuf,
        /// The name.
        name: String,
    },
    /// A tensor file has more tensors or longer names than any model.
    #[error("{} has {got} {what}, over the limit of {limit}", path.display())]
    TooMany {
        /// The file.
        path: PathBuf,
        /// What there is too much of.
        what: &'static str,
        /// How many.
        got: usize,
        /// Most that is accepted.
        limit: usize,
    },
    /// A tensor file holds another model.
    #[error("{} does not fit the model:{differences}", path.display())]
    Mismatch {
        /// The file.
        path: PathBuf,
        /// Each difference.
        differences: crate::Differences,
    },
    /// The index of a model in several files is not sound.
    #[error("{} {what}", path.display())]
    Index {
        /// The index.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// An archive of arrays is not sound, or holds something else than a model.
    #[error("{} {what}", path.display())]
    Archive {
        /// The archive.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// A weight is NaN or infinite.
    #[error("{}: element {index} of {name} is {value}; the file is damaged or its training diverged", path.display())]
    NotFinite {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Index of the element.
        index: usize,
        /// Its value.
        value: f32,
    },
    /// A tensor of indices holds something else.
    #[error("{}: element {index} of {name} is {value}, not an index of 32 bits", path.display())]
    NotAnIndex {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Index of the element.
        index: usize,
        /// Its value.
        value: i64,
    },
    /// A configuration has a feature that no model here has.
    #[error("{}: {key} is {value}, which no model here has", path.display())]
    UnsupportedKey {
        /// The file.
        path: PathBuf,
        /// Key in the file.
        key: String,
        /// Its value.
        value: String,
    },
    /// Another library cannot compute what the model computes.
    #[error("the model cannot be written for {format}: {why}")]
    NotExportable {
        /// Whose files were asked for.
        format: &'static str,
        /// What stands in the way.
        why: String,
    },
    /// A folder holds one tower of a model, and not this one.
    #[error("{} holds one tower on its own, not the {tower} tower", path.display())]
    NoTower {
        /// The folder.
        path: PathBuf,
        /// The tower that was asked for.
        tower: &'static str,
    },
    /// Two towers do not make one model.
    #[error("{}: the tower's {what} is {found}, the model's is {expected}", path.display())]
    Towers {
        /// The tower's folder or file.
        path: PathBuf,
        /// What differs.
        what: &'static str,
        /// Of the tower.
        found: String,
        /// Of the model.
        expected: String,
    },
    /// A `config.json` asks for something that this crate does not build.
    #[error("{}: {key} is {value}, supported: {supported}", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// Key in the file.
        key: &'static str,
        /// Its value.
        value: String,
        /// Values that are supported.
        supported: &'static str,
    },
}

/// Result of a model call.
pub type Result<T, E = ModelError> = std::result::Result<T, E>;

//! What keeps a study from being run or drawn.

/// See the variants.
#[derive(Debug, thiserror::Error)]
pub enum StudyError {
    /// A study of a name that there is not.
    #[error("no study is named `{name}`; there are {known}, and `all`")]
    Unknown {
        /// As typed.
        name: String,
        /// All names.
        known: String,
    },
    /// A study whose runs have not ended yet.
    #[error(
        "nothing to draw for {study}: no seed of it, or of the studies that it looks at, has ended; run them first, or without a budget"
    )]
    Nothing {
        /// Its name.
        study: String,
    },
    /// A budget or a signal ended it before its draws.
    #[error("stopped before all of {study} was drawn; the same command goes on")]
    Stopped {
        /// Its name.
        study: String,
    },
    /// A figure that cannot be drawn.
    #[error("a figure could not be drawn: {problem}")]
    Figure {
        /// What went wrong.
        problem: String,
    },
}

impl StudyError {
    /// 2 for a name that is none, 8 for runs that are missing, 75 for a stop, else 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Unknown { .. } => 2,
            Self::Nothing { .. } => 8,
            Self::Stopped { .. } => 75,
            Self::Figure { .. } => 1,
        }
    }
}

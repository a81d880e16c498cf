//! The exit code of every fault.

use crate::error::TrainError;

impl TrainError {
    /// 1 unexpected, 3 configuration, 4 data, 5 not finite, 6 device, 7 storage, 8 checkpoint, 75 stopped by a signal.
    ///
    /// 0 is success and 2 is usage, neither an error of this type.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Signals { .. } | Self::Picture { .. } | Self::Template(_) => 1,
            Self::Json { .. } | Self::PlanText { .. } | Self::Parquet { .. } => 1,
            Self::Parity { .. } | Self::Values { .. } => 1,
            Self::Study(error) => error.exit_code(),
            Self::Config(_)
            | Self::NoTokenizer
            | Self::MissingTokenizer { .. }
            | Self::Vocabulary { .. }
            | Self::PixelsOfOtherSize { .. }
            | Self::Unfit { .. }
            | Self::Task { .. }
            | Self::Curate { .. }
            | Self::Threshold { .. }
            | Self::NoPlaceBeside
            | Self::NothingToCurateBy => 3,
            Self::OtherPlan { .. } | Self::ResumeElsewhere { .. } | Self::Selection(_) => 3,
            Self::Kernel(jest_kernels::KernelError::UnknownDevice(_)) => 3,
            Self::Data(jest_data::DataError::Io { action: "write" | "create", .. }) => 7,
            Self::Data(jest_data::DataError::Setting { .. }) => 3,
            Self::Data(_) | Self::NotCached { .. } | Self::NoTags { .. } | Self::Changed { .. } => 4,
            Self::DeviceSelection(jest_select::SelectError::NonFinite { .. }) => 5,
            Self::HostSelection(jest_select::SelectError::TooFewValid { .. }) => 4,
            Self::HostSelection(_) => 5,
            Self::Kernel(_) | Self::DeviceSelection(_) => 6,
            Self::Damaged { .. } | Self::NoCheckpoint { .. } | Self::OtherModel { .. } => 8,
            Self::NothingToResume { .. } | Self::NoTokenizerBeside { .. } => 8,
            Self::Model(error) => model_code(error),
            Self::NonFinite { .. } => 5,
            Self::Storage { .. } | Self::Locked { .. } => 7,
            Self::History { .. } | Self::NoTable { .. } | Self::OtherScores { .. } | Self::NoAudit { .. } => 8,
            Self::Stopped { .. } => 75,
        }
    }
}

/// A model that cannot be is a matter of configuration; a weight file that cannot be read, of the checkpoint.
fn model_code(error: &jest_model::ModelError) -> u8 {
    use jest_model::ModelError::{Family, Io, Kernel, NotDivisor, Size, UnknownPreset, Value};
    match error {
        UnknownPreset { .. } | NotDivisor { .. } | Size { .. } | Value { .. } | Family { .. } => 3,
        Kernel(_) => 6,
        Io { source, .. } if source.kind() != std::io::ErrorKind::NotFound => 7,
        _ => 8,
    }
}

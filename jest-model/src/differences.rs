//! How a weight file differs from a model.

use std::fmt;

/// Lines that the message of a mismatch lists before it only counts.
const LISTED: usize = 12;

/// One tensor that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Difference {
    /// The file lacks it.
    Missing {
        /// The tensor.
        name: String,
        /// Shape that the model has.
        expected: Vec<usize>,
    },
    /// The model has no such tensor.
    Unexpected {
        /// The tensor.
        name: String,
        /// Shape in the file.
        found: Vec<usize>,
    },
    /// The shapes differ.
    Shape {
        /// The tensor.
        name: String,
        /// Shape that the model has.
        expected: Vec<usize>,
        /// Shape in the file.
        found: Vec<usize>,
    },
    /// The file holds other elements than f32.
    DType {
        /// The tensor.
        name: String,
        /// Element type in the file.
        found: String,
    },
}

/// All differences between a weight file and a model, one a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Differences(pub Vec<Difference>);

impl Differences {
    /// Whether the file fits.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Difference {
    /// The tensor.
    pub fn name(&self) -> &str {
        match self {
            Self::Missing { name, .. }
            | Self::Unexpected { name, .. }
            | Self::Shape { name, .. }
            | Self::DType { name, .. } => name,
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Difference::Missing { name, expected } => write!(f, "{name}: expected {expected:?}, missing"),
            Difference::Unexpected { name, found } => write!(f, "{name}: found {found:?}, not expected"),
            Difference::Shape { name, expected, found } => write!(f, "{name}: expected {expected:?}, found {found:?}"),
            Difference::DType { name, found } => write!(f, "{name}: expected F32, found {found}; convert it to F32"),
        }
    }
}

impl fmt::Display for Differences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for difference in self.0.iter().take(LISTED) {
            write!(f, "\n  {difference}")?;
        }
        match self.0.len().saturating_sub(LISTED) {
            0 => Ok(()),
            more => write!(f, "\n  and {more} more"),
        }
    }
}

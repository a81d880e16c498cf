//! What a user should know about a plan that is valid all the same.

use std::fmt;

use jest_select::Method;

/// A remark printed with the plan.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Note {
    /// A run sets a key itself, so that a flag does not reach it.
    Shadowed {
        /// Name of the run.
        run: String,
        /// The key, with its table.
        key: String,
        /// The flag as typed.
        flag: String,
    },
    /// `--wd` is open_clip's: multiplied by the learning rate.
    TorchDecay,
    /// A flag of open_clip's that changes nothing here.
    PassedOver {
        /// The flag.
        flag: String,
        /// Why not.
        reason: &'static str,
    },
    /// A run names a reference that its selection does not read.
    UnusedReference {
        /// Name of the run.
        run: String,
    },
    /// A run sets a key of `[selection]` that its method does not read.
    Unread {
        /// Name of the run.
        run: String,
        /// The key, within its table.
        key: &'static str,
        /// The method.
        method: Method,
    },
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shadowed { run, key, flag } => {
                write!(f, "run \"{run}\" sets {key} itself: {flag} does not reach it; --set run.{run}.{key}=VALUE does")
            }
            Self::TorchDecay => {
                f.write_str("--wd is multiplied by the learning rate, as in open_clip: optimizer.decay = \"lr\"")
            }
            Self::PassedOver { flag, reason } => write!(f, "{flag} changes nothing here: {reason}"),
            Self::UnusedReference { run } => {
                write!(f, "run \"{run}\" names a reference that its selection does not read")
            }
            Self::Unread { run, key, method } => {
                write!(f, "run \"{run}\" sets selection.{key}, which selection.method = \"{method}\" does not read")
            }
        }
    }
}

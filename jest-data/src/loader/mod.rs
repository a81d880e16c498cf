//! From sources to super-batches: an endless shuffled stream that resumes exactly, and a single pass in order.

mod cache;
mod config;
mod endless;
mod once;
mod reader;
mod shuffle;
mod stream;

pub use config::{CaptionChoice, Captions, LoaderConfig, Shuffle};
pub use endless::{Loader, LoaderState};
pub(crate) use once::read_labelled;
pub use once::{OtherCaption, ReadAll, read_all, read_captions};

//! Vision and text transformers of SigLIP.

mod config;
mod differences;
mod error;
pub mod flops;
mod hf_config;
mod init;
mod param;
mod preset;
pub mod tensor_file;
mod view;

pub use config::{Activation, ModelConfig, TextConfig, TextPadding, TextPool, VisionConfig};
pub use differences::{Difference, Differences};
pub use error::{ModelError, Result};
pub use param::{Param, Parameters};
pub use preset::Preset;
pub use tensor_file::TensorFile;
pub use view::View;

//! Arguments of `jest import` and `jest export`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use jest_model::{Interpolation, TextPositions};
use serde::de::{DeserializeOwned, IntoDeserializer, value};

/// Arguments of `jest import`.
#[derive(Debug, Clone, Args)]
pub struct ImportArgs {
    /// Folder of transformers or open_clip, or big_vision's .npz file
    #[arg(value_name = "SOURCE")]
    pub source: PathBuf,
    /// Folder that is written
    #[arg(value_name = "FOLDER")]
    pub folder: PathBuf,
    /// Folder or file whose text tower is taken in place of the source's
    #[arg(long, value_name = "SOURCE")]
    pub text: Option<PathBuf>,
    /// Side of the picture in pixels, where not as stored: positions are resized
    #[arg(long, value_name = "PIXELS")]
    pub image_size: Option<usize>,
    /// Side of a patch, where not as stored: kernels and positions are resized
    #[arg(long, value_name = "PIXELS")]
    pub patch_size: Option<usize>,
    /// Tokens of a caption, where not as stored
    #[arg(long, value_name = "N")]
    pub text_tokens: Option<usize>,
    /// Ids of the text tower, where not as stored: rows are kept by id, new ones drawn
    #[arg(long, value_name = "N")]
    pub vocab_size: Option<usize>,
    /// Of kernels and positions of images: bicubic (timm, open_clip; the default), bilinear (big_vision) or cubic (DINOv2, the
    /// default for it)
    #[arg(long, value_name = "WORD", value_parser = word::<Interpolation>)]
    pub interpolation: Option<Interpolation>,
    /// Of positions of texts: linear (open_clip; the default), or truncate: the first ones are kept (the default for BERT)
    #[arg(long, value_name = "WORD", value_parser = word::<TextPositions>)]
    pub text_positions: Option<TextPositions>,
    /// Of rows that a larger vocabulary adds, and of what no file holds
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

/// A word of a configuration.
fn word<T: DeserializeOwned>(text: &str) -> Result<T, value::Error> {
    T::deserialize(text.into_deserializer())
}

/// Arguments of `jest export`.
#[derive(Debug, Clone, Args)]
pub struct ExportArgs {
    /// Run folder, or checkpoint folder
    #[arg(value_name = "SOURCE")]
    pub source: PathBuf,
    /// Folder that is written
    #[arg(value_name = "FOLDER")]
    pub folder: PathBuf,
    /// Whose files
    #[arg(long, value_enum)]
    pub format: ExportFormat,
}

/// Whose files a model is written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    /// Hugging Face's transformers
    Hf,
    /// open_clip
    OpenClip,
    /// ONNX: a file for each tower
    Onnx,
}

impl ExportFormat {
    /// Its spelling.
    pub fn word(self) -> &'static str {
        match self {
            Self::Hf => "hf",
            Self::OpenClip => "open-clip",
            Self::Onnx => "onnx",
        }
    }
}

//! Names, shapes and order of a model's tensors in the files of several libraries.

mod big_vision;
mod dual;
mod open_clip;

use crate::config::{Family, ModelConfig};
use crate::param::Param;
use crate::stored::FilePart;

/// Whose names and shapes a weight file has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Hugging Face's `SiglipModel`, `CLIPModel` and `VisionTextDualEncoderModel`.
    HuggingFace,
    /// Hugging Face's, of one tower on its own.
    HuggingFaceTower {
        /// Whether its names say which tower it is, as in a whole model; the fifth version of the library leaves it out.
        prefixed: bool,
    },
    /// open_clip's: a timm trunk for SigLIP, its own towers for CLIP.
    OpenClip {
        /// Whether the names of CLIP's text tower begin with `text.`, as SigLIP's always do.
        custom_text: bool,
    },
    /// big_vision's, of SigLIP alone.
    BigVision {
        /// What every name begins with: nothing, or `params/`.
        prefix: &'static str,
        /// Which towers' blocks are stacked.
        stacked: Stacked,
    },
}

impl Layout {
    /// Tensors of the file that hold a parameter, one after the other.
    pub(crate) fn parts(self, param: &Param, config: &ModelConfig) -> Vec<FilePart> {
        match self {
            Self::HuggingFace | Self::HuggingFaceTower { prefixed: true } if config.family == Family::Dual => {
                dual::parts(param)
            }
            Self::HuggingFace | Self::HuggingFaceTower { prefixed: true } => param.file_parts(),
            Self::HuggingFaceTower { prefixed: false } => {
                let bare = |name: &str| {
                    let inner = name.strip_prefix("vision_model.").or_else(|| name.strip_prefix("text_model."));
                    inner.unwrap_or(name).to_string()
                };
                let named = |part: FilePart| FilePart { name: bare(&part.name), ..part };
                Self::HuggingFace.parts(param, config).into_iter().map(named).collect()
            }
            Self::OpenClip { custom_text } => vec![open_clip::part(param, config, custom_text)],
            Self::BigVision { prefix, stacked } => big_vision::parts(param, config, prefix, stacked),
        }
    }

    /// Why a tensor of the file is not read; none where it is.
    pub(crate) fn ignored(self, name: &str, config: &ModelConfig) -> Option<&'static str> {
        let named_so = matches!(self, Self::HuggingFace | Self::HuggingFaceTower { .. });
        (named_so && config.family == Family::Dual).then(|| dual::ignored(name, config)).flatten()
    }
}

pub use big_vision::Stacked;
pub(crate) use big_vision::{config as big_vision_config, ignored as ignored_by_big_vision};

/// Which block of a tower a name is about, and the rest of it: `encoder.layers.3.mlp.fc1.bias`.
fn block(name: &str) -> Option<(&str, &str)> {
    name.strip_prefix("encoder.layers.")?.split_once('.')
}

/// The name with its first part replaced, if it begins so.
fn swap(name: &str, pairs: &[(&str, &str)]) -> Option<String> {
    pairs.iter().find_map(|(ours, theirs)| Some(format!("{theirs}{}", name.strip_prefix(ours)?)))
}

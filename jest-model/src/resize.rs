//! Models at other sizes than they were stored at: position tables, patch kernels, vocabulary.

use jest_kernels::ops::resize_kernel::{Resize, resize_grid, resize_kernels, resize_line};
use serde::{Deserialize, Serialize};

use crate::config::{Family, ModelConfig};
use crate::init::{Init, values};
use crate::{ModelError, Result};

pub(crate) const PATCH_KERNEL: &str = "vision_model.embeddings.patch_embedding.weight";
pub(crate) const IMAGE_POSITIONS: &str = "vision_model.embeddings.position_embedding.weight";
pub(crate) const TOKENS: &str = "text_model.embeddings.token_embedding.weight";
pub(crate) const TEXT_POSITIONS: &str = "text_model.embeddings.position_embedding.weight";

/// Sizes that a model can be given as it is read; `None`: as stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NewSizes {
    /// Side of the image in pixels.
    pub image_size: Option<usize>,
    /// Side of a patch in pixels.
    pub patch_size: Option<usize>,
    /// Tokens of a text.
    pub text_tokens: Option<usize>,
    /// Number of different tokens.
    pub vocab_size: Option<usize>,
}

/// Between what positions and patch kernels are interpolated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Interpolation {
    /// Cubic with antialias: timm's and open_clip's.
    #[default]
    Bicubic,
    /// Linear without antialias, in position tables with corners that stay corners: big_vision's.
    Bilinear,
    /// Positions cubic without antialias, as DINOv2 does with its own; kernels as [`Interpolation::Bicubic`].
    Cubic,
}

/// How a text tower's positions become fewer or more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TextPositions {
    /// Interpolated linearly: open_clip's.
    #[default]
    Linear,
    /// The first ones are kept as they are.
    Truncate,
}

/// How a model gets to other sizes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resizing {
    /// Of the image tower; where absent `Bicubic`, of family dual `Cubic`.
    pub interpolation: Option<Interpolation>,
    /// Of the text tower; where absent `Linear`, of family dual `Truncate`, as BERT's positions are counted from the start.
    pub text_positions: Option<TextPositions>,
    /// Seed of rows that a larger vocabulary adds.
    pub seed: u64,
}

impl ModelConfig {
    /// The same model at other sizes.
    ///
    /// # Errors
    /// `Size` for a vocabulary without the token that ends a text, and where more positions than there are should be
    /// the first ones; what [`ModelConfig::validate`] reports.
    pub fn resized(&self, sizes: &NewSizes, how: &Resizing) -> Result<Self> {
        let mut config = self.clone();
        let set = |slot: &mut usize, value: Option<usize>| *slot = value.unwrap_or(*slot);
        set(&mut config.vision.image_size, sizes.image_size);
        set(&mut config.vision.patch_size, sizes.patch_size);
        set(&mut config.text.tokens, sizes.text_tokens);
        set(&mut config.text.vocab_size, sizes.vocab_size);
        let (eos_id, got) = (self.text.eos_id, config.text.vocab_size);
        if eos_id as usize >= got {
            let rule = format!("above {eos_id}, the id that ends a text: rows are kept by id");
            return Err(ModelError::Size { what: "text.vocab_size", got, rule });
        }
        let got = config.text.tokens;
        if how.text_positions(self) == TextPositions::Truncate && got > self.text.tokens {
            let rule =
                format!("within 1..={} when positions are truncated; interpolate them linearly", self.text.tokens);
            return Err(ModelError::Size { what: "text.tokens", got, rule });
        }
        config.validate()?;
        Ok(config)
    }
}

impl Resizing {
    fn interpolation(&self, config: &ModelConfig) -> Interpolation {
        let own = if config.family == Family::Dual { Interpolation::Cubic } else { Interpolation::Bicubic };
        self.interpolation.unwrap_or(own)
    }

    fn text_positions(&self, config: &ModelConfig) -> TextPositions {
        let own = if config.family == Family::Dual { TextPositions::Truncate } else { TextPositions::Linear };
        self.text_positions.unwrap_or(own)
    }

    /// What becomes of a parameter between two sizes of a model, in words; none where it stays as it is.
    pub(crate) fn describe(&self, name: &str, from: &ModelConfig, to: &ModelConfig) -> Option<String> {
        let [(patch, grid), (new_patch, new_grid)] =
            [from, to].map(|config| (config.vision.patch_size, config.vision.grid()));
        let (text, new) = (&from.text, &to.text);
        let (kernels, positions) = match self.interpolation(from) {
            Interpolation::Bicubic => ("bicubic with antialias", "bicubic with antialias"),
            Interpolation::Bilinear => ("bilinear", "bilinear"),
            Interpolation::Cubic => ("bicubic with antialias", "cubic without antialias"),
        };
        match name {
            PATCH_KERNEL if patch != new_patch => Some(format!(
                "patches of {patch} x {patch} -> {new_patch} x {new_patch} by the pseudo-inverse of a {kernels} resize"
            )),
            IMAGE_POSITIONS if grid != new_grid => {
                Some(format!("positions of {grid} x {grid} -> {new_grid} x {new_grid} patches, {positions}"))
            }
            TEXT_POSITIONS if text.tokens != new.tokens => Some(match self.text_positions(from) {
                TextPositions::Linear => format!("positions of {} -> {} tokens, linear", text.tokens, new.tokens),
                TextPositions::Truncate => format!("the first {} of {} positions", new.tokens, text.tokens),
            }),
            TOKENS if new.vocab_size < text.vocab_size => {
                Some(format!("rows of ids 0..{} of {} are kept", new.vocab_size, text.vocab_size))
            }
            TOKENS if new.vocab_size > text.vocab_size => Some(format!(
                "rows of ids 0..{0} are kept, those of {0}..{1} drawn as in a new model with seed {2}",
                text.vocab_size, new.vocab_size, self.seed
            )),
            _ => None,
        }
    }

    /// The elements of a parameter at the sizes of `to`.
    pub(crate) fn apply(&self, name: &str, x: Vec<f32>, from: &ModelConfig, to: &ModelConfig) -> Result<Vec<f32>> {
        if self.describe(name, from, to).is_none() {
            return Ok(x);
        }
        let (kernels, positions) = match self.interpolation(from) {
            Interpolation::Bicubic => (Resize::BicubicAntialias, Resize::BicubicAntialias),
            Interpolation::Bilinear => (Resize::Bilinear, Resize::BilinearCorners),
            Interpolation::Cubic => (Resize::BicubicAntialias, Resize::Bicubic),
        };
        let (width, text_width) = (from.vision.width, from.text.width);
        Ok(match name {
            PATCH_KERNEL => resize_kernels(kernels, &x, from.vision.patch_size, to.vision.patch_size)?,
            IMAGE_POSITIONS => {
                let (class, grid) = x.split_at(from.class_tokens() * width);
                [class, &resize_grid(positions, grid, from.vision.grid(), to.vision.grid())?].concat()
            }
            TEXT_POSITIONS if self.text_positions(from) == TextPositions::Linear => {
                resize_line(Resize::Bilinear, &x, from.text.tokens, to.text.tokens)?
            }
            TEXT_POSITIONS => x[..to.text.tokens * text_width].to_vec(),
            // The vocabulary.
            _ => {
                let (kept, len) = (x.len(), to.text.vocab_size * text_width);
                let mut rows = x;
                if len > kept {
                    rows.extend(&values(Init::embedding(text_width), len, self.seed, TOKENS, 0)[kept..]);
                }
                rows.truncate(len);
                rows
            }
        })
    }
}

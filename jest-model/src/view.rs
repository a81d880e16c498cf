//! How a caller asks for an approximation of the towers.

use serde::{Deserialize, Serialize};

use crate::Result;
use crate::config::{ModelConfig, divides, within};

/// What the towers compute: the stored model, or a cheaper approximation of it with the same parameters.
///
/// The default is the stored model. Gradients flow through every view.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct View {
    /// Side of a patch in pixels: the stored kernels are resized (FlexiViT), and the position grid with them.
    pub patch_size: Option<usize>,
    /// Patches that the image tower sees of each image, drawn at random after their positions are added; a class token
    /// is seen besides.
    pub keep_tokens: Option<usize>,
    /// The text tower sees only so many leading tokens.
    pub text_tokens: Option<usize>,
    /// Seed of the draw of kept patches: take another for each step. Of no effect without `keep_tokens`.
    pub seed: u64,
}

impl View {
    /// The stored model at another patch size.
    pub fn patches(patch_size: usize) -> Self {
        Self { patch_size: Some(patch_size), ..Self::default() }
    }

    /// Patches along one side of the image.
    pub fn grid(&self, config: &ModelConfig) -> usize {
        config.vision.image_size / self.patch_size(config)
    }

    /// Side of a patch in pixels.
    pub fn patch_size(&self, config: &ModelConfig) -> usize {
        self.patch_size.unwrap_or(config.vision.patch_size)
    }

    /// Tokens in the blocks of the image tower.
    pub fn image_tokens(&self, config: &ModelConfig) -> usize {
        self.patches_seen(config) + config.class_tokens()
    }

    /// Patches in the blocks of the image tower.
    fn patches_seen(&self, config: &ModelConfig) -> usize {
        self.keep_tokens.unwrap_or_else(|| self.grid(config).pow(2))
    }

    /// Tokens in the blocks of the text tower.
    pub fn text_tokens(&self, config: &ModelConfig) -> usize {
        self.text_tokens.unwrap_or(config.text.tokens)
    }

    /// Refuses a view that the model cannot give.
    ///
    /// # Errors
    /// `NotDivisor` for a patch size that does not divide the image; `Size` for more tokens than there are, or none.
    pub fn validate(&self, config: &ModelConfig) -> Result<()> {
        let image_size = config.vision.image_size;
        within("view.patch_size", self.patch_size(config), image_size)?;
        divides("view.patch_size", self.patch_size(config), "vision.image_size", image_size)?;
        within("view.keep_tokens", self.patches_seen(config), self.grid(config).pow(2))?;
        within("view.text_tokens", self.text_tokens(config), config.text.tokens)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Preset;

    #[test]
    fn impossible_views_are_named() {
        let config = Preset::Mu.config();
        let said = View::patches(12).validate(&config).unwrap_err().to_string();
        assert_eq!(said, "view.patch_size 12 does not divide vision.image_size 32; nearest: 8 or 16");
        let view = View { patch_size: Some(16), keep_tokens: Some(5), ..View::default() };
        let said = view.validate(&config).unwrap_err().to_string();
        assert_eq!(said, "view.keep_tokens is 5, but must be within 1..=4");
        let view = View { text_tokens: Some(17), ..View::default() };
        assert!(view.validate(&config).unwrap_err().to_string().contains("view.text_tokens is 17"));
        View::default().validate(&config).unwrap();
    }
}

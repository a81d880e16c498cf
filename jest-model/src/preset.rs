//! Models by name.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::config::{Activation, ModelConfig, TextConfig, TextPadding, TextPool, VisionConfig};
use crate::{ModelError, Result};

/// A model size by name; the text tower has the width, depth, heads and mlp_dim of the image tower.
///
/// ```
/// use jest_model::Preset;
/// let preset: Preset = "b256".parse()?;
/// assert_eq!(preset.config().vision.grid(), 16);
/// # Ok::<(), jest_model::ModelError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Preset {
    /// For tests: image 32, patch 8, width 64, depth 2.
    Mu,
    /// For a CPU: image 64, patch 8, width 192, depth 6.
    Xs64,
    /// Tiny: image 128, patch 16, width 192, depth 12.
    Ti128,
    /// Small: image 224, patch 16, width 384, depth 12.
    S224,
    /// Base at 224 pixels: SigLIP B/16.
    B224,
    /// Base at 256 pixels: the paper's B/16.
    B256,
    /// Large at 256 pixels.
    L256,
    /// Shape-optimised at 224 pixels, patch 14.
    So400m,
}

/// Sizes of a preset, in the order of the table's columns.
struct Row {
    image_size: usize,
    patch_size: usize,
    width: usize,
    depth: usize,
    num_heads: usize,
    mlp_dim: usize,
    tokens: usize,
    vocab_size: usize,
}

impl Preset {
    /// All presets, small to large.
    pub const ALL: [Preset; 8] = [
        Preset::Mu,
        Preset::Xs64,
        Preset::Ti128,
        Preset::S224,
        Preset::B224,
        Preset::B256,
        Preset::L256,
        Preset::So400m,
    ];

    /// The name in configs and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Preset::Mu => "mu",
            Preset::Xs64 => "xs64",
            Preset::Ti128 => "ti128",
            Preset::S224 => "s224",
            Preset::B224 => "b224",
            Preset::B256 => "b256",
            Preset::L256 => "l256",
            Preset::So400m => "so400m",
        }
    }

    /// The complete configuration.
    pub fn config(self) -> ModelConfig {
        let row = self.row();
        let Row { image_size, patch_size, width, depth, num_heads, mlp_dim, tokens, vocab_size } = row;
        let (gelu, layer_norm_eps) = (Activation::Tanh, 1e-6);
        let vision = VisionConfig { image_size, patch_size, width, depth, num_heads, mlp_dim, gelu, layer_norm_eps };
        let text = TextConfig {
            tokens,
            vocab_size,
            width,
            depth,
            num_heads,
            mlp_dim,
            padding: TextPadding::Attended,
            pool: TextPool::Last,
            eos_id: 1,
            gelu,
            layer_norm_eps,
        };
        ModelConfig::new(vision, text)
    }

    #[rustfmt::skip]
    fn row(self) -> Row {
        let [image_size, patch_size, width, depth, num_heads, mlp_dim, tokens, vocab_size] = match self {
            //                image patch width depth heads   mlp tokens vocab
            Preset::Mu     => [  32,   8,   64,   2,   2,   256,  16,    512],
            Preset::Xs64   => [  64,   8,  192,   6,   3,   768,  32,  8_192],
            Preset::Ti128  => [ 128,  16,  192,  12,   3,   768,  64, 32_000],
            Preset::S224   => [ 224,  16,  384,  12,   6, 1_536,  64, 32_000],
            Preset::B224   => [ 224,  16,  768,  12,  12, 3_072,  64, 32_000],
            Preset::B256   => [ 256,  16,  768,  12,  12, 3_072,  64, 32_000],
            Preset::L256   => [ 256,  16, 1024,  24,  16, 4_096,  64, 32_000],
            Preset::So400m => [ 224,  14, 1152,  27,  16, 4_304,  16, 32_000],
        };
        Row { image_size, patch_size, width, depth, num_heads, mlp_dim, tokens, vocab_size }
    }
}

impl fmt::Display for Preset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Preset {
    type Err = ModelError;

    fn from_str(name: &str) -> Result<Self> {
        Preset::ALL.into_iter().find(|preset| preset.name() == name).ok_or_else(|| ModelError::UnknownPreset {
            name: name.to_string(),
            known: Preset::ALL.map(Preset::name).join(", "),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_is_valid_and_found_by_its_name() {
        for preset in Preset::ALL {
            preset.config().validate().unwrap();
            assert_eq!(preset.name().parse::<Preset>().unwrap(), preset);
        }
        let said = "b16".parse::<Preset>().unwrap_err().to_string();
        assert!(said.contains("\"b16\"") && said.contains("b224, b256"), "{said}");
    }
}

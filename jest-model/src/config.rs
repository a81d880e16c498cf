//! Sizes and choices that make a model.

use jest_kernels::ops::gelu::Gelu;
use serde::{Deserialize, Serialize};

use crate::{ModelError, Result};

/// Widest head that attention takes.
const MAX_HEAD_DIM: usize = 128;

/// Everything that determines a model's parameters and what it computes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// The image tower.
    pub vision: VisionConfig,
    /// The text tower.
    pub text: TextConfig,
    /// Activation of every MLP.
    #[serde(default)]
    pub gelu: Activation,
    /// Added to the variance in every layer norm.
    #[serde(default = "default_eps")]
    pub layer_norm_eps: f32,
    /// logit_scale t at the start of training.
    #[serde(default = "default_scale")]
    pub init_logit_scale: f32,
    /// logit_bias at the start of training.
    #[serde(default = "default_bias")]
    pub init_logit_bias: f32,
}

/// Sizes of the image tower.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VisionConfig {
    /// Side of the square image in pixels.
    pub image_size: usize,
    /// Side of a square patch in pixels, as stored.
    pub patch_size: usize,
    /// Length of a token's vector; also the length of an embedding.
    pub width: usize,
    /// Number of blocks.
    pub depth: usize,
    /// Attention heads of a block.
    pub num_heads: usize,
    /// Width inside an MLP.
    pub mlp_dim: usize,
}

/// Sizes of the text tower, and how it treats padding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextConfig {
    /// Tokens of a text, padding included.
    pub tokens: usize,
    /// Number of different tokens.
    pub vocab_size: usize,
    /// Length of a token's vector.
    pub width: usize,
    /// Number of blocks.
    pub depth: usize,
    /// Attention heads of a block.
    pub num_heads: usize,
    /// Width inside an MLP.
    pub mlp_dim: usize,
    /// Whether attention sees padding.
    #[serde(default)]
    pub padding: TextPadding,
    /// Which token becomes the embedding.
    #[serde(default)]
    pub pool: TextPool,
    /// Token that ends a text; written to `config.json` for other libraries.
    #[serde(default = "default_eos")]
    pub eos_id: u32,
}

/// Whether attention in the text tower sees padding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TextPadding {
    /// Padding takes part like any token: SigLIP's.
    #[default]
    Attended,
    /// No token attends to padding.
    Masked,
}

/// Which token of a text becomes its embedding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TextPool {
    /// The last position, padding or not: SigLIP's.
    #[default]
    Last,
    /// The last token that is not padding.
    Eos,
}

/// Which GELU the MLPs use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Activation {
    /// The tanh form: SigLIP's.
    #[default]
    Tanh,
    /// The exact form.
    Erf,
    /// `x sigmoid(1.702 x)`.
    Quick,
}

impl Activation {
    /// The operation's form.
    pub fn gelu(self) -> Gelu {
        match self {
            Activation::Tanh => Gelu::Tanh,
            Activation::Erf => Gelu::Erf,
            Activation::Quick => Gelu::Quick,
        }
    }
}

fn default_eps() -> f32 {
    1e-6
}

fn default_scale() -> f32 {
    10.0
}

fn default_bias() -> f32 {
    -10.0
}

fn default_eos() -> u32 {
    1
}

impl ModelConfig {
    /// A model with SigLIP's choices for all that is not a size.
    pub fn new(vision: VisionConfig, text: TextConfig) -> Self {
        Self {
            vision,
            text,
            gelu: Activation::Tanh,
            layer_norm_eps: default_eps(),
            init_logit_scale: default_scale(),
            init_logit_bias: default_bias(),
        }
    }

    /// Length of an embedding.
    pub fn embedding_dim(&self) -> usize {
        self.vision.width
    }

    /// Refuses sizes that do not fit together, naming the nearest that do.
    ///
    /// # Errors
    /// `NotDivisor`, `Size` or `Value` for the first key that is wrong.
    pub fn validate(&self) -> Result<()> {
        let (vision, text) = (&self.vision, &self.text);
        within("vision.image_size", vision.image_size, 8192)?;
        within("vision.patch_size", vision.patch_size, vision.image_size)?;
        divides("vision.patch_size", vision.patch_size, "vision.image_size", vision.image_size)?;
        within("vision.width", vision.width, 16_384)?;
        within("vision.depth", vision.depth, 512)?;
        within("vision.num_heads", vision.num_heads, vision.width)?;
        divides("vision.num_heads", vision.num_heads, "vision.width", vision.width)?;
        within("vision.width / vision.num_heads", vision.width / vision.num_heads, MAX_HEAD_DIM)?;
        within("vision.mlp_dim", vision.mlp_dim, 131_072)?;
        within("text.tokens", text.tokens, 8192)?;
        within("text.vocab_size", text.vocab_size, 4_194_304)?;
        within("text.width", text.width, 16_384)?;
        within("text.depth", text.depth, 512)?;
        within("text.num_heads", text.num_heads, text.width)?;
        divides("text.num_heads", text.num_heads, "text.width", text.width)?;
        within("text.width / text.num_heads", text.width / text.num_heads, MAX_HEAD_DIM)?;
        within("text.mlp_dim", text.mlp_dim, 131_072)?;
        if text.eos_id as usize >= text.vocab_size {
            let rule = format!("below text.vocab_size {}", text.vocab_size);
            return Err(ModelError::Size { what: "text.eos_id", got: text.eos_id as usize, rule });
        }
        positive("layer_norm_eps", self.layer_norm_eps)?;
        positive("init_logit_scale", self.init_logit_scale)?;
        if !self.init_logit_bias.is_finite() {
            let got = f64::from(self.init_logit_bias);
            return Err(ModelError::Value { what: "init_logit_bias", got, rule: "finite" });
        }
        Ok(())
    }

    /// Number of parameters, of both towers with logit_scale and logit_bias.
    pub fn parameter_count(&self) -> u64 {
        let (v, t) = (&self.vision, &self.text);
        let [w, m, p] = [v.width, v.mlp_dim, v.patch_size].map(|size| size as u64);
        let grid = (v.image_size / v.patch_size.max(1)) as u64;
        let head = w + 4 * (w * w + w) + 2 * w + mlp_parameters(w, m);
        let vision = 3 * p * p * w + w + grid * grid * w + v.depth as u64 * block_parameters(w, m) + 2 * w + head;
        let [tw, tm] = [t.width, t.mlp_dim].map(|size| size as u64);
        let embedding = (t.vocab_size + t.tokens) as u64 * tw;
        let text = embedding + t.depth as u64 * block_parameters(tw, tm) + 2 * tw + tw * w + w;
        vision + text + 2
    }
}

impl VisionConfig {
    /// Patches along one side of the image, as stored.
    pub fn grid(&self) -> usize {
        self.image_size / self.patch_size
    }
}

fn mlp_parameters(width: u64, mlp_dim: u64) -> u64 {
    2 * width * mlp_dim + mlp_dim + width
}

fn block_parameters(width: u64, mlp_dim: u64) -> u64 {
    4 * (width * width + width) + mlp_parameters(width, mlp_dim) + 4 * width
}

pub(crate) fn within(what: &'static str, got: usize, most: usize) -> Result<()> {
    if (1..=most).contains(&got) {
        return Ok(());
    }
    Err(ModelError::Size { what, got, rule: format!("within 1..={most}") })
}

fn positive(what: &'static str, got: f32) -> Result<()> {
    if got.is_finite() && got > 0.0 {
        return Ok(());
    }
    Err(ModelError::Value { what, got: f64::from(got), rule: "finite and above 0" })
}

pub(crate) fn divides(what: &'static str, got: usize, whole: &'static str, of: usize) -> Result<()> {
    if of.is_multiple_of(got) {
        return Ok(());
    }
    let below = (1..got).rev().find(|size| of.is_multiple_of(*size));
    let above = (got + 1..=of).find(|size| of.is_multiple_of(*size));
    let nearest = [below, above].into_iter().flatten().map(|size| size.to_string()).collect::<Vec<_>>().join(" or ");
    Err(ModelError::NotDivisor { what, got, whole, of, nearest })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Preset;

    fn complaint(change: impl Fn(&mut ModelConfig)) -> String {
        let mut config = Preset::Mu.config();
        change(&mut config);
        config.validate().unwrap_err().to_string()
    }

    #[test]
    fn wrong_sizes_name_the_nearest_right_ones() {
        let said = complaint(|config| config.vision.patch_size = 12);
        assert_eq!(said, "vision.patch_size 12 does not divide vision.image_size 32; nearest: 8 or 16");
        let said = complaint(|config| config.text.num_heads = 3);
        assert_eq!(said, "text.num_heads 3 does not divide text.width 64; nearest: 2 or 4");
        let said = complaint(|config| (config.text.width, config.text.num_heads) = (258, 2));
        assert_eq!(said, "text.width / text.num_heads is 129, but must be within 1..=128");
        let said = complaint(|config| config.vision.depth = 0);
        assert_eq!(said, "vision.depth is 0, but must be within 1..=512");
        let said = complaint(|config| config.text.eos_id = 512);
        assert_eq!(said, "text.eos_id is 512, but must be below text.vocab_size 512");
        assert!(complaint(|config| config.layer_norm_eps = f32::NAN).starts_with("layer_norm_eps is NaN"));
        assert!(complaint(|config| config.vision.patch_size = 0).starts_with("vision.patch_size is 0"));
        assert!(complaint(|config| config.vision.image_size = usize::MAX).starts_with("vision.image_size is"));
    }

    #[test]
    fn parameter_counts_are_those_of_published_models() {
        assert_eq!(Preset::B224.config().parameter_count(), 203_155_970);
        let mut large_vocabulary = Preset::B224.config();
        large_vocabulary.text.vocab_size = 256_000;
        assert_eq!(large_vocabulary.parameter_count(), 375_187_970);
    }

    #[test]
    fn survives_json() {
        let config = Preset::Xs64.config();
        let text = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<ModelConfig>(&text).unwrap(), config);
        assert!(serde_json::from_str::<ModelConfig>(&text.replace("\"depth\"", "\"deepth\"")).is_err());
    }
}

//! Sizes and choices that make a model.

use std::fmt;

use jest_kernels::ops::gelu::Gelu;
use serde::{Deserialize, Serialize};

use crate::{ModelError, Result};

/// Widest head that attention takes.
const MAX_HEAD_DIM: usize = 128;

/// Everything that determines a model's parameters and what it computes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// Whose layers, around the blocks.
    #[serde(default)]
    pub family: Family,
    /// The image tower.
    pub vision: VisionConfig,
    /// The text tower.
    pub text: TextConfig,
    /// Length of an embedding, of a family with a projection; the width of the image tower where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embedding_dim: Option<usize>,
    /// logit_scale t at the start of training.
    #[serde(default = "default_scale")]
    pub init_logit_scale: f32,
    /// logit_bias at the start of training.
    #[serde(default = "default_bias")]
    pub init_logit_bias: f32,
}

/// What the towers have around their blocks, which are alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// Attention pooling of the patches, texts that see all of themselves, a text head with a bias, a logit_bias.
    #[default]
    Siglip,
    /// A class token that is pooled, a layer norm before the blocks, causal texts, projections without bias, no
    /// logit_bias.
    Clip,
    /// Pretrained backbones: DINOv2's image tower, with a class token that is pooled and scales behind attention and MLP;
    /// BERT's text tower, with norms behind attention and MLP, that sees no padding; projections without bias; a logit_bias
    /// where it does not start at 0.
    Dual,
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Siglip => "siglip",
            Self::Clip => "clip",
            Self::Dual => "dual",
        })
    }
}

/// Sizes of the image tower.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VisionConfig {
    /// Side of the square image in pixels.
    pub image_size: usize,
    /// Side of a square patch in pixels, as stored.
    pub patch_size: usize,
    /// Length of a token's vector; SigLIP's embeddings are as long.
    pub width: usize,
    /// Number of blocks.
    pub depth: usize,
    /// Attention heads of a block.
    pub num_heads: usize,
    /// Width inside an MLP.
    pub mlp_dim: usize,
    /// Activation of every MLP.
    #[serde(default)]
    pub gelu: Activation,
    /// Added to the variance in every layer norm.
    #[serde(default = "default_eps")]
    pub layer_norm_eps: f32,
}

/// Sizes of the text tower, and how it treats padding.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
    /// Activation of every MLP.
    #[serde(default)]
    pub gelu: Activation,
    /// Added to the variance in every layer norm.
    #[serde(default = "default_eps")]
    pub layer_norm_eps: f32,
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
    /// The last token that is not padding: CLIP's.
    Eos,
    /// The mean of all tokens that are not padding: of family dual.
    Mean,
    /// The first token, through a linear layer and tanh: BERT's pooler, of family dual.
    Pooler,
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
            family: Family::Siglip,
            vision,
            text,
            embedding_dim: None,
            init_logit_scale: default_scale(),
            init_logit_bias: default_bias(),
        }
    }

    /// The same sizes with CLIP's choices: its layers, causal texts read at their end, quick GELU, a scale of 1 / 0.07
    /// and no bias.
    pub fn into_clip(mut self) -> Self {
        self.family = Family::Clip;
        (self.vision.gelu, self.text.gelu) = (Activation::Quick, Activation::Quick);
        (self.vision.layer_norm_eps, self.text.layer_norm_eps) = (1e-5, 1e-5);
        (self.text.padding, self.text.pool) = (TextPadding::Attended, TextPool::Eos);
        (self.init_logit_scale, self.init_logit_bias) = (1.0 / 0.07, 0.0);
        self
    }

    /// The same sizes with the choices of DINOv2 and BERT, a scale of 1 / 0.07 and no bias.
    pub fn into_dual(mut self) -> Self {
        self.family = Family::Dual;
        (self.vision.gelu, self.text.gelu) = (Activation::Erf, Activation::Erf);
        (self.vision.layer_norm_eps, self.text.layer_norm_eps) = (1e-6, 1e-12);
        (self.text.padding, self.text.pool) = (TextPadding::Masked, TextPool::Mean);
        (self.init_logit_scale, self.init_logit_bias) = (1.0 / 0.07, 0.0);
        self
    }

    /// Whether the logits have a bias that is trained.
    pub fn has_logit_bias(&self) -> bool {
        self.family == Family::Siglip || self.init_logit_bias != 0.0
    }

    /// Length of an embedding.
    pub fn embedding_dim(&self) -> usize {
        self.embedding_dim.unwrap_or(self.vision.width)
    }

    /// Tokens of an image that are no patches: a class token.
    pub fn class_tokens(&self) -> usize {
        usize::from(self.family != Family::Siglip)
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
        positive("vision.layer_norm_eps", vision.layer_norm_eps)?;
        positive("text.layer_norm_eps", text.layer_norm_eps)?;
        positive("init_logit_scale", self.init_logit_scale)?;
        if !self.init_logit_bias.is_finite() {
            let got = f64::from(self.init_logit_bias);
            return Err(ModelError::Value { what: "init_logit_bias", got, rule: "finite" });
        }
        self.validate_family()
    }

    /// What a family does not have cannot be asked for.
    fn validate_family(&self) -> Result<()> {
        let (d, family) = (self.embedding_dim(), self.family);
        within("embedding_dim", d, 16_384)?;
        let refuse = |key, supported| Err(ModelError::Family { family, key, supported });
        let (text, token) = (&self.text, matches!(self.text.pool, TextPool::Last | TextPool::Eos));
        match family {
            Family::Siglip if d != self.vision.width => {
                let rule =
                    format!("vision.width, {}: an image tower of family siglip has no projection", self.vision.width);
                Err(ModelError::Size { what: "embedding_dim", got: d, rule })
            }
            Family::Siglip if !token => refuse("text.pool", "last or eos"),
            Family::Clip if text.pool != TextPool::Eos || text.padding != TextPadding::Attended => {
                refuse("text.pool and text.padding", "eos and attended")
            }
            Family::Clip if self.init_logit_bias != 0.0 => refuse("init_logit_bias", "0: it has no logit_bias"),
            Family::Dual if token => refuse("text.pool", "mean or pooler"),
            Family::Dual if text.padding != TextPadding::Masked => refuse("text.padding", "masked"),
            _ => Ok(()),
        }
    }
}

impl VisionConfig {
    /// Patches along one side of the image, as stored.
    pub fn grid(&self) -> usize {
        self.image_size / self.patch_size
    }
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
        let said = complaint(|config| config.text.layer_norm_eps = f32::NAN);
        assert!(said.starts_with("text.layer_norm_eps is NaN"), "{said}");
        assert!(
            complaint(|config| config.embedding_dim = Some(32))
                .starts_with("embedding_dim is 32, but must be vision.width")
        );
        let clip = |change: fn(&mut ModelConfig)| {
            complaint(|config| {
                *config = config.clone().into_clip();
                change(config);
            })
        };
        assert!(clip(|config| config.text.pool = TextPool::Last).contains("a model of family clip has text.pool"));
        assert!(clip(|config| config.init_logit_bias = -1.0).contains("init_logit_bias"));
        let dual = |change: fn(&mut ModelConfig)| {
            complaint(|config| {
                *config = config.clone().into_dual();
                change(config);
            })
        };
        let said = dual(|config| config.text.pool = TextPool::Eos);
        assert_eq!(said, "a model of family dual has text.pool mean or pooler");
        assert!(dual(|config| config.text.padding = TextPadding::Attended).ends_with("text.padding masked"));
        assert!(complaint(|config| config.text.pool = TextPool::Mean).ends_with("text.pool last or eos"));
        assert!(complaint(|config| config.vision.patch_size = 0).starts_with("vision.patch_size is 0"));
        assert!(complaint(|config| config.vision.image_size = usize::MAX).starts_with("vision.image_size is"));
    }

    #[test]
    fn survives_json() {
        let config = Preset::Xs64.config();
        let text = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<ModelConfig>(&text).unwrap(), config);
        assert!(serde_json::from_str::<ModelConfig>(&text.replace("\"depth\"", "\"deepth\"")).is_err());
    }
}

//! DINOv2's and BERT's part of `config.json`: alone, or in a `VisionTextDualEncoderModel`.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Refuse, activation};
use crate::Result;
use crate::config::{Activation, ModelConfig, TextConfig, TextPadding, TextPool, VisionConfig};
use crate::parameter_count::TOKEN_TYPES;

/// `model_type` of a whole model.
pub(super) const WHOLE: &str = "vision-text-dual-encoder";
/// `model_type` of its image tower.
pub(super) const VISION: &str = "dinov2";
/// `model_type` of its text tower.
pub(super) const TEXT: &str = "bert";
/// The end mark `[SEP]` of BERT's published vocabularies, which its configuration does not name.
const SEP: u32 = 102;

/// Keys of a `Dinov2Config` or a `BertConfig`.
#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Backbone {
    model_type: Option<String>,
    hidden_size: Option<usize>,
    num_hidden_layers: Option<usize>,
    num_attention_heads: Option<usize>,
    hidden_act: Option<String>,
    layer_norm_eps: Option<f32>,
    image_size: Option<usize>,
    patch_size: Option<usize>,
    num_channels: Option<usize>,
    mlp_ratio: Option<f64>,
    qkv_bias: Option<bool>,
    use_swiglu_ffn: Option<bool>,
    vocab_size: Option<usize>,
    intermediate_size: Option<usize>,
    max_position_embeddings: Option<usize>,
    type_vocab_size: Option<usize>,
    position_embedding_type: Option<String>,
    is_decoder: Option<bool>,
    eos_token_id: Option<Value>,
}

impl Backbone {
    fn activation(&self, key: &'static str, refuse: &Refuse<'_>) -> Result<Activation> {
        let name = self.hidden_act.as_deref().unwrap_or("gelu");
        activation(name).map_or_else(|| refuse.unsupported(key, &name, super::ACTIVATIONS), Ok)
    }

    /// DINOv2's image tower.
    pub fn vision(&self, refuse: &Refuse<'_>) -> Result<VisionConfig> {
        if self.model_type.as_deref() != Some(VISION) {
            let found = self.model_type.clone().unwrap_or_default();
            return refuse.unsupported("vision_config.model_type", &found, "dinov2, without registers");
        }
        for (key, found, only) in [
            ("vision_config.use_swiglu_ffn", self.use_swiglu_ffn.unwrap_or(false), false),
            ("vision_config.qkv_bias", self.qkv_bias.unwrap_or(true), true),
        ] {
            if found != only {
                return refuse.unsupported(key, &found, if only { "true" } else { "false" });
            }
        }
        let channels = self.num_channels.unwrap_or(3);
        if channels != 3 {
            return refuse.unsupported("vision_config.num_channels", &channels, "3");
        }
        let width = self.hidden_size.unwrap_or(768);
        Ok(VisionConfig {
            image_size: self.image_size.unwrap_or(224),
            patch_size: self.patch_size.unwrap_or(14),
            width,
            depth: self.num_hidden_layers.unwrap_or(12),
            num_heads: self.num_attention_heads.unwrap_or(12),
            mlp_dim: (width as f64 * self.mlp_ratio.unwrap_or(4.0)) as usize,
            gelu: self.activation("vision_config.hidden_act", refuse)?,
            layer_norm_eps: self.layer_norm_eps.unwrap_or(1e-6),
        })
    }

    /// BERT's text tower.
    pub fn text(&self, pool: TextPool, refuse: &Refuse<'_>) -> Result<TextConfig> {
        if self.model_type.as_deref() != Some(TEXT) {
            let found = self.model_type.clone().unwrap_or_default();
            return refuse.unsupported("text_config.model_type", &found, TEXT);
        }
        if let Some(kind) = self.position_embedding_type.as_deref().filter(|kind| *kind != "absolute") {
            return refuse.unsupported("text_config.position_embedding_type", &kind, "absolute");
        }
        if self.is_decoder == Some(true) {
            return refuse.unsupported("text_config.is_decoder", &true, "false");
        }
        let types = self.type_vocab_size.unwrap_or(TOKEN_TYPES);
        if types != TOKEN_TYPES {
            return refuse.unsupported("text_config.type_vocab_size", &types, "2");
        }
        let vocab_size = self.vocab_size.unwrap_or(30_522);
        let named = self.eos_token_id.as_ref().and_then(Value::as_u64);
        Ok(TextConfig {
            tokens: self.max_position_embeddings.unwrap_or(512),
            vocab_size,
            width: self.hidden_size.unwrap_or(768),
            depth: self.num_hidden_layers.unwrap_or(12),
            num_heads: self.num_attention_heads.unwrap_or(12),
            mlp_dim: self.intermediate_size.unwrap_or(3072),
            padding: TextPadding::Masked,
            pool,
            eos_id: named.map_or(SEP.min(vocab_size.saturating_sub(1) as u32), |id| id.try_into().unwrap_or(u32::MAX)),
            gelu: self.activation("text_config.hidden_act", refuse)?,
            layer_norm_eps: self.layer_norm_eps.unwrap_or(1e-12),
        })
    }
}

/// Writes what only these two say, over what every tower says.
pub(super) fn write(config: &ModelConfig, text: &mut Value, vision: &mut Value) {
    let (width, mlp_dim) = (config.vision.width, config.vision.mlp_dim);
    let ratio =
        if mlp_dim.is_multiple_of(width) { json!(mlp_dim / width) } else { json!(mlp_dim as f64 / width as f64) };
    let own = [
        (
            vision,
            json!({
                "model_type": VISION, "mlp_ratio": ratio, "layerscale_value": 1.0, "qkv_bias": true,
                "use_swiglu_ffn": false, "use_mask_token": false, "drop_path_rate": 0.0,
            }),
            ["attention_dropout", "intermediate_size"],
        ),
        (
            text,
            json!({
                "model_type": TEXT, "type_vocab_size": TOKEN_TYPES, "pad_token_id": 0, "is_decoder": false,
            }),
            ["attention_dropout", "bos_token_id"],
        ),
    ];
    for (tower, keys, foreign) in own {
        let Some(tower) = tower.as_object_mut() else { continue };
        foreign.iter().for_each(|key| drop(tower.remove(*key)));
        for key in ["attention_probs_dropout_prob", "hidden_dropout_prob"] {
            tower.insert(key.to_string(), json!(0.0));
        }
        tower.extend(keys.as_object().cloned().unwrap_or_default());
    }
}

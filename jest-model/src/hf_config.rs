//! `config.json` as Hugging Face's `SiglipModel` writes it, with our own choices under the key `jest`.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::config::{Activation, ModelConfig, TextConfig, TextPadding, TextPool, VisionConfig};
use crate::{ModelError, Result};

/// What a file may say; whatever it leaves out has the default of the library's classes.
#[derive(Deserialize)]
struct File {
    model_type: String,
    #[serde(default)]
    text_config: Text,
    #[serde(default)]
    vision_config: Vision,
    #[serde(default)]
    jest: Jest,
}

#[derive(Deserialize)]
#[serde(default)]
struct Text {
    vocab_size: usize,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    max_position_embeddings: usize,
    hidden_act: String,
    layer_norm_eps: f32,
    projection_size: Option<usize>,
}

impl Default for Text {
    fn default() -> Self {
        Self {
            vocab_size: 32_000,
            hidden_size: 768,
            intermediate_size: 3072,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            max_position_embeddings: 64,
            hidden_act: "gelu_pytorch_tanh".to_string(),
            layer_norm_eps: 1e-6,
            projection_size: None,
        }
    }
}

#[derive(Deserialize)]
#[serde(default)]
struct Vision {
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_channels: usize,
    image_size: usize,
    patch_size: usize,
    hidden_act: String,
    layer_norm_eps: f32,
    vision_use_head: bool,
}

impl Default for Vision {
    fn default() -> Self {
        Self {
            hidden_size: 768,
            intermediate_size: 3072,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            num_channels: 3,
            image_size: 224,
            patch_size: 16,
            hidden_act: "gelu_pytorch_tanh".to_string(),
            layer_norm_eps: 1e-6,
            vision_use_head: true,
        }
    }
}

/// What the library has no word for. The `eos_token_id` of published files is another model's: it is not read.
#[derive(Deserialize, Serialize)]
#[serde(default)]
struct Jest {
    padding: TextPadding,
    pool: TextPool,
    eos_id: u32,
    init_logit_scale: f32,
    init_logit_bias: f32,
}

impl Default for Jest {
    fn default() -> Self {
        Self {
            padding: TextPadding::Attended,
            pool: TextPool::Last,
            eos_id: 1,
            init_logit_scale: 10.0,
            init_logit_bias: -10.0,
        }
    }
}

fn activation_name(gelu: Activation) -> &'static str {
    match gelu {
        Activation::Tanh => "gelu_pytorch_tanh",
        Activation::Erf => "gelu",
        Activation::Quick => "quick_gelu",
    }
}

fn activation(name: &str) -> Option<Activation> {
    match name {
        "gelu_pytorch_tanh" | "gelu_new" => Some(Activation::Tanh),
        "gelu" => Some(Activation::Erf),
        "quick_gelu" => Some(Activation::Quick),
        _ => None,
    }
}

impl ModelConfig {
    /// The text of `config.json`, every field spelled out.
    pub fn to_hf_json(&self) -> String {
        let (text, vision) = (&self.text, &self.vision);
        // Through their shortest decimal form, so that 1e-6 is not written as 9.999999974752427e-7.
        let decimal = |value: f32| value.to_string().parse::<f64>().unwrap_or(f64::from(value));
        let eps = decimal(self.layer_norm_eps);
        let value = json!({
            "architectures": ["SiglipModel"],
            "initializer_factor": 1.0,
            "model_type": "siglip",
            "torch_dtype": "float32",
            "text_config": {
                "attention_dropout": 0.0,
                "bos_token_id": null,
                "eos_token_id": text.eos_id,
                "hidden_act": activation_name(self.gelu),
                "hidden_size": text.width,
                "intermediate_size": text.mlp_dim,
                "layer_norm_eps": eps,
                "max_position_embeddings": text.tokens,
                "model_type": "siglip_text_model",
                "num_attention_heads": text.num_heads,
                "num_hidden_layers": text.depth,
                "pad_token_id": text.eos_id,
                "projection_size": vision.width,
                "vocab_size": text.vocab_size,
            },
            "vision_config": {
                "attention_dropout": 0.0,
                "hidden_act": activation_name(self.gelu),
                "hidden_size": vision.width,
                "image_size": vision.image_size,
                "intermediate_size": vision.mlp_dim,
                "layer_norm_eps": eps,
                "model_type": "siglip_vision_model",
                "num_attention_heads": vision.num_heads,
                "num_channels": 3,
                "num_hidden_layers": vision.depth,
                "patch_size": vision.patch_size,
                "vision_use_head": true,
            },
            "jest": {
                "padding": text.padding,
                "pool": text.pool,
                "eos_id": text.eos_id,
                "init_logit_scale": decimal(self.init_logit_scale),
                "init_logit_bias": decimal(self.init_logit_bias),
            },
        });
        format!("{value:#}\n")
    }

    /// Reads the text of a `config.json`; a minimal file gets the defaults of the library's classes. `path` is for
    /// messages.
    ///
    /// # Errors
    /// `Json` for damaged text; `Unsupported` for another architecture; what [`ModelConfig::validate`] reports.
    pub fn from_hf_json(json: &str, path: &Path) -> Result<Self> {
        let file: File =
            serde_json::from_str(json).map_err(|source| ModelError::Json { path: path.to_path_buf(), source })?;
        let unsupported = |key, value: &dyn ToString, supported| {
            Err(ModelError::Unsupported { path: path.to_path_buf(), key, value: value.to_string(), supported })
        };
        let File { model_type, text_config: text, vision_config: vision, jest } = file;
        if model_type != "siglip" {
            return unsupported("model_type", &model_type, "siglip");
        }
        if vision.num_channels != 3 {
            return unsupported("vision_config.num_channels", &vision.num_channels, "3");
        }
        if !vision.vision_use_head {
            return unsupported("vision_config.vision_use_head", &false, "true");
        }
        if text.projection_size.unwrap_or(text.hidden_size) != vision.hidden_size {
            let size = text.projection_size.unwrap_or(text.hidden_size);
            return unsupported("text_config.projection_size", &size, "vision_config.hidden_size");
        }
        let Some(gelu) = activation(&text.hidden_act) else {
            return unsupported("text_config.hidden_act", &text.hidden_act, "gelu_pytorch_tanh, gelu, quick_gelu");
        };
        if activation(&vision.hidden_act) != Some(gelu) {
            return unsupported("vision_config.hidden_act", &vision.hidden_act, "the same as text_config.hidden_act");
        }
        if vision.layer_norm_eps != text.layer_norm_eps {
            let eps = vision.layer_norm_eps;
            return unsupported("vision_config.layer_norm_eps", &eps, "the same as text_config.layer_norm_eps");
        }
        let config = assemble(&text, &vision, &jest, gelu);
        config.validate()?;
        Ok(config)
    }
}

fn assemble(text: &Text, vision: &Vision, jest: &Jest, gelu: Activation) -> ModelConfig {
    ModelConfig {
        vision: VisionConfig {
            image_size: vision.image_size,
            patch_size: vision.patch_size,
            width: vision.hidden_size,
            depth: vision.num_hidden_layers,
            num_heads: vision.num_attention_heads,
            mlp_dim: vision.intermediate_size,
        },
        text: TextConfig {
            tokens: text.max_position_embeddings,
            vocab_size: text.vocab_size,
            width: text.hidden_size,
            depth: text.num_hidden_layers,
            num_heads: text.num_attention_heads,
            mlp_dim: text.intermediate_size,
            padding: jest.padding,
            pool: jest.pool,
            eos_id: jest.eos_id,
        },
        gelu,
        layer_norm_eps: vision.layer_norm_eps,
        init_logit_scale: jest.init_logit_scale,
        init_logit_bias: jest.init_logit_bias,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Preset;

    fn read(json: &str) -> Result<ModelConfig> {
        ModelConfig::from_hf_json(json, Path::new("config.json"))
    }

    #[test]
    fn reads_back_what_it_writes() {
        for preset in Preset::ALL {
            let mut config = preset.config();
            (config.text.padding, config.text.pool) = (TextPadding::Masked, TextPool::Eos);
            (config.gelu, config.init_logit_bias) = (Activation::Erf, -5.5);
            assert_eq!(read(&config.to_hf_json()).unwrap(), config);
        }
        assert!(Preset::Mu.config().to_hf_json().contains("\"layer_norm_eps\": 1e-6,"));
    }

    #[test]
    fn a_minimal_file_is_the_base_model() {
        assert_eq!(read(r#"{"model_type": "siglip"}"#).unwrap(), Preset::B224.config());
        let larger = read(r#"{"model_type": "siglip", "vision_config": {"image_size": 256}, "dtype": "float32"}"#);
        assert_eq!(larger.unwrap(), Preset::B256.config());
    }

    #[test]
    fn what_is_not_supported_is_named() {
        for (json, words) in [
            (r#"{"model_type": "clip"}"#, "model_type is clip, supported: siglip"),
            (r#"{"model_type": "siglip", "vision_config": {"vision_use_head": false}}"#, "vision_use_head is false"),
            (r#"{"model_type": "siglip", "text_config": {"projection_size": 512}}"#, "projection_size is 512"),
            (r#"{"model_type": "siglip", "text_config": {"hidden_act": "relu"}}"#, "text_config.hidden_act is relu"),
            (r#"{"model_type": "siglip", "text_config": {"hidden_act": "gelu"}}"#, "vision_config.hidden_act is"),
            (r#"{"model_type": "siglip", "text_config": {"hidden_size": 100}}"#, "projection_size is 100"),
            (r#"{"model_type": "siglip", "vision_config": {"patch_size": 15}}"#, "nearest: 14 or 16"),
            (r#"{"model_type": "siglip""#, "config.json is not valid"),
            (r#"{"model_type": "siglip", "text_config": {"vocab_size": -1}}"#, "config.json is not valid"),
        ] {
            let said = read(json).unwrap_err().to_string();
            assert!(said.contains(words), "{said}");
        }
    }
}

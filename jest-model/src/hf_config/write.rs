//! Writing `config.json`.

use serde_json::{Value, json};

use super::{Jest, OWN, dual};
use crate::config::{Activation, Family, ModelConfig};

fn activation_name(gelu: Activation) -> &'static str {
    match gelu {
        Activation::Tanh => "gelu_pytorch_tanh",
        Activation::Erf => "gelu",
        Activation::Quick => "quick_gelu",
    }
}

/// Through its shortest decimal form, so that 1e-6 is not written as 9.999999974752427e-7.
fn decimal(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}

impl ModelConfig {
    /// The text of `config.json`, every field spelled out. Of a model that the library cannot compute the architecture is ours.
    pub fn to_hf_json(&self) -> String {
        let (mut text, mut vision) = (self.text_json(), self.vision_json());
        let d = self.embedding_dim();
        let jest = Jest {
            padding: self.text.padding,
            pool: Some(self.text.pool),
            eos_id: Some(self.text.eos_id),
            init_logit_scale: None,
            init_logit_bias: None,
        };
        let mut jest = json!(jest);
        jest["init_logit_scale"] = json!(decimal(self.init_logit_scale));
        jest["init_logit_bias"] = json!(decimal(self.init_logit_bias));
        let mut value = json!({ "initializer_factor": 1.0, "torch_dtype": "float32", "jest": jest });
        let (architecture, kind) = match self.family {
            Family::Siglip => {
                text["projection_size"] = json!(d);
                vision["vision_use_head"] = json!(true);
                ("SiglipModel", "siglip")
            }
            Family::Clip => {
                (text["projection_dim"], vision["projection_dim"]) = (json!(d), json!(d));
                value["projection_dim"] = json!(d);
                value["logit_scale_init_value"] = json!(decimal(self.init_logit_scale.ln()));
                ("CLIPModel", "clip")
            }
            Family::Dual => {
                dual::write(self, &mut text, &mut vision);
                value["projection_dim"] = json!(d);
                value["logit_scale_init_value"] = json!(decimal(self.init_logit_scale.ln()));
                ("VisionTextDualEncoderModel", dual::WHOLE)
            }
        };
        if self.family != Family::Dual {
            text["model_type"] = json!(format!("{kind}_text_model"));
            vision["model_type"] = json!(format!("{kind}_vision_model"));
        }
        (value["architectures"], value["model_type"]) = match self.can_be_hugging_face() {
            Ok(()) => (json!([architecture]), json!(kind)),
            Err(_) => (json!([format!("Jest{architecture}")]), json!(format!("{OWN}{kind}"))),
        };
        (value["text_config"], value["vision_config"]) = (text, vision);
        format!("{value:#}\n")
    }

    fn text_json(&self) -> Value {
        let text = &self.text;
        json!({
            "attention_dropout": 0.0,
            "bos_token_id": null,
            "eos_token_id": text.eos_id,
            "hidden_act": activation_name(text.gelu),
            "hidden_size": text.width,
            "intermediate_size": text.mlp_dim,
            "layer_norm_eps": decimal(text.layer_norm_eps),
            "max_position_embeddings": text.tokens,
            "num_attention_heads": text.num_heads,
            "num_hidden_layers": text.depth,
            "pad_token_id": text.eos_id,
            "vocab_size": text.vocab_size,
        })
    }

    fn vision_json(&self) -> Value {
        let vision = &self.vision;
        json!({
            "attention_dropout": 0.0,
            "hidden_act": activation_name(vision.gelu),
            "hidden_size": vision.width,
            "image_size": vision.image_size,
            "intermediate_size": vision.mlp_dim,
            "layer_norm_eps": decimal(vision.layer_norm_eps),
            "num_attention_heads": vision.num_heads,
            "num_channels": 3,
            "num_hidden_layers": vision.depth,
            "patch_size": vision.patch_size,
        })
    }
}

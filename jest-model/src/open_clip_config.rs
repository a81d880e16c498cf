//! `open_clip_config.json`: sizes of open_clip's two kinds of model.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::config::{Activation, Family, ModelConfig, TextConfig, TextPadding, TextPool, VisionConfig};
use crate::timm::trunks;
use crate::{Layout, ModelError, Result};

/// Keys that change nothing in the model.
const FREE: [&str; 15] = [
    "timm_model_pretrained",
    "timm_drop",
    "timm_drop_path",
    "timm_proj_bias",
    "patch_dropout",
    "output_tokens",
    "hf_tokenizer_name",
    "tokenizer_kwargs",
    "tokenizer_mode",
    "pad_id",
    "head_width",
    "attn_pooler_queries",
    "attn_pooler_heads",
    "hf_model_pretrained",
    "init_logit_scale",
];

/// Size and end mark of the vocabulary that open_clip takes where no tokenizer is named; with any name it takes the folder's.
const CLIP_VOCABULARY: (usize, u32) = (49_408, 49_407);

#[derive(Deserialize)]
struct File {
    model_cfg: Model,
}

#[derive(Deserialize)]
struct Model {
    embed_dim: usize,
    vision_cfg: Vision,
    text_cfg: Text,
    #[serde(default)]
    quick_gelu: bool,
    #[serde(default)]
    custom_text: bool,
    init_logit_bias: Option<f32>,
}

#[derive(Deserialize)]
struct Vision {
    timm_model_name: Option<String>,
    timm_pool: Option<String>,
    timm_proj: Option<String>,
    #[serde(default = "side")]
    image_size: usize,
    #[serde(default = "patch")]
    patch_size: usize,
    #[serde(default = "vision_width")]
    width: usize,
    #[serde(default = "twelve")]
    layers: usize,
    head_width: Option<usize>,
    mlp_ratio: Option<f64>,
    pool_type: Option<String>,
    act_kwargs: Option<Act>,
    norm_kwargs: Option<Norm>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

#[derive(Deserialize)]
struct Text {
    #[serde(default = "context")]
    context_length: usize,
    #[serde(default = "vocab")]
    vocab_size: usize,
    #[serde(default = "text_width")]
    width: usize,
    #[serde(default = "eight")]
    heads: usize,
    #[serde(default = "twelve")]
    layers: usize,
    mlp_ratio: Option<f64>,
    #[serde(default)]
    no_causal_mask: bool,
    #[serde(default)]
    proj_bias: bool,
    pool_type: Option<String>,
    eos_id: Option<u32>,
    act_kwargs: Option<Act>,
    norm_kwargs: Option<Norm>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

#[derive(Deserialize)]
struct Act {
    approximate: Option<String>,
}

#[derive(Deserialize)]
struct Norm {
    eps: Option<f32>,
}

fn side() -> usize {
    224
}
fn patch() -> usize {
    16
}
fn vision_width() -> usize {
    768
}
fn text_width() -> usize {
    512
}
fn twelve() -> usize {
    12
}
fn eight() -> usize {
    8
}
fn context() -> usize {
    77
}
fn vocab() -> usize {
    49_408
}

impl ModelConfig {
    /// Reads the text of an `open_clip_config.json`, and whose names its weights have; `path` is for messages.
    ///
    /// # Errors
    /// `Json` for damaged text; `Unsupported` and `UnsupportedKey` for another architecture; what
    /// [`ModelConfig::validate`] reports.
    pub fn from_open_clip_json(json: &str, path: &Path) -> Result<(Self, Layout)> {
        let File { model_cfg: model } =
            serde_json::from_str(json).map_err(|source| ModelError::Json { path: path.to_path_buf(), source })?;
        let unsupported = |key, value: &dyn ToString, supported| {
            Err(ModelError::Unsupported { path: path.to_path_buf(), key, value: value.to_string(), supported })
        };
        refuse_features(&model, path)?;
        let (text, siglip) = (&model.text_cfg, model.vision_cfg.timm_model_name.is_some());
        let vision = if let Some(name) = &model.vision_cfg.timm_model_name {
            let Some((_, vision)) = trunks().find(|(trunk, _)| trunk == name) else {
                return unsupported(
                    "vision_cfg.timm_model_name",
                    name,
                    "timm's vit_*_patch*_siglip_*, with attention pooling",
                );
            };
            let (pool, proj) = (model.vision_cfg.timm_pool.as_deref(), model.vision_cfg.timm_proj.as_deref());
            if pool != Some("map") || proj != Some("none") {
                return unsupported("vision_cfg.timm_pool", &pool.unwrap_or("avg"), "map, with timm_proj none");
            }
            vision
        } else {
            clip_vision(&model.vision_cfg, model.quick_gelu)
        };
        let pool = text.pool_type.as_deref().unwrap_or("argmax");
        if text.no_causal_mask != siglip || text.proj_bias != siglip || (pool == "last") != siglip {
            return unsupported(
                "text_cfg",
                &format!("no_causal_mask {}, proj_bias {}, pool_type {pool}", text.no_causal_mask, text.proj_bias),
                "true, true, last with a SigLIP trunk; false, false, argmax or eos without",
            );
        }
        if model.vision_cfg.pool_type.as_deref().unwrap_or("tok") != "tok" {
            return unsupported("vision_cfg.pool_type", &"not tok", "tok");
        }
        let mut config = ModelConfig::new(vision, text_config(text, model.quick_gelu, siglip));
        config.init_logit_bias = model.init_logit_bias.unwrap_or(config.init_logit_bias);
        if !siglip {
            (config.family, config.embedding_dim) = (Family::Clip, Some(model.embed_dim));
            (config.init_logit_scale, config.init_logit_bias) = (1.0 / 0.07, 0.0);
            config.text.pool = TextPool::Eos;
            let last = config.text.vocab_size.saturating_sub(1) as u32;
            config.text.eos_id = if pool == "eos" { text.eos_id.unwrap_or(2) } else { last };
        } else if model.embed_dim != config.vision.width {
            return unsupported("embed_dim", &model.embed_dim, "the width of the trunk");
        }
        config.validate()?;
        Ok((config, Layout::OpenClip { custom_text: model.custom_text }))
    }

    /// The text of `open_clip_config.json`; `preprocess_cfg` says how pictures are made ready.
    ///
    /// # Errors
    /// `NotExportable` for what open_clip has no words for.
    pub fn to_open_clip_json(&self, preprocess_cfg: &Value) -> Result<String> {
        let refuse = |why: String| Err(ModelError::NotExportable { format: "open_clip", why });
        let (v, t) = (&self.vision, &self.text);
        let act = |gelu| (gelu == Activation::Tanh).then(|| json!({"approximate": "tanh"}));
        let quick = v.gelu == Activation::Quick || t.gelu == Activation::Quick;
        let mut text = json!({
            "context_length": t.tokens, "vocab_size": t.vocab_size, "width": t.width, "heads": t.num_heads,
            "layers": t.depth, "mlp_ratio": ratio(t.mlp_dim, t.width), "norm_kwargs": {"eps": decimal(t.layer_norm_eps)},
            "hf_tokenizer_name": ((t.vocab_size, t.eos_id) != CLIP_VOCABULARY).then_some("tokenizer.json"),
        });
        if let Some(act) = act(t.gelu) {
            text["act_kwargs"] = act;
        }
        let mut model = json!({ "embed_dim": self.embedding_dim() });
        match self.family {
            Family::Siglip => {
                self.siglip_can_be_exported("open_clip")?;
                let sizes = |vision: &VisionConfig| VisionConfig { gelu: v.gelu, ..vision.clone() };
                let Some((name, _)) = trunks().find(|(_, trunk)| sizes(trunk) == *v) else {
                    let known: Vec<String> = trunks().map(|(name, _)| name).collect();
                    return refuse(format!(
                        "no trunk of timm has the sizes of the image tower; there are {}",
                        known.join(", ")
                    ));
                };
                if quick {
                    return refuse("a timm trunk has no quick GELU".to_string());
                }
                model["vision_cfg"] = json!({
                    "image_size": v.image_size, "timm_model_name": name, "timm_model_pretrained": false,
                    "timm_pool": "map", "timm_proj": "none",
                });
                (text["no_causal_mask"], text["proj_bias"]) = (json!(true), json!(true));
                text["pool_type"] = json!("last");
                (model["init_logit_bias"], model["custom_text"]) = (json!(decimal(self.init_logit_bias)), json!(true));
            }
            Family::Clip => {
                if quick && v.gelu != t.gelu {
                    return refuse("quick GELU is a choice for both towers".to_string());
                }
                model["vision_cfg"] = json!({
                    "image_size": v.image_size, "patch_size": v.patch_size, "width": v.width, "layers": v.depth,
                    "head_width": v.width / v.num_heads, "mlp_ratio": ratio(v.mlp_dim, v.width),
                    "norm_kwargs": {"eps": decimal(v.layer_norm_eps)},
                });
                if let Some(act) = act(v.gelu) {
                    model["vision_cfg"]["act_kwargs"] = act;
                }
                if t.eos_id as usize + 1 != t.vocab_size {
                    (text["pool_type"], text["eos_id"]) = (json!("eos"), json!(t.eos_id));
                }
                model["quick_gelu"] = json!(quick);
            }
            Family::Dual => return refuse("its towers are DINOv2 and BERT; --format onnx writes them".to_string()),
        }
        model["text_cfg"] = text;
        Ok(format!("{:#}\n", json!({ "model_cfg": model, "preprocess_cfg": preprocess_cfg })))
    }
}

/// Refuses keys of features that are not here and are not off.
fn refuse_features(model: &Model, path: &Path) -> Result<()> {
    for (tower, rest) in [("vision_cfg", &model.vision_cfg.rest), ("text_cfg", &model.text_cfg.rest)] {
        let absent = |value: &Value| value.is_null() || *value == json!(false) || *value == json!("default");
        let same = |(key, value): (&str, &Value)| key == "proj_type" && *value == json!("linear");
        let wrong = rest.iter().find(|(key, value)| {
            !FREE.contains(&key.as_str()) && !absent(value) && !same((key.as_str(), value)) && !is_default(key, value)
        });
        if let Some((key, value)) = wrong {
            let (key, value) = (format!("{tower}.{key}"), value.to_string());
            return Err(ModelError::UnsupportedKey { path: path.to_path_buf(), key, value });
        }
    }
    Ok(())
}

/// Settings of features that these say are off.
fn is_default(key: &str, value: &Value) -> bool {
    let settings = [("hf_proj_type", "mlp"), ("hf_pooler_type", "mean_pooler"), ("pos_embed_type", "learnable")];
    settings.iter().any(|(name, default)| key == *name && value == default)
}

fn clip_vision(vision: &Vision, quick: bool) -> VisionConfig {
    VisionConfig {
        image_size: vision.image_size,
        patch_size: vision.patch_size,
        width: vision.width,
        depth: vision.layers,
        num_heads: vision.width / vision.head_width.unwrap_or(64).max(1),
        mlp_dim: times(vision.width, vision.mlp_ratio),
        gelu: gelu(quick, vision.act_kwargs.as_ref()),
        layer_norm_eps: vision.norm_kwargs.as_ref().and_then(|norm| norm.eps).unwrap_or(1e-5),
    }
}

fn text_config(text: &Text, quick: bool, siglip: bool) -> TextConfig {
    TextConfig {
        tokens: text.context_length,
        vocab_size: text.vocab_size,
        width: text.width,
        depth: text.layers,
        num_heads: text.heads,
        mlp_dim: times(text.width, text.mlp_ratio),
        padding: TextPadding::Attended,
        pool: if siglip { TextPool::Last } else { TextPool::Eos },
        eos_id: 1,
        gelu: gelu(quick, text.act_kwargs.as_ref()),
        layer_norm_eps: text.norm_kwargs.as_ref().and_then(|norm| norm.eps).unwrap_or(1e-5),
    }
}

fn gelu(quick: bool, act: Option<&Act>) -> Activation {
    match act.and_then(|act| act.approximate.as_deref()) {
        _ if quick => Activation::Quick,
        Some("tanh") => Activation::Tanh,
        _ => Activation::Erf,
    }
}

/// As open_clip computes it: rounded down.
fn times(width: usize, ratio: Option<f64>) -> usize {
    (width as f64 * ratio.unwrap_or(4.0)) as usize
}

/// A ratio that [`times`] turns back into the size, however it is rounded on its way through JSON.
fn ratio(size: usize, width: usize) -> f64 {
    let plain = size / width;
    if plain * width == size { plain as f64 } else { (size as f64 + 0.5) / width as f64 }
}

/// Through its shortest decimal form, so that 1e-6 is not written as 9.999999974752427e-7.
fn decimal(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Preset;

    fn read(json: &str) -> Result<(ModelConfig, Layout)> {
        ModelConfig::from_open_clip_json(json, Path::new("open_clip_config.json"))
    }

    #[test]
    fn reads_back_what_it_writes() {
        let mut clip = Preset::Mu.config().into_clip();
        (clip.text.width, clip.text.mlp_dim, clip.embedding_dim) = (60, 101, Some(33));
        let mut siglip = Preset::B256.config();
        siglip.vision.gelu = Activation::Erf;
        for config in [clip.clone(), siglip, Preset::So400m.config()] {
            let (again, _) = read(&config.to_open_clip_json(&Value::Null).unwrap()).unwrap();
            let mut expected = config.clone();
            // timm's choice.
            expected.vision.gelu = again.vision.gelu;
            assert_eq!(again, ModelConfig { init_logit_scale: again.init_logit_scale, ..expected });
        }
        (clip.vision.gelu, clip.text.gelu) = (Activation::Erf, Activation::Tanh);
        let again = read(&clip.to_open_clip_json(&Value::Null).unwrap()).unwrap().0;
        assert_eq!((again.vision.gelu, again.text.gelu), (Activation::Erf, Activation::Tanh));
    }

    #[test]
    fn published_files_are_understood() {
        let siglip = r#"{"model_cfg": {"embed_dim": 768, "init_logit_bias": -10, "custom_text": true, "vision_cfg":
            {"image_size": 224, "timm_model_name": "vit_base_patch16_siglip_224", "timm_model_pretrained": false,
            "timm_pool": "map", "timm_proj": "none"}, "text_cfg": {"context_length": 64, "vocab_size": 32000,
            "hf_tokenizer_name": "x", "tokenizer_kwargs": {"clean": "canonicalize"}, "width": 768, "heads": 12,
            "layers": 12, "no_causal_mask": true, "proj_bias": true, "pool_type": "last", "norm_kwargs": {"eps": 1e-06}}}}"#;
        let (config, layout) = read(siglip).unwrap();
        let mut expected = Preset::B224.config();
        (expected.vision.gelu, expected.text.gelu) = (Activation::Erf, Activation::Erf);
        assert_eq!((config, layout), (expected, Layout::OpenClip { custom_text: true }));
        let clip = r#"{"model_cfg": {"embed_dim": 512, "quick_gelu": true, "vision_cfg": {"image_size": 224, "layers": 12,
            "width": 768, "patch_size": 32}, "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 512,
            "heads": 8, "layers": 12}}, "preprocess_cfg": {}}"#;
        let (config, layout) = read(clip).unwrap();
        assert_eq!((config.parameter_count(), config.text.eos_id), (151_277_313, 49_407));
        assert_eq!((config.vision.gelu, layout), (Activation::Quick, Layout::OpenClip { custom_text: false }));
        for (from, to, says) in [
            ("\"width\": 768,", "\"width\": 768, \"attentional_pool\": true,", "vision_cfg.attentional_pool is true"),
            ("\"heads\": 8", "\"heads\": 8, \"hf_model_name\": \"roberta\"", "text_cfg.hf_model_name is \"roberta\""),
            ("\"heads\": 8", "\"heads\": 8, \"pool_type\": \"last\"", "text_cfg is"),
            ("\"layers\": 12,", "\"layers\": [1, 2],", "is not valid"),
            ("\"image_size\": 224,", "\"timm_model_name\": \"vit_huge\",", "timm_model_name is vit_huge"),
        ] {
            let said = read(&clip.replacen(from, to, 1)).unwrap_err().to_string();
            assert!(said.contains(says), "{said}");
        }
    }

    #[test]
    fn what_open_clip_cannot_say_is_refused() {
        let said = |config: &ModelConfig| config.to_open_clip_json(&Value::Null).unwrap_err().to_string();
        assert!(said(&Preset::Mu.config()).contains("no trunk of timm"));
        let mut pooled = Preset::B224.config();
        pooled.text.pool = TextPool::Eos;
        assert!(said(&pooled).contains("text.pool"));
        let mut mixed = Preset::Mu.config().into_clip();
        mixed.text.gelu = Activation::Erf;
        assert!(said(&mixed).contains("quick GELU"));
    }
}

//! `config.json` of Hugging Face's `SiglipModel`, `CLIPModel` and `VisionTextDualEncoderModel`, with our own choices under the key `jest`.

mod dual;
mod write;

use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::{Activation, Family, ModelConfig, TextConfig, TextPadding, TextPool, VisionConfig};
use crate::{ModelError, Result};

/// What a file may say; whatever it leaves out has the default of the library's classes.
#[derive(Deserialize)]
struct File {
    #[serde(default)]
    text_config: Tower,
    #[serde(default)]
    vision_config: Tower,
    /// Old files of CLIP: where present, the library takes it in place of `text_config`.
    text_config_dict: Option<Tower>,
    vision_config_dict: Option<Tower>,
    projection_dim: Option<usize>,
    logit_scale_init_value: Option<f32>,
    #[serde(default)]
    jest: Jest,
}

/// Whose file it is.
#[derive(Deserialize)]
struct Kind {
    model_type: String,
}

/// As [`File`], of a `VisionTextDualEncoderModel`.
#[derive(Deserialize)]
struct DualFile {
    text_config: dual::Backbone,
    vision_config: dual::Backbone,
    projection_dim: Option<usize>,
    logit_scale_init_value: Option<f32>,
    #[serde(default)]
    jest: Jest,
}

/// Keys of either tower.
#[derive(Clone, Default, Deserialize)]
#[serde(default)]
struct Tower {
    vocab_size: Option<usize>,
    hidden_size: Option<usize>,
    intermediate_size: Option<usize>,
    num_hidden_layers: Option<usize>,
    num_attention_heads: Option<usize>,
    max_position_embeddings: Option<usize>,
    num_channels: Option<usize>,
    image_size: Option<usize>,
    patch_size: Option<usize>,
    hidden_act: Option<String>,
    layer_norm_eps: Option<f32>,
    projection_size: Option<usize>,
    vision_use_head: Option<bool>,
    eos_token_id: Option<Value>,
}

/// Defaults of the library's classes.
struct Defaults {
    vision: [usize; 4],
    text: [usize; 4],
    patch_size: usize,
    vocab_size: usize,
    tokens: usize,
    hidden_act: &'static str,
    layer_norm_eps: f32,
}

const SIGLIP: Defaults = Defaults {
    vision: [768, 3072, 12, 12],
    text: [768, 3072, 12, 12],
    patch_size: 16,
    vocab_size: 32_000,
    tokens: 64,
    hidden_act: "gelu_pytorch_tanh",
    layer_norm_eps: 1e-6,
};
const CLIP: Defaults = Defaults {
    vision: [768, 3072, 12, 12],
    text: [512, 2048, 12, 8],
    patch_size: 32,
    vocab_size: 49_408,
    tokens: 77,
    hidden_act: "quick_gelu",
    layer_norm_eps: 1e-5,
};
/// Stands before the words of a model that the library would compute otherwise, so that it takes none for its own.
const OWN: &str = "jest_";
const CLIP_EOS: u64 = 49_407;
/// An end mark that CLIP's old files name wrongly; the library then takes the largest id of a text, which ends it.
const CLIP_OLD_EOS: u64 = 2;

/// What the library has no word for. The `eos_token_id` of SigLIP's published files is another model's: it is not read.
#[derive(Default, Deserialize, Serialize)]
#[serde(default)]
struct Jest {
    padding: TextPadding,
    pool: Option<TextPool>,
    eos_id: Option<u32>,
    init_logit_scale: Option<f32>,
    init_logit_bias: Option<f32>,
}

const ACTIVATIONS: &str = "gelu_pytorch_tanh, gelu, quick_gelu";

fn activation(name: &str) -> Option<Activation> {
    match name {
        "gelu_pytorch_tanh" | "gelu_new" => Some(Activation::Tanh),
        "gelu" => Some(Activation::Erf),
        "quick_gelu" => Some(Activation::Quick),
        _ => None,
    }
}

/// Refuses, for one file.
struct Refuse<'a>(&'a Path);

impl Refuse<'_> {
    fn unsupported<T>(&self, key: &'static str, value: &dyn ToString, supported: &'static str) -> Result<T> {
        Err(ModelError::Unsupported { path: self.0.to_path_buf(), key, value: value.to_string(), supported })
    }

    fn activation(&self, key: &'static str, tower: &Tower, defaults: &Defaults) -> Result<Activation> {
        let name = tower.hidden_act.as_deref().unwrap_or(defaults.hidden_act);
        activation(name).map_or_else(|| self.unsupported(key, &name, ACTIVATIONS), Ok)
    }
}

fn parse<T: DeserializeOwned>(json: &str, path: &Path) -> Result<T> {
    serde_json::from_str(json).map_err(|source| ModelError::Json { path: path.to_path_buf(), source })
}

/// One tower of a model.
#[derive(Clone, Debug)]
pub(crate) enum Half {
    Image(VisionConfig),
    Text(TextConfig),
}

/// Reads the text of a `config.json` of one tower: its family, its sizes, and the length of an embedding; none where the
/// file is about a whole model. `path` is for messages.
///
/// # Errors
/// As [`ModelConfig::from_hf_json`].
pub(crate) fn half_from_hf_json(json: &str, path: &Path) -> Result<Option<(Family, Half, usize)>> {
    #[derive(Deserialize)]
    struct One {
        model_type: String,
        projection_dim: Option<usize>,
        #[serde(flatten)]
        tower: Tower,
    }
    let One { model_type, projection_dim, tower } = parse(json, path)?;
    let (family, defaults) =
        if model_type.starts_with("siglip_") { (Family::Siglip, SIGLIP) } else { (Family::Clip, CLIP) };
    let refuse = Refuse(path);
    if [dual::VISION, dual::TEXT].contains(&model_type.as_str()) {
        let backbone: dual::Backbone = parse(json, path)?;
        let half = match model_type.as_str() {
            dual::VISION => Half::Image(backbone.vision(&refuse)?),
            _ => Half::Text(backbone.text(TextPool::Mean, &refuse)?),
        };
        // What it has no projection to.
        return Ok(Some((Family::Dual, half, 0)));
    }
    let half = match model_type.as_str() {
        "siglip_vision_model" if tower.vision_use_head == Some(false) => {
            return refuse.unsupported("vision_use_head", &false, "true");
        }
        "siglip_vision_model" | "clip_vision_model" => Half::Image(vision(&tower, &defaults, &refuse)?),
        "siglip_text_model" => Half::Text(text(&tower, &defaults, &refuse)?),
        "clip_text_model" => {
            let mut text = text(&tower, &defaults, &refuse)?;
            (text.eos_id, text.pool) = (clip_eos(&tower, &text), TextPool::Eos);
            Half::Text(text)
        }
        _ => return Ok(None),
    };
    let d = match (&half, family) {
        (_, Family::Clip) => projection_dim.unwrap_or(512),
        (Half::Image(vision), _) => vision.width,
        (Half::Text(text), _) => tower.projection_size.unwrap_or(text.width),
    };
    Ok(Some((family, half, d)))
}

/// The id that ends a text of CLIP.
fn clip_eos(tower: &Tower, text: &TextConfig) -> u32 {
    match tower.eos_token_id.as_ref().and_then(Value::as_u64).unwrap_or(CLIP_EOS) {
        CLIP_OLD_EOS => text.vocab_size.saturating_sub(1) as u32,
        id => u32::try_from(id).unwrap_or(u32::MAX),
    }
}

impl ModelConfig {
    /// Reads the text of a `config.json`; a minimal file gets the defaults of the library's classes. `path` is for
    /// messages.
    ///
    /// # Errors
    /// `Json` for damaged text; `Unsupported` for another architecture; what [`ModelConfig::validate`] reports.
    pub fn from_hf_json(json: &str, path: &Path) -> Result<Self> {
        let Kind { model_type } = parse(json, path)?;
        let kind = model_type.strip_prefix(OWN).unwrap_or(&model_type);
        if kind == dual::WHOLE {
            return Self::from_dual_json(json, path);
        }
        let file: File = parse(json, path)?;
        let (refuse, jest) = (Refuse(path), &file.jest);
        let (family, defaults) = match kind {
            "siglip" => (Family::Siglip, SIGLIP),
            "clip" => (Family::Clip, CLIP),
            _ => {
                let supported = "siglip, clip, vision-text-dual-encoder; a tower on its own by init_image, init_text, or jest import IMAGE FOLDER --text TEXT";
                return refuse.unsupported("model_type", &model_type, supported);
            }
        };
        let text = file.text_config_dict.as_ref().unwrap_or(&file.text_config);
        let vision = file.vision_config_dict.as_ref().unwrap_or(&file.vision_config);
        let mut config =
            ModelConfig::new(self::vision(vision, &defaults, &refuse)?, self::text(text, &defaults, &refuse)?);
        config.text.padding = jest.padding;
        if family == Family::Siglip {
            if vision.vision_use_head == Some(false) {
                return refuse.unsupported("vision_config.vision_use_head", &false, "true");
            }
            let projected = text.projection_size.unwrap_or(config.text.width);
            if projected != config.vision.width {
                let rule = "vision_config.hidden_size";
                return refuse.unsupported("text_config.projection_size", &projected, rule);
            }
        } else {
            config.family = family;
            config.embedding_dim = Some(file.projection_dim.unwrap_or(512));
            config.text.eos_id = clip_eos(text, &config.text);
            config.text.pool = TextPool::Eos;
            config.init_logit_scale = file.logit_scale_init_value.unwrap_or(2.6592).exp();
            config.init_logit_bias = 0.0;
        }
        jest.fill(&mut config);
        config.validate()?;
        Ok(config)
    }

    /// A `VisionTextDualEncoderModel`, which reads texts by BERT's pooler unless we say otherwise.
    fn from_dual_json(json: &str, path: &Path) -> Result<Self> {
        let (file, refuse): (DualFile, _) = (parse(json, path)?, Refuse(path));
        let text = file.text_config.text(TextPool::Pooler, &refuse)?;
        let mut config = ModelConfig::new(file.vision_config.vision(&refuse)?, text);
        config.family = Family::Dual;
        config.embedding_dim = Some(file.projection_dim.unwrap_or(512));
        config.init_logit_scale = file.logit_scale_init_value.unwrap_or(2.6592).exp();
        config.init_logit_bias = 0.0;
        file.jest.fill(&mut config);
        config.validate()?;
        Ok(config)
    }
}

impl Jest {
    /// What a file says of it.
    fn fill(&self, config: &mut ModelConfig) {
        config.text.pool = self.pool.unwrap_or(config.text.pool);
        config.text.eos_id = self.eos_id.unwrap_or(config.text.eos_id);
        config.init_logit_scale = self.init_logit_scale.unwrap_or(config.init_logit_scale);
        config.init_logit_bias = self.init_logit_bias.unwrap_or(config.init_logit_bias);
    }
}

fn vision(tower: &Tower, defaults: &Defaults, refuse: &Refuse<'_>) -> Result<VisionConfig> {
    let channels = tower.num_channels.unwrap_or(3);
    if channels != 3 {
        return refuse.unsupported("vision_config.num_channels", &channels, "3");
    }
    let [width, mlp_dim, depth, num_heads] = sizes(tower, defaults.vision);
    Ok(VisionConfig {
        image_size: tower.image_size.unwrap_or(224),
        patch_size: tower.patch_size.unwrap_or(defaults.patch_size),
        width,
        depth,
        num_heads,
        mlp_dim,
        gelu: refuse.activation("vision_config.hidden_act", tower, defaults)?,
        layer_norm_eps: tower.layer_norm_eps.unwrap_or(defaults.layer_norm_eps),
    })
}

fn text(tower: &Tower, defaults: &Defaults, refuse: &Refuse<'_>) -> Result<TextConfig> {
    let [width, mlp_dim, depth, num_heads] = sizes(tower, defaults.text);
    Ok(TextConfig {
        tokens: tower.max_position_embeddings.unwrap_or(defaults.tokens),
        vocab_size: tower.vocab_size.unwrap_or(defaults.vocab_size),
        width,
        depth,
        num_heads,
        mlp_dim,
        padding: TextPadding::Attended,
        pool: TextPool::Last,
        eos_id: 1,
        gelu: refuse.activation("text_config.hidden_act", tower, defaults)?,
        layer_norm_eps: tower.layer_norm_eps.unwrap_or(defaults.layer_norm_eps),
    })
}

/// hidden_size, intermediate_size, num_hidden_layers, num_attention_heads.
fn sizes(tower: &Tower, defaults: [usize; 4]) -> [usize; 4] {
    let said = [tower.hidden_size, tower.intermediate_size, tower.num_hidden_layers, tower.num_attention_heads];
    std::array::from_fn(|at| said[at].unwrap_or(defaults[at]))
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
            (config.text.gelu, config.init_logit_bias) = (Activation::Erf, -5.5);
            (config.vision.gelu, config.vision.layer_norm_eps) = (Activation::Quick, 1e-4);
            assert_eq!(read(&config.to_hf_json()).unwrap(), config);
            let mut config = preset.config().into_clip();
            (config.text.width, config.text.num_heads, config.embedding_dim) = (100, 4, Some(33));
            assert_eq!(read(&config.to_hf_json()).unwrap(), config);
        }
        assert!(Preset::Mu.config().to_hf_json().contains("\"layer_norm_eps\": 1e-6,"));
    }

    #[test]
    fn a_minimal_file_is_the_base_model() {
        assert_eq!(read(r#"{"model_type": "siglip"}"#).unwrap(), Preset::B224.config());
        let larger = read(r#"{"model_type": "siglip", "vision_config": {"image_size": 256}, "dtype": "float32"}"#);
        assert_eq!(larger.unwrap(), Preset::B256.config());
        let clip = read(r#"{"model_type": "clip"}"#).unwrap();
        assert_eq!(
            (clip.parameter_count(), clip.text.eos_id, clip.text.gelu),
            (151_277_313, 49_407, Activation::Quick)
        );
        assert!((clip.init_logit_scale - 1.0 / 0.07).abs() < 1e-2);
    }

    #[test]
    fn what_old_files_of_clip_say_is_understood() {
        let json = r#"{"model_type": "clip", "projection_dim": 64, "text_config": {"hidden_size": 1, "eos_token_id": 2},
            "text_config_dict": {"hidden_size": 64, "eos_token_id": 2, "vocab_size": 500}, "vision_config_dict": null}"#;
        let config = read(json).unwrap();
        assert_eq!((config.text.width, config.text.mlp_dim, config.text.eos_id), (64, 2048, 499));
        assert_eq!((config.vision.width, config.embedding_dim()), (768, 64));
    }

    #[test]
    fn what_is_not_supported_is_named() {
        for (json, words) in [
            (r#"{"model_type": "siglip2"}"#, "model_type is siglip2, supported: siglip, clip"),
            (r#"{"model_type": "clip", "vision_config": {"num_channels": 1}}"#, "num_channels is 1"),
            (r#"{"model_type": "clip", "text_config": {"eos_token_id": 99999999999}}"#, "text.eos_id is 4294967295"),
            (r#"{"model_type": "siglip", "vision_config": {"vision_use_head": false}}"#, "vision_use_head is false"),
            (r#"{"model_type": "siglip", "text_config": {"projection_size": 512}}"#, "projection_size is 512"),
            (r#"{"model_type": "siglip", "text_config": {"hidden_act": "relu"}}"#, "text_config.hidden_act is relu"),
            (
                r#"{"model_type": "siglip", "vision_config": {"hidden_act": "silu"}}"#,
                "vision_config.hidden_act is silu",
            ),
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

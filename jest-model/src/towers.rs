//! One tower of a model: which parameters are its own, and towers read on their own.

use std::path::Path;

use crate::config::{Family, ModelConfig, TextConfig};
use crate::hf_config::{Half, half_from_hf_json};
use crate::interchange::{Import, Part};
use crate::source::open_weights;
use crate::weights::{CONFIG_FILE, MAX_CONFIG_BYTES, read_text};
use crate::{Layout, ModelError, Param, Result};

/// One of the two towers, its projection included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tower {
    /// Of images.
    Image,
    /// Of texts.
    Text,
}

const IMAGE_PROJECTION: &str = "visual_projection.weight";
const TEXT_PROJECTION: &str = "text_projection.weight";

impl Tower {
    /// Whether a parameter is the tower's; logit_scale and logit_bias are neither's.
    pub fn has(self, param: &Param) -> bool {
        let (prefix, projection) = match self {
            Self::Image => ("vision_model.", IMAGE_PROJECTION),
            Self::Text => ("text_model.", TEXT_PROJECTION),
        };
        param.name().starts_with(prefix) || param.name() == projection
    }

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Text => "text",
        }
    }
}

impl Half {
    fn tower(&self) -> Tower {
        match self {
            Self::Image(_) => Tower::Image,
            Self::Text(_) => Tower::Text,
        }
    }
}

/// A tower in files, of a model on its own or of a whole one, opened and not yet read.
#[derive(Debug)]
pub struct TowerImport {
    family: Family,
    half: Half,
    /// Length of an embedding; none where the file has no projection to it.
    embedding_dim: Option<usize>,
    part: Part,
}

impl TowerImport {
    /// Opens one tower of what [`Import::open`] opens, or a folder of transformers' `SiglipVisionModel`,
    /// `SiglipTextModel`, `CLIPVisionModel` or `CLIPTextModel`, the last two with a projection or without, `Dinov2Model` or
    /// `BertModel`.
    ///
    /// # Errors
    /// As [`Import::open`]; `NoTower` for a folder of the other tower alone.
    pub fn open(path: &Path, tower: Tower) -> Result<Self> {
        let file = path.join(CONFIG_FILE);
        let alone = if file.exists() { half_from_hf_json(&read_text(&file, MAX_CONFIG_BYTES)?, &file)? } else { None };
        let Some((family, half, embedding_dim)) = alone else {
            let mut whole = Import::open(path)?;
            let config = whole.config().clone();
            let (family, embedding_dim) = (config.family, Some(config.embedding_dim()));
            let half = match tower {
                Tower::Image => Half::Image(config.vision),
                Tower::Text => Half::Text(config.text),
            };
            let part = whole.parts.remove(0).of(tower);
            return Ok(Self { family, half, embedding_dim, part });
        };
        if half.tower() != tower {
            return Err(ModelError::NoTower { path: path.to_path_buf(), tower: tower.word() });
        }
        let source = open_weights(path)?;
        let has = |name: &str| source.entries().iter().any(|entry| entry.name == name);
        let projection = has(IMAGE_PROJECTION) || has(TEXT_PROJECTION) || family == Family::Siglip;
        let prefixed = source.entries().iter().any(|entry| entry.name.contains("_model.embeddings."));
        let part = Part::new(Layout::HuggingFaceTower { prefixed }, source).of(tower);
        Ok(Self { family, half, embedding_dim: projection.then_some(embedding_dim), part })
    }
}

impl Import {
    /// A model with towers from files; what no file holds is drawn from the seed. `rest` says what the files do not.
    ///
    /// # Errors
    /// `Towers` for towers of another family or with embeddings of another length than the rest; what
    /// [`ModelConfig::validate`] reports.
    pub fn towers(rest: &ModelConfig, towers: Vec<TowerImport>, seed: u64) -> Result<Self> {
        let mut config = rest.clone();
        let mut parts = Vec::new();
        for TowerImport { family, half, embedding_dim, part } in towers {
            let path = part.path().to_path_buf();
            if family != rest.family {
                let (what, found, expected) = ("family", format!("{family:?}"), format!("{:?}", rest.family));
                return Err(ModelError::Towers { path, what, found, expected });
            }
            let expected = rest.embedding_dim();
            if let Some(found) = embedding_dim.filter(|found| *found != expected) {
                let (found, expected) = (found.to_string(), expected.to_string());
                return Err(ModelError::Towers { path, what: "length of an embedding", found, expected });
            }
            match half {
                Half::Image(vision) => config.vision = vision,
                // Its file alone does not say what reads it.
                Half::Text(text) if family == Family::Dual && embedding_dim.is_none() => {
                    let (pool, eos_id) = (rest.text.pool, rest.text.eos_id);
                    config.text = TextConfig { pool, eos_id, ..text };
                }
                Half::Text(text) => config.text = text,
            }
            parts.push(part);
        }
        config.validate()?;
        Ok(Self::of(config, parts, Some(seed)))
    }

    /// A model of two towers; a projection that a file lacks, and the parameters of the logits, are new. Where neither has a
    /// projection, embeddings are as long as the image tower is wide.
    ///
    /// # Errors
    /// As [`Import::towers`].
    pub fn join(image: TowerImport, text: TowerImport, seed: u64) -> Result<Self> {
        let embedding_dim = image.embedding_dim.or(text.embedding_dim);
        let rest = match (&image.half, &text.half, image.family) {
            (Half::Image(vision), Half::Text(text), Family::Siglip) => ModelConfig::new(vision.clone(), text.clone()),
            (Half::Image(vision), Half::Text(text), Family::Clip) => {
                let clip = ModelConfig::new(vision.clone(), text.clone()).into_clip();
                ModelConfig { embedding_dim, ..clip }
            }
            (Half::Image(vision), Half::Text(text), Family::Dual) => {
                let dual = ModelConfig::new(vision.clone(), text.clone()).into_dual();
                let text = TextConfig { pool: text.pool, eos_id: text.eos_id, ..dual.text };
                ModelConfig { embedding_dim: Some(embedding_dim.unwrap_or(vision.width)), text, ..dual }
            }
            _ => return Err(ModelError::NoTower { path: text.part.path().to_path_buf(), tower: "other" }),
        };
        Self::towers(&rest, vec![image, text], seed)
    }
}

//! big_vision's names of a SigLIP, and its sizes, which stand in the shapes of its tensors.

use std::path::Path;

use super::{block, swap};
use crate::config::{ModelConfig, TextConfig, TextPadding, TextPool, VisionConfig};
use crate::param::Param;
use crate::source::{Entry, TensorSource};
use crate::stored::{FilePart, Order};
use crate::{Activation, Layout, ModelError, Result};

const ATTENTION: &str = "MultiHeadDotProductAttention_0";

const TEXT: [(&str, &str); 4] = [
    ("embeddings.token_embedding.weight", "Embed_0/embedding"),
    ("embeddings.position_embedding.weight", "pos_embedding"),
    ("final_layer_norm.", "Encoder_0/encoder_norm/"),
    ("head.", "head/"),
];

const VISION: [(&str, &str); 6] = [
    ("embeddings.patch_embedding.", "embedding/"),
    ("embeddings.position_embedding.weight", "pos_embedding"),
    ("post_layernorm.", "Transformer/encoder_norm/"),
    ("head.probe", "MAPHead_0/probe"),
    ("head.layernorm.", "MAPHead_0/LayerNorm_0/"),
    ("head.mlp.", "MAPHead_0/MlpBlock_0/"),
];

const BLOCK: [(&str, &str); 3] =
    [("layer_norm1.", "LayerNorm_0/"), ("layer_norm2.", "LayerNorm_1/"), ("mlp.", "MlpBlock_0/")];

/// Whether the blocks of a tower are one tensor with an axis of layers, as a scanned model has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stacked {
    /// Of the image tower.
    pub image: bool,
    /// Of the text tower.
    pub text: bool,
}

/// Tensors that hold a parameter, one after the other.
pub(super) fn parts(param: &Param, config: &ModelConfig, prefix: &str, stacked: Stacked) -> Vec<FilePart> {
    let (name, shape) = (param.name(), param.value().shape());
    let (tower, inner, heads) = match (name.strip_prefix("text_model."), name.strip_prefix("vision_model.")) {
        (Some(inner), _) => ("txt", inner, config.text.num_heads),
        (_, Some(inner)) => ("img", inner, config.vision.num_heads),
        _ => {
            let name = if name == "logit_scale" { "t" } else { "b" };
            return vec![FilePart { name: format!("{prefix}{name}"), shape: vec![1], order: Order::Same }];
        }
    };
    let (encoder, table, stacked) = match tower {
        "txt" => ("Encoder_0", &TEXT[..], stacked.text),
        _ => ("Transformer", &VISION[..], stacked.image),
    };
    let (folder, rest, layers) = match block(inner) {
        Some((_, rest)) if stacked => (format!("{encoder}/encoderblock/"), rest, true),
        Some((i, rest)) => (format!("{encoder}/encoderblock_{i}/"), rest, false),
        None => (String::new(), inner, false),
    };
    let attention = rest.strip_prefix("self_attn.").map(|part| (folder.clone(), part));
    let attention = attention.or_else(|| Some(("MAPHead_0/".to_string(), rest.strip_prefix("head.attention.")?)));
    let all = match attention {
        Some((folder, part)) => projections(&format!("{folder}{ATTENTION}/"), part, shape, heads),
        None => {
            let table = if folder.is_empty() { table } else { &BLOCK[..] };
            vec![plain(&format!("{folder}{}", swap(rest, table).unwrap_or_else(|| rest.to_string())), shape)]
        }
    };
    let axis = |shape: Vec<usize>| if layers { [&[1], shape.as_slice()].concat() } else { shape };
    all.into_iter()
        .map(|FilePart { name, shape, order }| FilePart {
            name: format!("{prefix}{tower}/{name}"),
            shape: axis(shape),
            order,
        })
        .collect()
}

/// `query`, `key`, `value` or `out` of a layer of attention, with an axis of heads; `part` is `qkv_proj.weight`, say.
fn projections(folder: &str, part: &str, shape: &[usize], heads: usize) -> Vec<FilePart> {
    let (layer, kind) = part.split_once('.').unwrap_or((part, ""));
    let names: &[&str] = match layer {
        "qkv_proj" => &["query", "key", "value"],
        "q_proj" => &["query"],
        "kv_proj" => &["key", "value"],
        _ => &["out"],
    };
    let rows = shape[0] / names.len();
    let one = |name: &&str| match (*name, kind) {
        ("out", "weight") => {
            let (cols, order) = (shape[1], Order::transposed(rows, shape[1]));
            FilePart { name: format!("{folder}out/kernel"), shape: vec![heads, cols / heads, rows], order }
        }
        ("out", _) => FilePart { name: format!("{folder}out/bias"), shape: vec![rows], order: Order::Same },
        (name, "weight") => {
            let (cols, order) = (shape[1], Order::transposed(rows, shape[1]));
            FilePart { name: format!("{folder}{name}/kernel"), shape: vec![cols, heads, rows / heads], order }
        }
        (name, _) => {
            FilePart { name: format!("{folder}{name}/bias"), shape: vec![heads, rows / heads], order: Order::Same }
        }
    };
    names.iter().map(one).collect()
}

/// A tensor that is one parameter, under flax's word for its kind.
fn plain(name: &str, shape: &[usize]) -> FilePart {
    let name = name.replace("fc1.", "Dense_0/").replace("fc2.", "Dense_1/");
    let same = |name: String, shape: &[usize]| FilePart { name, shape: shape.to_vec(), order: Order::Same };
    if name.ends_with("pos_embedding") {
        return same(name, &[&[1], shape].concat());
    }
    let Some(stem) = name.strip_suffix("weight") else { return same(name, shape) };
    match *shape {
        [_] => same(format!("{stem}scale"), shape),
        [rows, cols] => {
            FilePart { name: format!("{stem}kernel"), shape: vec![cols, rows], order: Order::transposed(rows, cols) }
        }
        [width, channels, height, side] => FilePart {
            name: format!("{stem}kernel"),
            shape: vec![height, side, channels, width],
            order: Order::Permuted { shape: shape.to_vec(), axes: vec![2, 3, 1, 0] },
        },
        _ => same(name, shape),
    }
}

/// Sizes and layout of a SigLIP by the shapes of its tensors.
///
/// # Errors
/// `Archive` when a tensor that says a size is missing, `UnsupportedKey` when it has another number of axes; what
/// [`ModelConfig::validate`] reports.
pub(crate) fn config(source: &dyn TensorSource) -> Result<(ModelConfig, Layout)> {
    let sizes = Sizes::of(source);
    let [patch, _, _, width] = sizes.axes("img/embedding/kernel")?;
    let [_, patches, _] = sizes.axes("img/pos_embedding")?;
    let [vocab_size, text_width] = sizes.axes("txt/Embed_0/embedding")?;
    let [_, tokens, _] = sizes.axes("txt/pos_embedding")?;
    let [_, num_heads, _] = sizes.axes(&format!("img/MAPHead_0/{ATTENTION}/query/kernel"))?;
    let [_, mlp_dim] = sizes.axes("img/MAPHead_0/MlpBlock_0/Dense_0/kernel")?;
    let image = sizes.depth("img/Transformer");
    let text = sizes.depth("txt/Encoder_0");
    let stacked = Stacked { image: image.1, text: text.1 };
    let (text_heads, text_mlp) = if stacked.text {
        let [_, _, heads, _] = sizes.axes(&format!("txt/Encoder_0/encoderblock/{ATTENTION}/query/kernel"))?;
        let [_, _, mlp] = sizes.axes("txt/Encoder_0/encoderblock/MlpBlock_0/Dense_0/kernel")?;
        (heads, mlp)
    } else {
        let [_, heads, _] = sizes.axes(&format!("txt/Encoder_0/encoderblock_0/{ATTENTION}/query/kernel"))?;
        let [_, mlp] = sizes.axes("txt/Encoder_0/encoderblock_0/MlpBlock_0/Dense_0/kernel")?;
        (heads, mlp)
    };
    let (gelu, layer_norm_eps) = (Activation::Tanh, 1e-6);
    let vision = VisionConfig {
        image_size: patches.isqrt().saturating_mul(patch),
        patch_size: patch,
        width,
        depth: image.0,
        num_heads,
        mlp_dim,
        gelu,
        layer_norm_eps,
    };
    let text = TextConfig {
        tokens,
        vocab_size,
        width: text_width,
        depth: text.0,
        num_heads: text_heads,
        mlp_dim: text_mlp,
        padding: TextPadding::Attended,
        pool: TextPool::Last,
        eos_id: 1,
        gelu,
        layer_norm_eps,
    };
    let config = ModelConfig::new(vision, text);
    config.validate()?;
    Ok((config, Layout::BigVision { prefix: sizes.prefix, stacked }))
}

/// Why a tensor of a training checkpoint is no part of the model, if it is none.
pub(crate) fn ignored(name: &str) -> Option<&'static str> {
    let state = ["opt/", "chrono/"].iter().any(|part| name.starts_with(part));
    state.then_some("state of its training")
}

/// Shapes of a source by name, without the prefix.
struct Sizes<'a> {
    path: &'a Path,
    entries: Vec<Entry>,
    prefix: &'static str,
}

impl<'a> Sizes<'a> {
    fn of(source: &'a dyn TensorSource) -> Self {
        let entries = source.entries();
        let prefixed = entries.iter().any(|entry| entry.name.starts_with("params/"));
        Self { path: source.path(), entries, prefix: if prefixed { "params/" } else { "" } }
    }

    fn find(&self, name: &str) -> Option<&Entry> {
        let name = format!("{}{name}", self.prefix);
        self.entries.iter().find(|entry| entry.name == name)
    }

    fn axes<const N: usize>(&self, name: &str) -> Result<[usize; N]> {
        let path = self.path.to_path_buf();
        let Some(found) = self.find(name) else {
            let what = format!("holds no {}{name}: it is no SigLIP of big_vision's", self.prefix);
            return Err(ModelError::Archive { path, what });
        };
        found.shape.as_slice().try_into().map_err(|_| {
            let value = format!("of shape {:?} where {N} axes are needed", found.shape);
            ModelError::UnsupportedKey { path, key: found.name.clone(), value }
        })
    }

    /// Blocks of a tower, and whether they are stacked: the axis of layers, or how many there are by number.
    fn depth(&self, encoder: &str) -> (usize, bool) {
        if let Some(norm) = self.find(&format!("{encoder}/encoderblock/LayerNorm_0/scale")) {
            return (norm.shape.first().copied().unwrap_or(0), true);
        }
        let there = |i: &usize| self.find(&format!("{encoder}/encoderblock_{i}/LayerNorm_0/scale")).is_some();
        ((0..self.entries.len()).take_while(there).count(), false)
    }
}

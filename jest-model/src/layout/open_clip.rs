//! open_clip's names.

use super::{block, swap};
use crate::config::{Family, ModelConfig};
use crate::param::Param;
use crate::stored::{FilePart, Order};

const TEXT: [(&str, &str); 4] = [
    ("embeddings.token_embedding.weight", "token_embedding.weight"),
    ("embeddings.position_embedding.weight", "positional_embedding"),
    ("final_layer_norm.", "ln_final."),
    ("head.", "text_projection."),
];

/// A block of open_clip's own transformer.
const BLOCK: [(&str, &str); 6] = [
    ("layer_norm1.", "ln_1."),
    ("self_attn.qkv_proj.", "attn.in_proj_"),
    ("self_attn.out_proj.", "attn.out_proj."),
    ("layer_norm2.", "ln_2."),
    ("mlp.fc1.", "mlp.c_fc."),
    ("mlp.fc2.", "mlp.c_proj."),
];

const CLIP_VISION: [(&str, &str); 5] = [
    ("embeddings.class_embedding", "class_embedding"),
    ("embeddings.patch_embedding.weight", "conv1.weight"),
    ("embeddings.position_embedding.weight", "positional_embedding"),
    ("pre_layrnorm.", "ln_pre."),
    ("post_layernorm.", "ln_post."),
];

/// timm's vision transformer.
const TRUNK: [(&str, &str); 9] = [
    ("embeddings.patch_embedding.", "patch_embed.proj."),
    ("embeddings.position_embedding.weight", "pos_embed"),
    ("post_layernorm.", "norm."),
    ("head.probe", "attn_pool.latent"),
    ("head.attention.q_proj.", "attn_pool.q."),
    ("head.attention.kv_proj.", "attn_pool.kv."),
    ("head.attention.out_proj.", "attn_pool.proj."),
    ("head.layernorm.", "attn_pool.norm."),
    ("head.mlp.", "attn_pool.mlp."),
];

const TRUNK_BLOCK: [(&str, &str); 5] = [
    ("layer_norm1.", "norm1."),
    ("self_attn.qkv_proj.", "attn.qkv."),
    ("self_attn.out_proj.", "attn.proj."),
    ("layer_norm2.", "norm2."),
    ("mlp.", "mlp."),
];

/// The one tensor that holds a parameter; queries, keys and values are joined there as here.
pub(super) fn part(param: &Param, config: &ModelConfig, custom_text: bool) -> FilePart {
    let (name, shape) = (param.name(), param.value().shape().to_vec());
    let text = if custom_text || config.family == Family::Siglip { "text." } else { "" };
    let same = |name: String, shape: Vec<usize>| FilePart { name, shape, order: Order::Same };
    if let Some(inner) = name.strip_prefix("text_model.") {
        let named = match block(inner) {
            Some((i, rest)) => swap(rest, &BLOCK).map(|rest| format!("transformer.resblocks.{i}.{rest}")),
            None => swap(inner, &TEXT),
        };
        return same(format!("{text}{}", named.unwrap_or_else(|| inner.to_string())), shape);
    }
    if let Some(inner) = name.strip_prefix("vision_model.") {
        let siglip = config.family == Family::Siglip;
        let named = match (block(inner), siglip) {
            (Some((i, rest)), true) => swap(rest, &TRUNK_BLOCK).map(|rest| format!("trunk.blocks.{i}.{rest}")),
            (Some((i, rest)), false) => swap(rest, &BLOCK).map(|rest| format!("transformer.resblocks.{i}.{rest}")),
            (None, true) => swap(inner, &TRUNK).map(|rest| format!("trunk.{rest}")),
            (None, false) => swap(inner, &CLIP_VISION),
        };
        let name = format!("visual.{}", named.unwrap_or_else(|| inner.to_string()));
        let shape = if name.ends_with("trunk.pos_embed") { [&[1], shape.as_slice()].concat() } else { shape };
        return same(name, shape);
    }
    let theirs = match name {
        "text_projection.weight" => format!("{text}text_projection"),
        "visual_projection.weight" => "visual.proj".to_string(),
        // Numbers without axes, in both layouts.
        _ => return same(name.to_string(), Vec::new()),
    };
    // A projection multiplies from the right.
    FilePart { name: theirs, order: Order::transposed(shape[0], shape[1]), shape: vec![shape[1], shape[0]] }
}

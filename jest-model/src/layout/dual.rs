//! Hugging Face's names in DINOv2 and BERT, in a `VisionTextDualEncoderModel`.

use super::{block, swap};
use crate::config::{ModelConfig, TextPool};
use crate::param::Param;
use crate::stored::FilePart;

const VISION: [(&str, &str); 4] = [
    ("embeddings.class_embedding", "embeddings.cls_token"),
    ("embeddings.patch_embedding.", "embeddings.patch_embeddings.projection."),
    ("embeddings.position_embedding.weight", "embeddings.position_embeddings"),
    ("post_layernorm.", "layernorm."),
];

const VISION_BLOCK: [(&str, &str); 8] = [
    ("layer_norm1.", "norm1."),
    ("self_attn.q_proj.", "attention.attention.query."),
    ("self_attn.k_proj.", "attention.attention.key."),
    ("self_attn.v_proj.", "attention.attention.value."),
    ("self_attn.out_proj.", "attention.output.dense."),
    ("layer_scale", "layer_scale"),
    ("layer_norm2.", "norm2."),
    ("mlp.", "mlp."),
];

const TEXT: [(&str, &str); 4] = [
    ("embeddings.token_embedding.", "embeddings.word_embeddings."),
    ("embeddings.position_embedding.", "embeddings.position_embeddings."),
    ("embeddings.token_type_embedding.", "embeddings.token_type_embeddings."),
    ("embeddings.layer_norm.", "embeddings.LayerNorm."),
];

const TEXT_BLOCK: [(&str, &str); 8] = [
    ("self_attn.q_proj.", "attention.self.query."),
    ("self_attn.k_proj.", "attention.self.key."),
    ("self_attn.v_proj.", "attention.self.value."),
    ("self_attn.out_proj.", "attention.output.dense."),
    ("layer_norm1.", "attention.output.LayerNorm."),
    ("mlp.fc1.", "intermediate.dense."),
    ("mlp.fc2.", "output.dense."),
    ("layer_norm2.", "output.LayerNorm."),
];

/// The tensors that hold a parameter.
pub(super) fn parts(param: &Param) -> Vec<FilePart> {
    let named = |part: FilePart| {
        let name = name(&part.name);
        // Tables of one example.
        let axes = match name.as_str() {
            "vision_model.embeddings.cls_token" => 2,
            "vision_model.embeddings.position_embeddings" => 1,
            _ => 0,
        };
        let shape = [vec![1; axes], part.shape].concat();
        FilePart { name, shape, ..part }
    };
    param.file_parts().into_iter().map(named).collect()
}

fn name(ours: &str) -> String {
    let theirs = |tower: &str, tables: [&[(&str, &str)]; 2]| {
        let inner = ours.strip_prefix(tower)?;
        let named = match block(inner) {
            Some((i, rest)) => swap(rest, tables[1]).map(|rest| format!("encoder.layer.{i}.{rest}")),
            None => swap(inner, tables[0]),
        };
        Some(format!("{tower}{}", named.unwrap_or_else(|| inner.to_string())))
    };
    theirs("vision_model.", [&VISION, &VISION_BLOCK])
        .or_else(|| theirs("text_model.", [&TEXT, &TEXT_BLOCK]))
        .unwrap_or_else(|| ours.to_string())
}

/// Why a tensor is not read; none where it is.
pub(super) fn ignored(name: &str, config: &ModelConfig) -> Option<&'static str> {
    if name.ends_with("embeddings.mask_token") {
        return Some("it stands for hidden patches, which DINOv2's own training has");
    }
    let pooler = name.strip_prefix("text_model.").unwrap_or(name).starts_with("pooler.dense.");
    (pooler && config.text.pool == TextPool::Mean).then_some("a text is the mean of its tokens, without the pooler")
}

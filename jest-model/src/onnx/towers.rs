//! The towers as graphs.

use super::graph::{Attribute, Element, Graph};
use super::layers::{Sizes, block, layer_norm, linear, map_head, unit};
use crate::config::{Family, ModelConfig, TextPadding, TextPool};
use crate::layers::TextPooling;
use crate::text::TextTower;
use crate::vision::{ImageHead, VisionTower};

/// Of a logit of attention that is not to count: behind the softmax nothing is left of it.
const HIDDEN: f32 = f32::MIN;

/// `pixel_values` `[batch, 3, s, s]` -> `image_embeds` `[batch, d]` of unit length; of SigLIP also `pooler_output`, the same
/// before it is scaled.
pub(super) fn vision<'a>(tower: &'a VisionTower, config: &ModelConfig) -> Graph<'a> {
    let (v, mut graph) = (&config.vision, Graph::new("vision_model"));
    let g = &mut graph;
    let patches = v.grid() * v.grid();
    let l = config.class_tokens() + patches;
    g.input("pixel_values", Element::F32, &[3, v.image_size, v.image_size]);
    let mut x = image_tokens(g, tower, config, patches);
    let sizes = Sizes { l, width: v.width, num_heads: v.num_heads, gelu: v.gelu, eps: v.layer_norm_eps, mask: None };
    for layer in &tower.encoder.blocks {
        x = block(g, &x, layer, &sizes);
    }
    let pooled = match &tower.head {
        ImageHead::Map(head) => {
            let x = layer_norm(g, &x, &tower.norm, sizes.eps);
            map_head(g, &x, head, &sizes)
        }
        ImageHead::Class(projection) => {
            let first = g.int(0);
            let x = g.node("Gather", &[&x, &first], &[Attribute::Int("axis", 1)]);
            let x = layer_norm(g, &x, &tower.norm, sizes.eps);
            linear(g, &x, projection)
        }
    };
    finish(graph, &pooled, "image_embeds", config)
}

/// Patches, a class token where there is one, positions, and a norm where there is one: `[batch, l, width]`.
fn image_tokens<'a>(g: &mut Graph<'a>, tower: &'a VisionTower, config: &ModelConfig, patches: usize) -> String {
    let (v, embedding) = (&config.vision, &tower.embedding);
    let kernel = g.param(&embedding.kernel);
    let bias = embedding.bias.as_ref().map(|bias| g.param(bias));
    let inputs: Vec<&str> = ["pixel_values", &kernel].into_iter().chain(bias.as_deref()).collect();
    let x = g.node("Conv", &inputs, &[Attribute::Ints("strides", &[v.patch_size as i64; 2])]);
    let shape = g.ints(&[0, v.width as i64, patches as i64]);
    let x = g.node("Reshape", &[&x, &shape], &[]);
    let mut x = g.node("Transpose", &[&x], &[Attribute::Ints("perm", &[0, 2, 1])]);
    if let Some(class) = &embedding.class {
        let token = g.param(&class.token);
        let batch = g.node("Shape", &["pixel_values"], &[Attribute::Int("start", 0), Attribute::Int("end", 1)]);
        let rest = g.ints(&[1, v.width as i64]);
        let shape = g.node("Concat", &[&batch, &rest], &[Attribute::Int("axis", 0)]);
        let tokens = g.node("Expand", &[&token, &shape], &[]);
        x = g.node("Concat", &[&tokens, &x], &[Attribute::Int("axis", 1)]);
    }
    let position = g.param(&embedding.position);
    let x = g.node("Add", &[&x, &position], &[]);
    match &embedding.norm {
        Some(norm) => layer_norm(g, &x, norm, v.layer_norm_eps),
        None => x,
    }
}

/// `input_ids` `[batch, tokens]` -> `text_embeds` `[batch, d]` of unit length; of SigLIP also `pooler_output`, the same before it
/// is scaled. Where a text ends is where its first end mark is.
pub(super) fn text<'a>(tower: &'a TextTower, config: &ModelConfig) -> Graph<'a> {
    let (t, mut graph) = (&config.text, Graph::new("text_model"));
    let g = &mut graph;
    g.input("input_ids", Element::I64, &[t.tokens]);
    let table = g.param(&tower.token);
    let x = g.node("Gather", &[&table, "input_ids"], &[]);
    let position = g.param(&tower.position);
    let mut x = g.node("Add", &[&x, &position], &[]);
    if let Some(layer) = &tower.embedding_norm {
        let (types, first) = (g.param(&layer.types), g.int(0));
        let kind = g.node("Gather", &[&types, &first], &[]);
        x = g.node("Add", &[&x, &kind], &[]);
        x = layer_norm(g, &x, &layer.norm, t.layer_norm_eps);
    }
    let end = (t.pool == TextPool::Eos || t.padding == TextPadding::Masked).then(|| first_end(g, t.eos_id));
    let mask = match (config.family, t.padding, &end) {
        (Family::Clip, ..) => Some(causal(g, t.tokens)),
        (_, TextPadding::Masked, Some(end)) => Some(behind(g, end, t.tokens)),
        _ => None,
    };
    let sizes =
        Sizes { l: t.tokens, width: t.width, num_heads: t.num_heads, gelu: t.gelu, eps: t.layer_norm_eps, mask };
    for layer in &tower.encoder.blocks {
        x = block(g, &x, layer, &sizes);
    }
    let x = match (t.pool, &end) {
        (TextPool::Eos, Some(end)) => g.node("GatherND", &[&x, end], &[Attribute::Int("batch_dims", 1)]),
        (TextPool::Mean, Some(end)) => mean(g, &x, end, t.tokens),
        (pool, _) => {
            let place = g.int(if pool == TextPool::Pooler { 0 } else { t.tokens as i64 - 1 });
            g.node("Gather", &[&x, &place], &[Attribute::Int("axis", 1)])
        }
    };
    let x = match &tower.pooling {
        TextPooling::Token(norm) => layer_norm(g, &x, norm, sizes.eps),
        TextPooling::Mean => x,
        TextPooling::Pooler(dense) => {
            let h = linear(g, &x, dense);
            g.node("Tanh", &[&h], &[])
        }
    };
    let pooled = linear(g, &x, &tower.head);
    finish(graph, &pooled, "text_embeds", config)
}

/// Place of the first end mark of each text: `[batch, 1]`.
fn first_end(g: &mut Graph<'_>, eos_id: u32) -> String {
    let eos = g.int(i64::from(eos_id));
    let is_end = g.node("Equal", &["input_ids", &eos], &[]);
    let is_end = g.node("Cast", &[&is_end], &[Attribute::Int("to", Element::F32 as i64)]);
    g.node("ArgMax", &[&is_end], &[Attribute::Int("axis", 1), Attribute::Int("keepdims", 1)])
}

/// No token sees a later one: `[l, l]`.
fn causal(g: &mut Graph<'_>, l: usize) -> String {
    let hidden = |i: usize| move |j| if j > i { HIDDEN } else { 0.0 };
    let values: Vec<f32> = (0..l).flat_map(|i| (0..l).map(hidden(i))).collect();
    g.floats("causal", &[l, l], &values)
}

/// The mean of the tokens up to the end: `[batch, width]`.
fn mean(g: &mut Graph<'_>, x: &str, end: &str, l: usize) -> String {
    let places: Vec<i64> = (0..l as i64).collect();
    let (places, one) = (g.ints(&places), g.int(1));
    let later = g.node("Greater", &[&places, end], &[]);
    let counted = g.node("Not", &[&later], &[]);
    let counted = g.node("Cast", &[&counted], &[Attribute::Int("to", Element::F32 as i64)]);
    let shape = g.ints(&[0, 1, l as i64]);
    let counted = g.node("Reshape", &[&counted, &shape], &[]);
    let sum = g.node("MatMul", &[&counted, x], &[]);
    let width = g.ints(&[0, -1]);
    let sum = g.node("Reshape", &[&sum, &width], &[]);
    let count = g.node("Add", &[end, &one], &[]);
    let count = g.node("Cast", &[&count], &[Attribute::Int("to", Element::F32 as i64)]);
    g.node("Div", &[&sum, &count], &[])
}

/// No token sees one behind the end: `[batch, 1, 1, l]`.
fn behind(g: &mut Graph<'_>, end: &str, l: usize) -> String {
    let places: Vec<i64> = (0..l as i64).collect();
    let places = g.ints(&places);
    let later = g.node("Greater", &[&places, end], &[]);
    let later = g.node("Cast", &[&later], &[Attribute::Int("to", Element::F32 as i64)]);
    let hidden = g.number(HIDDEN);
    let mask = g.node("Mul", &[&later, &hidden], &[]);
    let shape = g.ints(&[0, 1, 1, l as i64]);
    g.node("Reshape", &[&mask, &shape], &[])
}

fn finish<'a>(mut graph: Graph<'a>, pooled: &str, embeds: &str, config: &ModelConfig) -> Graph<'a> {
    let d = config.embedding_dim();
    unit(&mut graph, pooled, embeds);
    graph.output(embeds, &[d]);
    if config.family == Family::Siglip {
        graph.named("Identity", &[pooled], &[], &["pooler_output"]);
        graph.output("pooler_output", &[d]);
    }
    graph
}

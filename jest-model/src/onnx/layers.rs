//! The layers of both towers as nodes: each function stands for the forward of the layer that it is named after.

use super::graph::{Attribute, Graph};
use crate::config::Activation;
use crate::layers::{Block, LayerNorm, LayerScale, Linear, MapHead, Mlp, SelfAttention};

/// Shorter rows are divided by this length.
const LEAST_NORM: f32 = jest_kernels::ops::l2_normalize::EPSILON;

/// What the blocks of a tower share.
pub(super) struct Sizes {
    /// Tokens of an example.
    pub l: usize,
    pub width: usize,
    pub num_heads: usize,
    pub gelu: Activation,
    pub eps: f32,
    /// Added to the logits of attention: 0, or the lowest number where a token is not to be seen.
    pub mask: Option<String>,
}

impl Sizes {
    fn head_dim(&self) -> usize {
        self.width / self.num_heads
    }
}

pub(super) fn linear<'a>(g: &mut Graph<'a>, x: &str, layer: &'a Linear) -> String {
    let weight = g.transposed(&layer.weight);
    let y = g.node("MatMul", &[x, &weight], &[]);
    let Some(bias) = &layer.bias else { return y };
    let bias = g.param(bias);
    g.node("Add", &[&y, &bias], &[])
}

pub(super) fn layer_norm<'a>(g: &mut Graph<'a>, x: &str, layer: &'a LayerNorm, eps: f32) -> String {
    let (weight, bias) = (g.param(&layer.weight), g.param(&layer.bias));
    g.node("LayerNormalization", &[x, &weight, &bias], &[Attribute::Int("axis", -1), Attribute::Float("epsilon", eps)])
}

pub(super) fn block<'a>(g: &mut Graph<'a>, x: &str, layer: &'a Block, sizes: &Sizes) -> String {
    if layer.norms_behind() {
        let h = attention(g, x, &layer.attention, sizes);
        let x = g.node("Add", &[x, &h], &[]);
        let x = layer_norm(g, &x, &layer.norm1, sizes.eps);
        let h = mlp(g, &x, &layer.mlp, sizes.gelu);
        let x = g.node("Add", &[&x, &h], &[]);
        return layer_norm(g, &x, &layer.norm2, sizes.eps);
    }
    let h = layer_norm(g, x, &layer.norm1, sizes.eps);
    let h = attention(g, &h, &layer.attention, sizes);
    let h = scaled(g, h, layer.scale1.as_ref());
    let x = g.node("Add", &[x, &h], &[]);
    let h = layer_norm(g, &x, &layer.norm2, sizes.eps);
    let h = mlp(g, &h, &layer.mlp, sizes.gelu);
    let h = scaled(g, h, layer.scale2.as_ref());
    g.node("Add", &[&x, &h], &[])
}

fn scaled<'a>(g: &mut Graph<'a>, h: String, scale: Option<&'a LayerScale>) -> String {
    let Some(scale) = scale else { return h };
    let scale = g.param(&scale.scale);
    g.node("Mul", &[&h, &scale], &[])
}

/// x: `[batch, l, width]` -> y: `[batch, width]`
pub(super) fn map_head<'a>(g: &mut Graph<'a>, x: &str, layer: &'a MapHead, sizes: &Sizes) -> String {
    let probe = g.param(&layer.probe);
    let q = linear(g, &probe, &layer.q);
    let shape = g.ints(&[1, 1, sizes.num_heads as i64, 1, sizes.head_dim() as i64]);
    let q = g.node("Reshape", &[&q, &shape], &[]);
    let kv = linear(g, x, &layer.kv);
    let [k, v] = heads(g, &kv, sizes);
    let h = weighted(g, [&q, &k, &v], sizes, None);
    let shape = g.ints(&[0, sizes.width as i64]);
    let h = g.node("Reshape", &[&h, &shape], &[]);
    let x = linear(g, &h, &layer.out);
    let h = layer_norm(g, &x, &layer.norm, sizes.eps);
    let h = mlp(g, &h, &layer.mlp, sizes.gelu);
    g.node("Add", &[&x, &h], &[])
}

/// `x / max(|x|, EPSILON)` of every row.
pub(super) fn unit(g: &mut Graph<'_>, x: &str, output: &str) {
    let norm = g.node("ReduceL2", &[x], &[Attribute::Ints("axes", &[-1]), Attribute::Int("keepdims", 1)]);
    let least = g.number(LEAST_NORM);
    let norm = g.node("Max", &[&norm, &least], &[]);
    g.named("Div", &[x, &norm], &[], &[output]);
}

fn mlp<'a>(g: &mut Graph<'a>, x: &str, layer: &'a Mlp, activation: Activation) -> String {
    let h = linear(g, x, &layer.fc1);
    let h = gelu(g, &h, activation);
    linear(g, &h, &layer.fc2)
}

fn gelu(g: &mut Graph<'_>, x: &str, activation: Activation) -> String {
    let times = |g: &mut Graph<'_>, x: &str, by: f32| {
        let by = g.number(by);
        g.node("Mul", &[x, &by], &[])
    };
    let bent = match activation {
        Activation::Quick => {
            let h = times(g, x, 1.702);
            let h = g.node("Sigmoid", &[&h], &[]);
            return g.node("Mul", &[x, &h], &[]);
        }
        Activation::Erf => {
            let h = times(g, x, std::f32::consts::FRAC_1_SQRT_2);
            g.node("Erf", &[&h], &[])
        }
        Activation::Tanh => {
            let square = g.node("Mul", &[x, x], &[]);
            let cube = g.node("Mul", &[&square, x], &[]);
            let h = times(g, &cube, 0.044_715);
            let h = g.node("Add", &[x, &h], &[]);
            // sqrt(2 / pi)
            let h = times(g, &h, std::f32::consts::FRAC_2_SQRT_PI * std::f32::consts::FRAC_1_SQRT_2);
            g.node("Tanh", &[&h], &[])
        }
    };
    let one = g.number(1.0);
    let h = g.node("Add", &[&bent, &one], &[]);
    let h = g.node("Mul", &[x, &h], &[]);
    times(g, &h, 0.5)
}

/// x: `[batch, l, width]` -> y: `[batch, l, width]`
fn attention<'a>(g: &mut Graph<'a>, x: &str, layer: &'a SelfAttention, sizes: &Sizes) -> String {
    let packed = linear(g, x, &layer.qkv);
    let [q, k, v] = heads(g, &packed, sizes);
    let h = weighted(g, [&q, &k, &v], sizes, sizes.mask.as_deref());
    let shape = g.ints(&[0, sizes.l as i64, sizes.width as i64]);
    let h = g.node("Reshape", &[&h, &shape], &[]);
    linear(g, &h, &layer.out)
}

/// packed: `[batch, l, N * width]` -> N of `[1, batch, heads, l, head_dim]`
fn heads<const N: usize>(g: &mut Graph<'_>, packed: &str, sizes: &Sizes) -> [String; N] {
    let shape = g.ints(&[0, sizes.l as i64, N as i64, sizes.num_heads as i64, sizes.head_dim() as i64]);
    let parts = g.node("Reshape", &[packed, &shape], &[]);
    let parts = g.node("Transpose", &[&parts], &[Attribute::Ints("perm", &[2, 0, 3, 1, 4])]);
    let names: [String; N] = std::array::from_fn(|part| format!("{parts}_part_{part}"));
    let outputs: Vec<&str> = names.iter().map(String::as_str).collect();
    g.named("Split", &[&parts], &[Attribute::Int("axis", 0)], &outputs);
    names
}

/// `softmax(q · kᵀ / sqrt(head_dim) + mask) · v`: `[batch, queries, 1, heads, head_dim]`
fn weighted(g: &mut Graph<'_>, [q, k, v]: [&str; 3], sizes: &Sizes, mask: Option<&str>) -> String {
    let scale = g.number(1.0 / (sizes.head_dim() as f32).sqrt());
    let q = g.node("Mul", &[q, &scale], &[]);
    let k = g.node("Transpose", &[k], &[Attribute::Ints("perm", &[0, 1, 2, 4, 3])]);
    let mut logits = g.node("MatMul", &[&q, &k], &[]);
    if let Some(mask) = mask {
        logits = g.node("Add", &[&logits, mask], &[]);
    }
    let shares = g.node("Softmax", &[&logits], &[Attribute::Int("axis", -1)]);
    let h = g.node("MatMul", &[&shares, v], &[]);
    g.node("Transpose", &[&h], &[Attribute::Ints("perm", &[1, 3, 0, 2, 4])])
}

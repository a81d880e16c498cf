//! What a run will take of memory, before it begins.

use std::fmt;

use jest_kernels::Precision;
use jest_model::{Family, ModelConfig, View};

use crate::approximation::Approximation;
use crate::config::{DataPlan, Objective, RunPlan};
use crate::embed;

/// The largest buffers of a run, in bytes, the largest first.
///
/// Counted from shapes, for the CPU device or a GPU alike. Buffers come in size classes that are up to a quarter larger than
/// what they hold, and only the largest temporaries are counted: `docs/configuration.md` has the error against what
/// runs took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Estimate(Vec<Buffer>);

/// Buffers of one purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Buffer {
    /// What they hold.
    pub what: &'static str,
    /// In all.
    pub bytes: u64,
    /// Keys that make them smaller.
    pub keys: &'static str,
}

/// Bytes that a sample is taken to have in a shard.
const SAMPLE: u64 = 16 << 10;

/// Of one tower.
struct Tower {
    tokens: usize,
    width: usize,
    mlp_dim: usize,
    depth: usize,
    heads: usize,
    /// Words that the embedding, the last norm and the head keep of an example.
    ends: usize,
    /// Whether what feeds products alone is stored in two bytes.
    rounded: bool,
}

impl Tower {
    fn both(config: &ModelConfig, view: &View, precision: Precision) -> [Self; 2] {
        let rounded = precision == Precision::Bf16;
        let (v, t) = (&config.vision, &config.text);
        let (tokens, patch) = (view.image_tokens(config), view.patch_size(config));
        let head = if config.family == Family::Siglip { tokens * 3 * v.width + 6 * v.mlp_dim } else { 0 };
        let image = Self {
            tokens,
            width: v.width,
            mlp_dim: v.mlp_dim,
            depth: v.depth,
            heads: v.num_heads,
            ends: tokens * (3 * patch * patch + v.width) + head,
            rounded,
        };
        let (tokens, width) = (view.text_tokens(config), t.width);
        let (mlp_dim, depth, heads) = (t.mlp_dim, t.depth, t.num_heads);
        [image, Self { tokens, width, mlp_dim, depth, heads, ends: tokens * width, rounded }]
    }

    /// Words that one block keeps of an example: inputs of its norms and products, queries, keys and values; all but the inputs
    /// of norms may be rounded.
    fn block(&self) -> usize {
        let products = 6 * self.width + 2 * self.mlp_dim;
        let products = if self.rounded { products / 2 } else { products };
        self.tokens * (2 * self.width + products + self.heads + 4)
    }

    /// Words kept of an example for the backward pass.
    fn kept(&self, recompute: bool) -> usize {
        let blocks =
            if recompute { self.depth * self.tokens * self.width + self.block() } else { self.depth * self.block() };
        blocks + self.ends
    }

    /// Words of an example's gradients within a block.
    fn gradients(&self) -> usize {
        self.tokens * (4 * self.width + 2 * self.mlp_dim)
    }
}

/// Samples that are shuffled, as they are in the shards, and as many decoded ones in the cache.
fn loader(data: &DataPlan, side: usize) -> u64 {
    let held = data.shuffle_buffer as u64;
    held * SAMPLE + (held * 3 * (side * side) as u64).min(data.cache_mb << 20)
}

impl Estimate {
    /// From the plan of a run, the model that it trains and the precision of its products.
    pub fn of(run: &RunPlan, config: &ModelConfig, precision: Precision) -> Self {
        let (sizes, selection) = (&run.selection.sizes, &run.selection);
        let (sub_batch, super_batch) = (sizes.sub_batch(), sizes.super_batch());
        let at_once = run.memory.micro_batch.map_or(sub_batch, |rows| rows.min(sub_batch));
        let towers = Tower::both(config, &View::default(), precision);
        let words = |of: &dyn Fn(&Tower) -> usize| towers.iter().map(of).collect::<Vec<_>>();
        let kept = words(&|tower| tower.kept(run.memory.recompute));
        let most = |words: Vec<usize>| words.into_iter().max().unwrap_or(0);
        // Towers go forward together and back one after the other; micro-batches have one tower in memory at a time.
        let kept = if at_once < sub_batch { most(kept) } else { kept.iter().sum() };
        let side = config.vision.image_size;
        let scored = selection.is_scored() || selection.needs_reference() || run.memory.micro_batch.is_some();
        // Images at a cheap view are scored in larger blocks; the reference's are embedded at the full one.
        let cheap = Approximation::of(selection, run.steps, 0).scoring(0);
        let [block, text_block] = [embed::image_block(config, &cheap), embed::BLOCK]
            .map(|block| if scored { super_batch.min(block) } else { 0 });
        let scoring = |view: &View, image_block: usize| {
            let [image, text] = Tower::both(config, view, precision).map(|tower| tower.block());
            (image_block * image).max(text_block * text)
        };
        let scoring = scoring(&cheap, block).max(scoring(&View::default(), text_block));
        let references = if selection.needs_reference() { run.reference.len() as u64 } else { 0 };
        let models = 4 * config.parameter_count() * (4 + references);
        // All but tokens are weights of products, nearly.
        let weights = config.parameter_count() - (config.text.vocab_size * config.text.width) as u64;
        let rounded = if precision == Precision::Bf16 { 2 * weights * (1 + references) } else { 0 };
        let stripe = 4 * 256 * (sub_batch + sub_batch.div_ceil(512) * config.embedding_dim());
        let stripe = if run.objective == Objective::Sigmoid { stripe } else { 2 * stripe };
        let bytes = |words: usize| 4 * words as u64;
        let mut all: Vec<Buffer> = [
            ("activations", bytes(at_once * kept), "memory.micro_batch, memory.recompute"),
            ("gradients of activations", bytes(at_once * most(words(&Tower::gradients))), "memory.micro_batch"),
            ("parameters, gradients, AdamW and references", models + rounded, "model.preset"),
            ("scoring", bytes(scoring), ""),
            ("pixels", bytes((at_once + block) * 2 * 3 * side * side), "memory.micro_batch"),
            ("super-batches", 3 * 3 * (super_batch * side * side) as u64, "selection.super_batch"),
            ("products of the loss", stripe as u64, "batch_size"),
            ("loader", loader(&run.data, side), "data.shuffle_buffer, data.cache_mb"),
        ]
        .map(|(what, bytes, keys)| Buffer { what, bytes, keys })
        .into();
        all.retain(|buffer| buffer.bytes > 0);
        all.sort_by_key(|buffer| std::cmp::Reverse(buffer.bytes));
        Self(all)
    }

    /// Of all buffers.
    pub fn bytes(&self) -> u64 {
        self.0.iter().map(|buffer| buffer.bytes).sum()
    }
}

/// The sum, and the buffers that are a twentieth of it or more, with the keys that help.
impl fmt::Display for Estimate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (all, mb) = (self.bytes(), |bytes: u64| bytes.div_ceil(1 << 20));
        write!(f, "about {} MB", mb(all))?;
        for (index, buffer) in self.0.iter().filter(|buffer| buffer.bytes >= all / 20).enumerate() {
            let before = if index == 0 { ": " } else { ", " };
            write!(f, "{before}{} {}", buffer.what, mb(buffer.bytes))?;
            if !buffer.keys.is_empty() {
                write!(f, " ({})", buffer.keys)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Override, Overrides, Surroundings, resolve};

    fn estimate(keys: &[&str]) -> Estimate {
        let around = Surroundings { cores: 2, exists: &|_| true, count: &|_| Ok(1000) };
        let keys = keys.iter().map(|key| Override::parse(key).unwrap()).collect();
        let overrides = Overrides { keys, ..Overrides::default() };
        let text = "batch_size = 128\nsteps = 5\ndata.train = 'a.tar'\nmodel.preset = 'xs64'";
        let plan = resolve(text, Some("one"), &overrides, &around).unwrap().plan;
        Estimate::of(&plan.runs[0], &"xs64".parse::<jest_model::Preset>().unwrap().config(), plan.precision)
    }

    #[test]
    fn cheap_scoring_takes_more_images_at_once() {
        let of = |estimate: &Estimate, what: &str| estimate.0.iter().find(|b| b.what == what).map_or(0, |b| b.bytes);
        let joint = ["selection.method='joint'", "reference='r'", "selection.filter_ratio=0.9"];
        let (full, cheap) =
            (estimate(&joint), estimate(&[&joint[..], &["selection.approximation={ patch_size = 16 }"]].concat()));
        assert!(of(&cheap, "pixels") > of(&full, "pixels"));
        // Fewer tokens in more pictures: as many words as at the full view, never fewer than the reference takes.
        assert_eq!(of(&cheap, "scoring"), of(&full, "scoring"));
    }

    #[test]
    fn the_keys_that_are_named_help() {
        // The peaks of `jest bench step --preset xs64 --batch 128`, without a loader, were 1,182 and 728 MB.
        for (precision, peak) in [("f32", 1182), ("bf16", 728)] {
            let estimate = estimate(&[&format!("precision='{precision}'")]);
            let loader = estimate.0.iter().find(|buffer| buffer.what == "loader").unwrap();
            let device = (estimate.bytes() - loader.bytes) >> 20;
            assert!((peak * 9 / 10..peak * 11 / 10).contains(&device), "{precision}: {device}");
        }
        let plain = estimate(&[]);
        for key in ["memory.micro_batch=32", "memory.recompute=true", "data.shuffle_buffer=10"] {
            assert!(estimate(&[key]).bytes() < plain.bytes(), "{key}");
        }
        let text = plain.to_string();
        assert!(
            text.starts_with("about ") && text.contains(": activations ") && text.contains("memory.recompute"),
            "{text}"
        );
        assert!(!text.contains("super-batches"), "too small to be named: {text}");
    }
}

//! One module an operation: formula and shape checks here, a WGSL kernel, a native CPU form and an f64 oracle beside.

pub mod adamw;
pub mod add;
pub mod attention;
pub mod cast;
pub mod column_scale;
pub mod column_sum;
pub mod contrastive_distillation;
pub mod contrastive_softmax;
pub mod gather_tokens;
pub mod gelu;
pub mod global_norm;
pub mod l2_normalize;
pub mod layer_norm;
pub mod matmul;
pub mod mean_pool;
pub mod patch_embed;
pub mod resize_kernel;
pub mod scale;
pub mod selection_scores;
pub mod sigmoid_loss;
pub mod softmax_cross_entropy;
pub mod tanh;
pub mod token_embedding;

use std::ops::Range;

/// Rows per block of work: fixed by the row length alone, so that results do not depend on the thread count.
pub(crate) fn block_rows(cols: usize) -> usize {
    (16_384 / cols).clamp(1, 256)
}

/// The `index`-th block of at most `block` out of `n`.
pub(crate) fn block_range(n: usize, block: usize, index: usize) -> Range<usize> {
    index * block..((index + 1) * block).min(n)
}

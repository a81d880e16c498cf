//! Layers of a transformer, each with its forward facing its backward in one file.
//!
//! `forward` gives the output and a `Saved`; `backward` takes the `Saved` by value, so that a backward without its
//! forward, or twice, does not compile. Dropping a `Saved` frees the activations: that is how scoring works. Gradients
//! of parameters accumulate.

mod attention;
mod block;
mod class_token;
mod embedding_norm;
mod encoder;
mod image_embedding;
mod layer_norm;
mod layer_scale;
mod linear;
mod map_head;
mod mlp;
mod text_pooling;

pub use attention::{SelfAttention, SelfAttentionSaved};
pub use block::{Block, BlockSaved};
pub use class_token::{ClassToken, ClassTokenSaved};
pub use embedding_norm::{EmbeddingNorm, EmbeddingNormSaved};
pub use encoder::{Encoder, EncoderSaved};
pub use image_embedding::{ImageEmbedding, ImageEmbeddingSaved};
pub use layer_norm::{LayerNorm, LayerNormSaved};
pub use layer_scale::{LayerScale, LayerScaleSaved};
pub use linear::{Linear, LinearSaved};
pub use map_head::{MapHead, MapHeadSaved};
pub use mlp::{Mlp, MlpSaved};
pub(crate) use text_pooling::Counting;
pub use text_pooling::{TextPooling, TextPoolingSaved};

use jest_kernels::Tensor;
use jest_kernels::ops::attention::Mask;
use jest_kernels::ops::gelu::Gelu;

/// How the rows of an activation divide into examples.
#[derive(Clone, Debug)]
pub struct Rows {
    /// Number of examples.
    pub n: usize,
    /// Tokens of each: an activation has n * l rows.
    pub l: usize,
    /// Tokens that attention sees of each example, u32 `[n]`; all of them when absent.
    pub lengths: Option<Tensor>,
    /// Which tokens each one attends to.
    pub mask: Mask,
}

/// Sizes that all blocks of a tower share.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BlockSizes {
    pub width: usize,
    pub num_heads: usize,
    pub mlp_dim: usize,
    pub gelu: Gelu,
    pub eps: f32,
    /// Whether what a block adds is scaled column by column.
    pub layer_scale: bool,
    /// Whether norms are behind attention and MLP, not in front.
    pub norms_behind: bool,
}

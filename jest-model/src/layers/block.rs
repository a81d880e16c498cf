//! A transformer block, norms in front: `x += attention(norm1(x)); x += mlp(norm2(x))`.

use jest_kernels::ops::add;
use jest_kernels::{Pass, Tensor};

use super::{BlockSizes, LayerNorm, LayerNormSaved, Mlp, MlpSaved, Rows, SelfAttention, SelfAttentionSaved};
use crate::Result;
use crate::param::{Builder, visits};

/// `x + attention(norm1(x))`, then `x + mlp(norm2(x))`: both towers are made of it.
#[derive(Clone, Debug)]
pub struct Block {
    /// Before attention.
    pub norm1: LayerNorm,
    /// Self-attention.
    pub attention: SelfAttention,
    /// Before the MLP.
    pub norm2: LayerNorm,
    /// Feed-forward part.
    pub mlp: Mlp,
}

visits!(Block: norm1, attention, norm2, mlp);

/// What [`Block::backward`] needs.
#[derive(Debug)]
pub struct BlockSaved {
    norm1: LayerNormSaved,
    attention: SelfAttentionSaved,
    norm2: LayerNormSaved,
    mlp: MlpSaved,
}

impl Block {
    pub(crate) fn new(b: &mut Builder, name: &str, sizes: BlockSizes) -> Result<Self> {
        let BlockSizes { width, num_heads, mlp_dim, gelu, eps } = sizes;
        Ok(Self {
            norm1: LayerNorm::new(b, &format!("{name}.layer_norm1"), width, eps)?,
            attention: SelfAttention::new(b, &format!("{name}.self_attn"), width, num_heads)?,
            norm2: LayerNorm::new(b, &format!("{name}.layer_norm2"), width, eps)?,
            mlp: Mlp::new(b, &format!("{name}.mlp"), width, mlp_dim, gelu)?,
        })
    }

    /// x: `[n * l, width]` -> y: `[n * l, width]`
    ///
    /// # Errors
    /// `Kernel` when the sizes do not fit.
    pub fn forward(&self, pass: &mut Pass, x: Tensor, rows: &Rows) -> Result<(Tensor, BlockSaved)> {
        let (h, norm1) = self.norm1.forward(pass, &x)?;
        let (h, attention) = self.attention.forward(pass, &h, rows)?;
        let x = add::forward(pass, &x, &h)?;
        let (h, norm2) = self.norm2.forward(pass, &x)?;
        let (h, mlp) = self.mlp.forward(pass, &h)?;
        let y = add::forward(pass, &x, &h)?;
        Ok((y, BlockSaved { norm1, attention, norm2, mlp }))
    }

    /// dy: `[n * l, width]` -> dx: `[n * l, width]`; read from the bottom up against [`Block::forward`].
    ///
    /// # Errors
    /// `Kernel` when the sizes do not fit.
    pub fn backward(&mut self, pass: &mut Pass, saved: BlockSaved, dy: Tensor) -> Result<Tensor> {
        let BlockSaved { norm1, attention, norm2, mlp } = saved;
        let dh = self.mlp.backward(pass, mlp, &dy)?;
        let mut dx = self.norm2.backward(pass, norm2, &dh)?;
        add::accumulate(pass, &dy, &mut dx)?;
        let dh = self.attention.backward(pass, attention, &dx)?;
        let mut dy = self.norm1.backward(pass, norm1, &dh)?;
        add::accumulate(pass, &dx, &mut dy)?;
        Ok(dy)
    }
}

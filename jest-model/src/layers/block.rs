//! A transformer block: attention, then an MLP, each with its norm in front or behind.

use jest_kernels::ops::add;
use jest_kernels::{Pass, Tensor};

use super::{
    BlockSizes, LayerNorm, LayerNormSaved, LayerScale, LayerScaleSaved, Mlp, MlpSaved, Rows, SelfAttention,
    SelfAttentionSaved,
};
use crate::Result;
use crate::param::{Builder, visits};

/// `x + scale1(attention(norm1(x)))`, then `x + scale2(mlp(norm2(x)))`; with norms behind `norm1(x + attention(x))`, then
/// `norm2(x + mlp(x))`. Both towers are made of it.
#[derive(Clone, Debug)]
pub struct Block {
    /// Of attention.
    pub norm1: LayerNorm,
    /// Self-attention.
    pub attention: SelfAttention,
    /// DINOv2 alone has it.
    pub scale1: Option<LayerScale>,
    /// Of the MLP.
    pub norm2: LayerNorm,
    /// Feed-forward part.
    pub mlp: Mlp,
    /// DINOv2 alone has it.
    pub scale2: Option<LayerScale>,
    /// Whether norms are behind what they belong to, as in BERT.
    norms_behind: bool,
}

visits!(Block: norm1, attention, scale1, norm2, mlp, scale2);

/// What [`Block::backward`] needs.
#[derive(Debug)]
pub struct BlockSaved {
    norm1: LayerNormSaved,
    attention: SelfAttentionSaved,
    scale1: Option<LayerScaleSaved>,
    norm2: LayerNormSaved,
    mlp: MlpSaved,
    scale2: Option<LayerScaleSaved>,
}

/// Of attention: its norm, itself and its scale.
type AttendSaved = (LayerNormSaved, SelfAttentionSaved, Option<LayerScaleSaved>);

impl Block {
    pub(crate) fn new(b: &mut Builder, name: &str, sizes: BlockSizes) -> Result<Self> {
        let BlockSizes { width, num_heads, mlp_dim, gelu, eps, layer_scale, norms_behind } = sizes;
        let scale = |b: &mut Builder, part: &str| {
            layer_scale.then(|| LayerScale::new(b, &format!("{name}.{part}.lambda1"), width)).transpose()
        };
        Ok(Self {
            norm1: LayerNorm::new(b, &format!("{name}.layer_norm1"), width, eps)?,
            attention: SelfAttention::new(b, &format!("{name}.self_attn"), width, num_heads)?,
            scale1: scale(b, "layer_scale1")?,
            norm2: LayerNorm::new(b, &format!("{name}.layer_norm2"), width, eps)?,
            mlp: Mlp::new(b, &format!("{name}.mlp"), width, mlp_dim, gelu)?,
            scale2: scale(b, "layer_scale2")?,
            norms_behind,
        })
    }

    /// Whether norms are behind what they belong to.
    pub(crate) fn norms_behind(&self) -> bool {
        self.norms_behind
    }

    /// x: `[n * l, width]` -> y: `[n * l, width]`
    ///
    /// # Errors
    /// `Kernel` when the sizes do not fit.
    pub fn forward(&self, pass: &mut Pass, x: Tensor, rows: &Rows) -> Result<(Tensor, BlockSaved)> {
        if self.norms_behind {
            return self.forward_norms_behind(pass, &x, rows);
        }
        let (x, (norm1, attention, scale1)) = self.attend(pass, &x, rows)?;
        let (h, norm2) = self.norm2.forward_to_product(pass, &x)?;
        let (y, mlp, scale2) = match &self.scale2 {
            None => {
                let (y, mlp) = self.mlp.forward_onto(pass, &h, &x)?;
                (y, mlp, None)
            }
            Some(scale) => {
                let (h, mlp) = self.mlp.forward(pass, &h)?;
                let (h, scale2) = scale.forward(pass, h)?;
                (add::forward(pass, &x, &h)?, mlp, Some(scale2))
            }
        };
        Ok((y, BlockSaved { norm1, attention, scale1, norm2, mlp, scale2 }))
    }

    /// As [`Block::forward`] without a backward, with the same bits.
    ///
    /// # Errors
    /// `Kernel` when the sizes do not fit.
    pub fn apply(&self, pass: &mut Pass, x: Tensor, rows: &Rows) -> Result<Tensor> {
        if self.norms_behind {
            let h = self.attention.forward(pass, &x, rows)?.0;
            let x = add::forward(pass, &x, &h)?;
            let x = self.norm1.forward(pass, &x)?.0;
            let h = self.mlp.apply(pass, &x)?;
            let y = add::forward(pass, &x, &h)?;
            return Ok(self.norm2.forward(pass, &y)?.0);
        }
        let x = self.attend(pass, &x, rows)?.0;
        let h = self.norm2.forward_to_product(pass, &x)?.0;
        let Some(scale) = &self.scale2 else { return self.mlp.apply_onto(pass, &h, &x) };
        let h = self.mlp.apply(pass, &h)?;
        let h = scale.forward(pass, h)?.0;
        Ok(add::forward(pass, &x, &h)?)
    }

    /// The first half of a block with norms in front: `x + scale1(attention(norm1(x)))`.
    fn attend(&self, pass: &mut Pass, x: &Tensor, rows: &Rows) -> Result<(Tensor, AttendSaved)> {
        let (h, norm1) = self.norm1.forward_to_product(pass, x)?;
        let Some(scale) = &self.scale1 else {
            let (x, attention) = self.attention.forward_onto(pass, &h, rows, x)?;
            return Ok((x, (norm1, attention, None)));
        };
        let (h, attention) = self.attention.forward(pass, &h, rows)?;
        let (h, scale1) = scale.forward(pass, h)?;
        Ok((add::forward(pass, x, &h)?, (norm1, attention, Some(scale1))))
    }

    /// dy: `[n * l, width]` -> dx: `[n * l, width]`; read from the bottom up against [`Block::forward`].
    ///
    /// # Errors
    /// `Kernel` when the sizes do not fit.
    pub fn backward(&mut self, pass: &mut Pass, saved: BlockSaved, dy: Tensor) -> Result<Tensor> {
        if self.norms_behind {
            return self.backward_norms_behind(pass, saved, &dy);
        }
        let BlockSaved { norm1, attention, scale1, norm2, mlp, scale2 } = saved;
        let dh = scaled_backward(self.scale2.as_mut(), pass, scale2, &dy)?;
        let dh = self.mlp.backward(pass, mlp, &dh)?;
        let dx = self.norm2.backward_onto(pass, norm2, &dh, &dy)?;
        let dh = scaled_backward(self.scale1.as_mut(), pass, scale1, &dx)?;
        let dh = self.attention.backward(pass, attention, &dh)?;
        self.norm1.backward_onto(pass, norm1, &dh, &dx)
    }

    fn forward_norms_behind(&self, pass: &mut Pass, x: &Tensor, rows: &Rows) -> Result<(Tensor, BlockSaved)> {
        let (h, attention) = self.attention.forward(pass, x, rows)?;
        let x = add::forward(pass, x, &h)?;
        let (x, norm1) = self.norm1.forward(pass, &x)?;
        let (h, mlp) = self.mlp.forward(pass, &x)?;
        let y = add::forward(pass, &x, &h)?;
        let (y, norm2) = self.norm2.forward(pass, &y)?;
        Ok((y, BlockSaved { norm1, attention, scale1: None, norm2, mlp, scale2: None }))
    }

    fn backward_norms_behind(&mut self, pass: &mut Pass, saved: BlockSaved, dy: &Tensor) -> Result<Tensor> {
        let BlockSaved { norm1, attention, norm2, mlp, .. } = saved;
        let mut dx = self.norm2.backward(pass, norm2, dy)?;
        let dh = self.mlp.backward(pass, mlp, &dx)?;
        add::accumulate(pass, &dh, &mut dx)?;
        let mut dx = self.norm1.backward(pass, norm1, &dx)?;
        let dh = self.attention.backward(pass, attention, &dx)?;
        add::accumulate(pass, &dh, &mut dx)?;
        Ok(dx)
    }
}

fn scaled_backward(
    scale: Option<&mut LayerScale>,
    pass: &mut Pass,
    saved: Option<LayerScaleSaved>,
    dy: &Tensor,
) -> Result<Tensor> {
    match (scale, saved) {
        (Some(scale), Some(saved)) => scale.backward(pass, saved, dy),
        _ => Ok(dy.clone()),
    }
}

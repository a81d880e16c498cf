//! Multi-head self-attention with its projections.

use jest_kernels::ops::attention::{self, Attention};
use jest_kernels::{Pass, Tensor};

use super::Rows;
use super::linear::{self, Linear, LinearSaved};
use crate::Result;
use crate::init::Init;
use crate::param::{Builder, visits};

/// `y = out(softmax(q · kᵀ / sqrt(head_dim)) · v)` for each head, with q, k, v = parts of `qkv(x)`.
#[derive(Clone, Debug)]
pub struct SelfAttention {
    /// width -> 3 * width: queries, keys, values.
    pub qkv: Linear,
    /// width -> width
    pub out: Linear,
    num_heads: usize,
}

visits!(SelfAttention: qkv, out);

/// What [`SelfAttention::backward`] needs.
#[derive(Debug)]
pub struct SelfAttentionSaved {
    qkv: LinearSaved,
    attention: attention::SavedPacked,
    out: LinearSaved,
}

impl SelfAttention {
    pub(crate) fn new(b: &mut Builder, name: &str, width: usize, num_heads: usize) -> Result<Self> {
        let rows = ["q", "k", "v"].map(|part| linear::Rows {
            weight: format!("{name}.{part}_proj.weight"),
            bias: format!("{name}.{part}_proj.bias"),
            n: width,
        });
        let qkv = Linear::joined(b, &format!("{name}.qkv_proj"), &rows, width)?;
        let init = Init::XavierUniform { fan_in: width, fan_out: width };
        let out = Linear::new(b, &format!("{name}.out_proj"), [width, width], init)?;
        Ok(Self { qkv, out, num_heads })
    }

    /// x: `[n * l, width]` -> y: `[n * l, width]`
    ///
    /// # Errors
    /// `Kernel` when the sizes do not fit.
    pub fn forward(&self, pass: &mut Pass, x: &Tensor, rows: &Rows) -> Result<(Tensor, SelfAttentionSaved)> {
        let (h, qkv, attention) = self.attend(pass, x, rows)?;
        let (y, out) = self.out.forward(pass, &h)?;
        Ok((y, SelfAttentionSaved { qkv, attention, out }))
    }

    /// x, residual: `[n * l, width]` -> residual + y: `[n * l, width]`
    pub(crate) fn forward_onto(
        &self,
        pass: &mut Pass,
        x: &Tensor,
        rows: &Rows,
        residual: &Tensor,
    ) -> Result<(Tensor, SelfAttentionSaved)> {
        let (h, qkv, attention) = self.attend(pass, x, rows)?;
        let (y, out) = self.out.forward_onto(pass, &h, residual)?;
        Ok((y, SelfAttentionSaved { qkv, attention, out }))
    }

    /// All but the layer behind the heads.
    fn attend(
        &self,
        pass: &mut Pass,
        x: &Tensor,
        rows: &Rows,
    ) -> Result<(Tensor, LinearSaved, attention::SavedPacked)> {
        let (packed, qkv) = self.qkv.forward_to_product(pass, x)?;
        let shape = Attention {
            n: rows.n,
            heads: self.num_heads,
            head_dim: x.cols() / self.num_heads,
            q_len: rows.l,
            k_len: rows.l,
            mask: rows.mask,
            shared_query: false,
        };
        let (h, attention) = attention::forward_packed(pass, &shape, &packed, rows.lengths.as_ref())?;
        Ok((h, qkv, attention))
    }

    /// dy: `[n * l, width]` -> dx: `[n * l, width]`
    ///
    /// # Errors
    /// `Kernel` when the sizes do not fit.
    pub fn backward(&mut self, pass: &mut Pass, saved: SelfAttentionSaved, dy: &Tensor) -> Result<Tensor> {
        let SelfAttentionSaved { qkv, attention, out } = saved;
        let dh = self.out.backward(pass, out, dy)?;
        let dpacked = attention::backward_packed(pass, attention, &dh)?;
        self.qkv.backward(pass, qkv, &dpacked)
    }
}

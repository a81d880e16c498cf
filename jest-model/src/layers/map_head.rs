//! Multi-head attention pooling (MAP): one learned query looks at all tokens of an image.

use jest_kernels::ops::add;
use jest_kernels::ops::attention::{self, Attention, Mask, PooledGradients};
use jest_kernels::{Pass, Tensor};

use super::linear::{self, Linear, LinearSaved};
use super::{BlockSizes, LayerNorm, LayerNormSaved, Mlp, MlpSaved, Rows};
use crate::Result;
use crate::init::Init;
use crate::param::{Builder, Param, visits};

/// `h = out(attention(q(probe), kv(x)))`, then `h + mlp(norm(h))`.
#[derive(Clone, Debug)]
pub struct MapHead {
    /// `[1, 1, width]`
    pub probe: Param,
    /// width -> width, of the probe.
    pub q: Linear,
    /// width -> 2 * width: keys and values.
    pub kv: Linear,
    /// width -> width
    pub out: Linear,
    /// Before the MLP.
    pub norm: LayerNorm,
    /// Feed-forward part.
    pub mlp: Mlp,
    num_heads: usize,
}

visits!(MapHead: probe, q, kv, out, norm, mlp);

/// What [`MapHead::backward`] needs.
#[derive(Debug)]
pub struct MapHeadSaved {
    q: LinearSaved,
    kv: LinearSaved,
    attention: attention::SavedPooled,
    out: LinearSaved,
    norm: LayerNormSaved,
    mlp: MlpSaved,
}

impl MapHead {
    pub(crate) fn new(b: &mut Builder, name: &str, sizes: BlockSizes) -> Result<Self> {
        let BlockSizes { width, num_heads, mlp_dim, gelu, eps, .. } = sizes;
        let xavier = |fan_in| Init::XavierUniform { fan_in, fan_out: width };
        let scope = format!("{name}.attention");
        // The file has queries, keys and values in one tensor; the queries are the probe's alone.
        let part = || linear::Rows {
            weight: format!("{scope}.in_proj_weight"),
            bias: format!("{scope}.in_proj_bias"),
            n: width,
        };
        Ok(Self {
            probe: b.single(&format!("{name}.probe"), &[1, 1, width], xavier(1), false)?,
            q: Linear::joined(b, &format!("{scope}.q_proj"), &[part()], width)?,
            kv: Linear::joined(b, &format!("{scope}.kv_proj"), &[part(), part()], width)?,
            out: Linear::new(b, &format!("{scope}.out_proj"), [width, width], xavier(width))?,
            norm: LayerNorm::new(b, &format!("{name}.layernorm"), width, eps)?,
            mlp: Mlp::new(b, &format!("{name}.mlp"), width, mlp_dim, gelu)?,
            num_heads,
        })
    }

    /// x: `[n * l, width]` -> y: `[n, width]`
    ///
    /// # Errors
    /// `Kernel` when the sizes do not fit.
    pub fn forward(&self, pass: &mut Pass, x: &Tensor, rows: &Rows) -> Result<(Tensor, MapHeadSaved)> {
        let probe = self.probe.value().reshape(&[1, x.cols()])?;
        let (query, q) = self.q.forward_to_product(pass, &probe)?;
        let (packed, kv) = self.kv.forward_to_product(pass, x)?;
        let shape = Attention {
            n: rows.n,
            heads: self.num_heads,
            head_dim: x.cols() / self.num_heads,
            q_len: 1,
            k_len: rows.l,
            mask: Mask::None,
            shared_query: true,
        };
        let (h, attention) = attention::forward_pooled(pass, &shape, &query, &packed, rows.lengths.as_ref())?;
        let (x, out) = self.out.forward(pass, &h)?;
        let (h, norm) = self.norm.forward(pass, &x)?;
        let (h, mlp) = self.mlp.forward(pass, &h)?;
        let y = add::forward(pass, &x, &h)?;
        Ok((y, MapHeadSaved { q, kv, attention, out, norm, mlp }))
    }

    /// dy: `[n, width]` -> dx: `[n * l, width]`; read from the bottom up against [`MapHead::forward`].
    ///
    /// # Errors
    /// `Kernel` when the sizes do not fit.
    pub fn backward(&mut self, pass: &mut Pass, saved: MapHeadSaved, dy: &Tensor) -> Result<Tensor> {
        let MapHeadSaved { q, kv, attention, out, norm, mlp } = saved;
        let dh = self.mlp.backward(pass, mlp, dy)?;
        let mut dx = self.norm.backward(pass, norm, &dh)?;
        add::accumulate(pass, dy, &mut dx)?;
        let dh = self.out.backward(pass, out, &dx)?;
        let PooledGradients { dq, dkv } = attention::backward_pooled(pass, attention, &dh)?;
        let dprobe = self.q.backward(pass, q, &dq)?;
        add::accumulate(pass, &dprobe.reshape(self.probe.grad.shape())?, &mut self.probe.grad)?;
        self.kv.backward(pass, kv, &dkv)
    }
}

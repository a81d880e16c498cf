//! The feed-forward part of a block: `y = fc2(gelu(fc1(x)))`.

use jest_kernels::ops::gelu::Gelu;
use jest_kernels::{Pass, Tensor};

use super::linear::{Linear, LinearSaved};
use crate::Result;
use crate::init::Init;
use crate::param::{Builder, visits};

/// `y = fc2(gelu(fc1(x)))`.
#[derive(Clone, Debug)]
pub struct Mlp {
    /// width -> mlp_dim
    pub fc1: Linear,
    /// mlp_dim -> width
    pub fc2: Linear,
    gelu: Gelu,
}

visits!(Mlp: fc1, fc2);

/// What [`Mlp::backward`] needs.
#[derive(Debug)]
pub struct MlpSaved {
    fc1: LinearSaved,
    /// Slope of the activation: `[.., mlp_dim]`.
    slope: Tensor,
    fc2: LinearSaved,
}

impl Mlp {
    pub(crate) fn new(b: &mut Builder, name: &str, width: usize, mlp_dim: usize, gelu: Gelu) -> Result<Self> {
        let init = Init::XavierUniform { fan_in: width, fan_out: mlp_dim };
        let fc1 = Linear::new(b, &format!("{name}.fc1"), [mlp_dim, width], init)?;
        let fc2 = Linear::new(b, &format!("{name}.fc2"), [width, mlp_dim], init)?;
        Ok(Self { fc1, fc2, gelu })
    }

    /// x: `[.., width]` -> y: `[.., width]`
    ///
    /// # Errors
    /// `Kernel` when the sizes do not fit.
    pub fn forward(&self, pass: &mut Pass, x: &Tensor) -> Result<(Tensor, MlpSaved)> {
        let (h, slope, fc1) = self.fc1.forward_gelu(pass, self.gelu, x)?;
        let (y, fc2) = self.fc2.forward(pass, &h)?;
        Ok((y, MlpSaved { fc1, slope, fc2 }))
    }

    /// x, residual: `[.., width]` -> residual + y: `[.., width]`
    pub(crate) fn forward_onto(&self, pass: &mut Pass, x: &Tensor, residual: &Tensor) -> Result<(Tensor, MlpSaved)> {
        let (h, slope, fc1) = self.fc1.forward_gelu(pass, self.gelu, x)?;
        let (y, fc2) = self.fc2.forward_onto(pass, &h, residual)?;
        Ok((y, MlpSaved { fc1, slope, fc2 }))
    }

    /// As [`Mlp::forward`] without a backward, with the same bits.
    pub(crate) fn apply(&self, pass: &mut Pass, x: &Tensor) -> Result<Tensor> {
        let h = self.fc1.apply_gelu(pass, self.gelu, x)?;
        Ok(self.fc2.forward(pass, &h)?.0)
    }

    /// As [`Mlp::forward_onto`] without a backward, with the same bits.
    pub(crate) fn apply_onto(&self, pass: &mut Pass, x: &Tensor, residual: &Tensor) -> Result<Tensor> {
        let h = self.fc1.apply_gelu(pass, self.gelu, x)?;
        Ok(self.fc2.forward_onto(pass, &h, residual)?.0)
    }

    /// dy: `[.., width]` -> dx: `[.., width]`
    ///
    /// # Errors
    /// `Kernel` when the sizes do not fit.
    pub fn backward(&mut self, pass: &mut Pass, saved: MlpSaved, dy: &Tensor) -> Result<Tensor> {
        let MlpSaved { fc1, slope, fc2 } = saved;
        let dpre = self.fc2.backward_through_gelu(pass, &fc2, &slope, dy)?;
        self.fc1.backward(pass, fc1, &dpre)
    }
}

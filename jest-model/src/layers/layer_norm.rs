//! Layer normalisation with learned scale and shift.

use jest_kernels::ops::layer_norm;
use jest_kernels::{Pass, Tensor};

use crate::Result;
use crate::init::Init;
use crate::param::{Builder, Param, visits};

/// `y = (x - mean) * rstd * weight + bias` over each row.
#[derive(Clone, Debug)]
pub struct LayerNorm {
    /// `[d]`
    pub weight: Param,
    /// `[d]`
    pub bias: Param,
    eps: f32,
}

visits!(LayerNorm: weight, bias);

/// What [`LayerNorm::backward`] needs.
#[derive(Debug)]
pub struct LayerNormSaved(layer_norm::Saved);

impl LayerNorm {
    pub(crate) fn new(b: &mut Builder, name: &str, width: usize, eps: f32) -> Result<Self> {
        let weight = b.single(&format!("{name}.weight"), &[width], Init::Constant(1.0), false)?;
        let bias = b.single(&format!("{name}.bias"), &[width], Init::Constant(0.0), false)?;
        Ok(Self { weight, bias, eps })
    }

    /// x: `[.., d]` -> y: `[.., d]`
    ///
    /// # Errors
    /// `Kernel` when the sizes do not fit.
    pub fn forward(&self, pass: &mut Pass, x: &Tensor) -> Result<(Tensor, LayerNormSaved)> {
        let (y, saved) = layer_norm::forward(pass, x, self.weight.value(), self.bias.value(), self.eps)?;
        Ok((y, LayerNormSaved(saved)))
    }

    /// [`LayerNorm::forward`] for an output that feeds matrix products alone.
    pub(crate) fn forward_to_product(&self, pass: &mut Pass, x: &Tensor) -> Result<(Tensor, LayerNormSaved)> {
        let (y, saved) = layer_norm::forward_to_product(pass, x, self.weight.value(), self.bias.value(), self.eps)?;
        Ok((y, LayerNormSaved(saved)))
    }

    /// dy: `[.., d]` -> dx: `[.., d]`
    ///
    /// # Errors
    /// `Kernel` when the sizes do not fit.
    pub fn backward(&mut self, pass: &mut Pass, saved: LayerNormSaved, dy: &Tensor) -> Result<Tensor> {
        let (gamma, dgamma) = self.weight.value_and_grad();
        Ok(layer_norm::backward(pass, saved.0, gamma, dy, dgamma, &mut self.bias.grad)?)
    }

    /// dy, past: `[.., d]` -> past + dx: `[.., d]`
    pub(crate) fn backward_onto(
        &mut self,
        pass: &mut Pass,
        saved: LayerNormSaved,
        dy: &Tensor,
        past: &Tensor,
    ) -> Result<Tensor> {
        let (gamma, dgamma) = self.weight.value_and_grad();
        Ok(layer_norm::backward_onto(pass, saved.0, gamma, dy, past, [dgamma, &mut self.bias.grad])?)
    }
}

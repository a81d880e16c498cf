//! A linear layer: `y = x · weightᵀ + bias`, or without the bias.

use jest_kernels::ops::gelu::{self, Gelu};
use jest_kernels::ops::matmul::{self, Form};
use jest_kernels::ops::{add, column_sum};
use jest_kernels::{Pass, Tensor};

use crate::Result;
use crate::init::Init;
use crate::param::{Builder, Param, Part, visits};

/// `y = x · weightᵀ + bias`; a projection has no bias.
#[derive(Clone, Debug)]
pub struct Linear {
    /// `[n, k]`
    pub weight: Param,
    /// `[n]`
    pub bias: Option<Param>,
}

visits!(Linear: weight, bias);

/// What [`Linear::backward`] needs.
#[derive(Debug)]
pub struct LinearSaved {
    x: Tensor,
}

/// Rows of a linear layer that a weight file holds under these names.
pub(crate) struct Rows {
    pub weight: String,
    pub bias: String,
    pub n: usize,
}

impl Linear {
    /// A layer of k inputs and n outputs under one name.
    pub(crate) fn new(b: &mut Builder, name: &str, [n, k]: [usize; 2], init: Init) -> Result<Self> {
        let weight = b.single(&format!("{name}.weight"), &[n, k], init, true)?;
        let bias = b.single(&format!("{name}.bias"), &[n], Init::Constant(0.0), false)?;
        Ok(Self { weight, bias: Some(bias) })
    }

    /// A layer without bias.
    pub(crate) fn projection(b: &mut Builder, name: &str, [n, k]: [usize; 2]) -> Result<Self> {
        Ok(Self { weight: b.single(&format!("{name}.weight"), &[n, k], Init::lecun(k), true)?, bias: None })
    }

    /// A layer whose outputs are several layers of a weight file side by side; each starts Xavier-uniform.
    pub(crate) fn joined(b: &mut Builder, name: &str, rows: &[Rows], k: usize) -> Result<Self> {
        let xavier = |n| Init::XavierUniform { fan_in: k, fan_out: n };
        let weights = rows.iter().map(|rows| Part::new(&rows.weight, &[rows.n, k], xavier(rows.n)));
        let biases = rows.iter().map(|rows| Part::new(&rows.bias, &[rows.n], Init::Constant(0.0)));
        let weight = b.joined(&format!("{name}.weight"), weights.collect(), true)?;
        let bias = b.joined(&format!("{name}.bias"), biases.collect(), false)?;
        Ok(Self { weight, bias: Some(bias) })
    }

    /// x: `[.., k]` -> y: `[.., n]`
    ///
    /// # Errors
    /// `Kernel` when the sizes do not fit.
    pub fn forward(&self, pass: &mut Pass, x: &Tensor) -> Result<(Tensor, LinearSaved)> {
        let w = &self.weight.operand(pass)?;
        let y = match &self.bias {
            Some(bias) => matmul::linear(pass, x, w, bias.value())?,
            None => matmul::forward(pass, Form::ABt, x, w)?,
        };
        Ok((y, LinearSaved { x: x.clone() }))
    }

    /// [`Linear::forward`] for an output that feeds matrix products alone.
    pub(crate) fn forward_to_product(&self, pass: &mut Pass, x: &Tensor) -> Result<(Tensor, LinearSaved)> {
        let Some(bias) = &self.bias else { return self.forward(pass, x) };
        let w = &self.weight.operand(pass)?;
        let y = matmul::linear_to_product(pass, x, w, bias.value())?;
        Ok((y, LinearSaved { x: x.clone() }))
    }

    /// x: `[.., k]`, residual: `[.., n]` -> residual + y: `[.., n]`
    pub(crate) fn forward_onto(&self, pass: &mut Pass, x: &Tensor, residual: &Tensor) -> Result<(Tensor, LinearSaved)> {
        let Some(bias) = &self.bias else {
            let (y, saved) = self.forward(pass, x)?;
            return Ok((add::forward(pass, residual, &y)?, saved));
        };
        let w = &self.weight.operand(pass)?;
        let y = matmul::linear_onto(pass, x, w, bias.value(), residual)?;
        Ok((y, LinearSaved { x: x.clone() }))
    }

    /// x: `[.., k]` -> gelu(y) and gelu'(y): `[.., n]`
    pub(crate) fn forward_gelu(
        &self,
        pass: &mut Pass,
        gelu: Gelu,
        x: &Tensor,
    ) -> Result<(Tensor, Tensor, LinearSaved)> {
        let w = &self.weight.operand(pass)?;
        let (h, slope) = match &self.bias {
            Some(bias) => matmul::linear_gelu(pass, gelu, x, w, bias.value())?,
            None => {
                let y = matmul::forward(pass, Form::ABt, x, w)?;
                gelu::forward_with_slope(pass, gelu, &y)?
            }
        };
        Ok((h, slope, LinearSaved { x: x.clone() }))
    }

    /// As [`Linear::forward_gelu`] without a backward: x: `[.., k]` -> gelu(y): `[.., n]`
    pub(crate) fn apply_gelu(&self, pass: &mut Pass, gelu: Gelu, x: &Tensor) -> Result<Tensor> {
        let w = &self.weight.operand(pass)?;
        match &self.bias {
            Some(bias) => Ok(matmul::linear_active(pass, gelu, x, w, bias.value())?),
            None => {
                let y = matmul::forward(pass, Form::ABt, x, w)?;
                Ok(gelu::forward(pass, gelu, &y)?)
            }
        }
    }

    /// dy: `[.., n]` -> dx: `[.., k]`
    ///
    /// # Errors
    /// `Kernel` when the sizes do not fit.
    pub fn backward(&mut self, pass: &mut Pass, saved: LinearSaved, dy: &Tensor) -> Result<Tensor> {
        let w = &self.weight.operand(pass)?;
        let dw = &mut self.weight.grad;
        let Some(bias) = &mut self.bias else {
            matmul::accumulate(pass, Form::AtB, dy, &saved.x, dw)?;
            return Ok(matmul::forward(pass, Form::AB, dy, w)?);
        };
        Ok(matmul::linear_backward(pass, &saved.x, w, dy, dw, &mut bias.grad)?)
    }

    /// dy: `[.., n]` -> the gradient by the input of the activation that made x of it, with this slope: `[.., k]`
    pub(crate) fn backward_through_gelu(
        &mut self,
        pass: &mut Pass,
        saved: &LinearSaved,
        slope: &Tensor,
        dy: &Tensor,
    ) -> Result<Tensor> {
        matmul::accumulate(pass, Form::AtB, dy, &saved.x, &mut self.weight.grad)?;
        if let Some(bias) = &mut self.bias {
            column_sum::accumulate(pass, dy, &mut bias.grad)?;
        }
        let w = &self.weight.operand(pass)?;
        Ok(matmul::through_gelu(pass, slope, w, dy)?)
    }
}

//! A linear layer: `y = x · weightᵀ + bias`.

use jest_kernels::ops::matmul;
use jest_kernels::{Pass, Tensor};

use crate::Result;
use crate::init::Init;
use crate::param::{Builder, Param, Part, visits};

/// `y = x · weightᵀ + bias`.
#[derive(Clone, Debug)]
pub struct Linear {
    /// `[n, k]`
    pub weight: Param,
    /// `[n]`
    pub bias: Param,
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
        Ok(Self { weight, bias })
    }

    /// A layer whose outputs are several layers of a weight file side by side; each starts Xavier-uniform.
    pub(crate) fn joined(b: &mut Builder, name: &str, rows: &[Rows], k: usize) -> Result<Self> {
        let xavier = |n| Init::XavierUniform { fan_in: k, fan_out: n };
        let weights = rows.iter().map(|rows| Part::new(&rows.weight, &[rows.n, k], xavier(rows.n)));
        let biases = rows.iter().map(|rows| Part::new(&rows.bias, &[rows.n], Init::Constant(0.0)));
        let weight = b.joined(&format!("{name}.weight"), weights.collect(), true)?;
        let bias = b.joined(&format!("{name}.bias"), biases.collect(), false)?;
        Ok(Self { weight, bias })
    }

    /// x: `[.., k]` -> y: `[.., n]`
    ///
    /// # Errors
    /// `Kernel` when the sizes do not fit.
    pub fn forward(&self, pass: &mut Pass, x: &Tensor) -> Result<(Tensor, LinearSaved)> {
        let y = matmul::linear(pass, x, &self.weight.value, &self.bias.value)?;
        Ok((y, LinearSaved { x: x.clone() }))
    }

    /// dy: `[.., n]` -> dx: `[.., k]`
    ///
    /// # Errors
    /// `Kernel` when the sizes do not fit.
    pub fn backward(&mut self, pass: &mut Pass, saved: LinearSaved, dy: &Tensor) -> Result<Tensor> {
        let (dw, dbias) = (&mut self.weight.grad, &mut self.bias.grad);
        Ok(matmul::linear_backward(pass, &saved.x, &self.weight.value, dy, dw, dbias)?)
    }
}

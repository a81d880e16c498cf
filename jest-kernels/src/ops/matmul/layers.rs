//! Linear layers: products with a bias, and what follows them at once.

use super::kernels::Store;
use super::native::{self, Ends};
use super::{Form, OP, Sizes, accumulate, check_operands, dispatch, forward, output_shape, run, tuning};
use crate::ops::gelu::{self, Gelu};
use crate::ops::{add, column_sum};
use crate::{DType, Pass, Result, Tensor};

/// A linear layer: `y = x · wᵀ + bias`.
///
/// # Shapes
/// x: [.., k]; w: [n, k]; bias: `[n]`; y: [.., n].
///
/// # Errors
/// `Shape` when the sizes do not fit.
pub fn linear(pass: &mut Pass, x: &Tensor, w: &Tensor, bias: &Tensor) -> Result<Tensor> {
    linear_as(pass, DType::F32, x, w, bias)
}

/// [`linear`] where y feeds products alone: stored in bf16 where they would round it.
///
/// # Shapes
/// As [`linear`].
///
/// # Errors
/// As [`linear`].
pub fn linear_to_product(pass: &mut Pass, x: &Tensor, w: &Tensor, bias: &Tensor) -> Result<Tensor> {
    let stored = pass.product_operand();
    linear_as(pass, stored, x, w, bias)
}

fn linear_as(pass: &mut Pass, stored: DType, x: &Tensor, w: &Tensor, bias: &Tensor) -> Result<Tensor> {
    let sizes = Sizes::new(Form::ABt, 1, (x.rows(), x.cols()), (w.rows(), w.cols()))?;
    bias.expect_f32(OP, "bias", &[sizes.n])?;
    let mut y = pass.empty(stored, &output_shape(Form::ABt, x, sizes))?;
    run(pass, Form::ABt, Store::Bias, sizes, [x, w], Ends::of(bias), &mut y, None)?;
    Ok(y)
}

/// A linear layer on top of what goes past it: `y = residual + (x · wᵀ + bias)`.
///
/// # Shapes
/// As [`linear`]; residual: as y.
///
/// # Errors
/// `Shape` when the sizes do not fit.
pub fn linear_onto(pass: &mut Pass, x: &Tensor, w: &Tensor, bias: &Tensor, residual: &Tensor) -> Result<Tensor> {
    let sizes = Sizes::new(Form::ABt, 1, (x.rows(), x.cols()), (w.rows(), w.cols()))?;
    let shape = output_shape(Form::ABt, x, sizes);
    pass.admit(OP, &[("residual", residual)])?;
    residual.expect_f32(OP, "residual", &shape)?;
    if pass.cpu().is_none() {
        let y = linear(pass, x, w, bias)?;
        return add::forward(pass, residual, &y);
    }
    bias.expect_f32(OP, "bias", &[sizes.n])?;
    let mut y = pass.empty_f32(&shape)?;
    let ends = Ends { bias: Some(bias), residual: Some(residual) };
    run(pass, Form::ABt, Store::Bias, sizes, [x, w], ends, &mut y, None)?;
    Ok(y)
}

/// A linear layer and its activation: `pre = x · wᵀ + bias`, `y = gelu(pre)`, `slope = gelu'(pre)`; gives (y, slope).
///
/// Where products are in bf16 both are stored so: y feeds the next product, which would round it, and slope the backward,
/// [`through_gelu`].
///
/// # Shapes
/// As [`linear`].
///
/// # Errors
/// `Shape` when the sizes do not fit.
pub fn linear_gelu(pass: &mut Pass, kind: Gelu, x: &Tensor, w: &Tensor, bias: &Tensor) -> Result<(Tensor, Tensor)> {
    let sizes = Sizes::new(Form::ABt, 1, (x.rows(), x.cols()), (w.rows(), w.cols()))?;
    bias.expect_f32(OP, "bias", &[sizes.n])?;
    let tile = tuning::choose(pass, Form::ABt, sizes)?;
    // What several dispatches sum is complete only after the last.
    if pass.cpu().is_none() && sizes.k > dispatch::slice(pass, tile, sizes).1 {
        let pre = linear(pass, x, w, bias)?;
        return gelu::forward_with_slope(pass, kind, &pre);
    }
    let (shape, stored) = (output_shape(Form::ABt, x, sizes), pass.product_operand());
    let (mut y, mut slope) = (pass.empty(stored, &shape)?, pass.empty(stored, &shape)?);
    run(pass, Form::ABt, Store::BiasGelu(kind), sizes, [x, w], Ends::of(bias), &mut y, Some(&mut slope))?;
    Ok((y, slope))
}

/// A linear layer and its activation, where no backward follows: y of [`linear_gelu`] alone, with the same bits.
///
/// # Shapes
/// As [`linear`].
///
/// # Errors
/// `Shape` when the sizes do not fit.
pub fn linear_active(pass: &mut Pass, kind: Gelu, x: &Tensor, w: &Tensor, bias: &Tensor) -> Result<Tensor> {
    if pass.cpu().is_none() {
        return Ok(linear_gelu(pass, kind, x, w, bias)?.0);
    }
    let sizes = Sizes::new(Form::ABt, 1, (x.rows(), x.cols()), (w.rows(), w.cols()))?;
    bias.expect_f32(OP, "bias", &[sizes.n])?;
    let stored = pass.product_operand();
    let mut y = pass.empty(stored, &output_shape(Form::ABt, x, sizes))?;
    run(pass, Form::ABt, Store::BiasGelu(kind), sizes, [x, w], Ends::of(bias), &mut y, None)?;
    Ok(y)
}

/// Gradients of [`linear`]: gives `dx = dy · w`, adds `dyᵀ · x` to `dw` and the column sums of dy to `dbias`.
///
/// # Shapes
/// x: [.., k]; w, dw: [n, k]; dy: [.., n]; dbias: `[n]`; dx as x.
///
/// # Errors
/// `Shape` when the sizes do not fit.
pub fn linear_backward(
    pass: &mut Pass,
    x: &Tensor,
    w: &Tensor,
    dy: &Tensor,
    dw: &mut Tensor,
    dbias: &mut Tensor,
) -> Result<Tensor> {
    accumulate(pass, Form::AtB, dy, x, dw)?;
    column_sum::accumulate(pass, dy, dbias)?;
    forward(pass, Form::AB, dy, w)?.reshape(x.shape())
}

/// `dpre = (dy · w) * slope`: the gradient by the input of the activation in front of a layer.
///
/// Where slope is stored in bf16, as [`linear_gelu`] stores it, so is the gradient, which feeds products.
///
/// # Shapes
/// slope, dpre: [.., k]; w: [n, k]; dy: [.., n].
///
/// # Errors
/// `Shape` when the sizes do not fit.
pub fn through_gelu(pass: &mut Pass, slope: &Tensor, w: &Tensor, dy: &Tensor) -> Result<Tensor> {
    let stored = pass.product_operand();
    if stored != DType::Bf16 || slope.dtype() != stored {
        let dh = forward(pass, Form::AB, dy, w)?.reshape(slope.shape())?;
        return gelu::backward(pass, slope, &dh);
    }
    pass.admit(OP, &[("slope", slope), ("w", w), ("dy", dy)])?;
    let sizes = Sizes::new(Form::AB, 1, (dy.rows(), dy.cols()), (w.rows(), w.cols()))?;
    slope.expect(OP, "slope", stored, &output_shape(Form::AB, dy, sizes))?;
    check_operands(pass, [("dy", dy), ("w", w)])?;
    let mut dpre = pass.empty(stored, slope.shape())?;
    native::through_gelu(pass, sizes, [dy, w], slope, &mut dpre)?;
    Ok(dpre)
}

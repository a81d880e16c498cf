//! Whether attention by an adapter's matrix units equals that in f32, tried once before they are used.

use super::kernels::{self, Unit};
use super::{Attention, Mask, Operands, Saved};
use crate::device::Backend;
use crate::ops::matmul;
use crate::{Pass, Result, Tensor};

/// Sizes of the trial: more than one block of queries and of keys, and columns that end within a strip.
pub(super) const SHAPE: Attention =
    Attention { n: 2, heads: 2, head_dim: 44, q_len: 75, k_len: 75, mask: Mask::Causal, shared_query: false };
/// Most that results may differ: what is summed is at most 8, and operands and weights are rounded by 2^-10.
const TOLERANCE: f32 = 1.0 / 16.0;

/// True when outputs and gradients are those of plain arithmetic. A driver that refuses the kernels, or computes something
/// else, is left to plainer ones.
///
/// # Errors
/// What says nothing of the units, as `OutOfMemory` and `Lost`.
pub(super) fn attention_agrees(pass: &mut Pass) -> Result<bool> {
    let device = pass.device().clone();
    let Backend::Gpu(gpu) = device.backend() else { return Ok(false) };
    matmul::once(&gpu.attention_agrees, || agrees(pass, Unit::Matrix, SHAPE, SHAPE))
}

/// Holds a unit against plain arithmetic, each on its shape, with values that f16 has exactly.
pub(super) fn agrees(pass: &mut Pass, unit: Unit, of_unit: Attention, of_plain: Attention) -> Result<bool> {
    let (rows, width) = (SHAPE.n * SHAPE.q_len, SHAPE.width());
    let mut values = |cols: usize, step: usize| {
        let all: Vec<f32> = (0..rows * cols).map(|i| ((i * step + i / width) % 33) as f32 / 16.0 - 1.0).collect();
        pass.upload(&all, &[rows, cols])
    };
    let (qkv, dy) = (values(3 * width, 7)?, values(width, 5)?);
    let mut results = |unit, shape| -> Result<Vec<f32>> {
        let [y, dqkv, _] = results(pass, unit, Operands::packed(shape), [&qkv, &qkv, &dy], None)?;
        Ok([pass.read(&y)?, pass.read(&dqkv)?].concat())
    };
    let (by_unit, plain) = (results(unit, of_unit)?, results(Unit::Plain, of_plain)?);
    Ok(plain.iter().zip(&by_unit).all(|(plain, by_unit)| (plain - by_unit).abs() <= TOLERANCE))
}

/// Output of q, k and v, and the gradients by q and by k and v, one tensor when packed.
pub(super) fn results(
    pass: &mut Pass,
    unit: Unit,
    operands: Operands,
    [q, kv, dy]: [&Tensor; 3],
    lengths: Option<&Tensor>,
) -> Result<[Tensor; 3]> {
    let Attention { n, heads, q_len, .. } = operands.shape;
    let (y, lse) = (pass.empty_f32(dy.shape())?, pass.empty_f32(&[n, heads, q_len])?);
    let mut saved = Saved { operands, q: q.clone(), kv: kv.clone(), lengths: lengths.cloned(), y, lse };
    kernels::forward_by(pass, unit, &mut saved)?;
    let dkv = pass.empty_f32(kv.shape())?;
    let dq = if operands.is_packed() { dkv.clone() } else { pass.empty_f32(dy.shape())? };
    kernels::backward_by(pass, unit, &saved, dy, &dq, &dkv)?;
    Ok([saved.y, dq, dkv])
}

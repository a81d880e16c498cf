//! GELU on the CPU: blocks in parallel, each in vectors.

use rayon::prelude::*;

use super::Gelu;
use crate::bf16;
use crate::simd::{erf_and_exp, sigmoid, simd_fn};

/// Elements per block of work.
const BLOCK: usize = 16_384;
/// Elements that are gone through twice before the next: they stay in the first cache.
const PART: usize = 1024;

pub(super) fn forward(kind: Gelu, x: &[f32], y: &mut [f32]) {
    y.par_chunks_mut(BLOCK).zip(x.par_chunks(BLOCK)).for_each(|(y, x)| forward_block(kind, x, y));
}

pub(super) fn forward_with_slope(kind: Gelu, x: &[f32], y: &mut [f32], slope: &mut [f32]) {
    let blocks = y.par_chunks_mut(BLOCK).zip(slope.par_chunks_mut(BLOCK)).zip(x.par_chunks(BLOCK));
    blocks.for_each(|((y, slope), x)| {
        slope.copy_from_slice(x);
        forward_with_slope_block(kind, slope, y);
    });
}

pub(super) fn backward(slope: &[f32], dy: &[f32], dx: &mut [f32]) {
    let blocks = dx.par_chunks_mut(BLOCK).zip(slope.par_chunks(BLOCK)).zip(dy.par_chunks(BLOCK));
    blocks.for_each(|((dx, slope), dy)| multiply(slope, dy, dx));
}

/// As [`backward`], of slopes in bf16.
pub(super) fn backward_rounded(slope: &[u16], dy: &[f32], dx: &mut [f32]) {
    let blocks = dx.par_chunks_mut(BLOCK).zip(slope.par_chunks(BLOCK)).zip(dy.par_chunks(BLOCK));
    blocks.for_each(|((dx, slope), dy)| {
        dx.copy_from_slice(dy);
        multiply_by_rounded(slope, dx);
    });
}

/// [`backward`] on this thread, of slopes in bf16, with dx rounded when it is written; dy is overwritten.
pub(crate) fn backward_block_rounded(slope: &[u16], dy: &mut [f32], dx: &mut [u16]) {
    let parts = dx.chunks_mut(PART).zip(slope.chunks(PART)).zip(dy.chunks_mut(PART));
    for ((dx, slope), dy) in parts {
        multiply_by_rounded(slope, dy);
        bf16::round_all(dy, dx);
    }
}

simd_fn! {
    fn multiply(slope: &[f32], dy: &[f32], dx: &mut [f32]) {
        for ((dx, slope), dy) in dx.iter_mut().zip(slope).zip(dy) {
            *dx = slope * dy;
        }
    }
}

simd_fn! {
    fn multiply_by_rounded(slope: &[u16], dx: &mut [f32]) {
        for (dx, slope) in dx.iter_mut().zip(slope) {
            *dx *= bf16::wide(*slope);
        }
    }
}

/// `x = gelu(x)` on this thread.
pub(crate) fn forward_in_place(kind: Gelu, x: &mut [f32]) {
    let mut before = [0.0; PART];
    for x in x.chunks_mut(PART) {
        let before = &mut before[..x.len()];
        before.copy_from_slice(x);
        forward_block(kind, before, x);
    }
}

simd_fn! {
    /// `y = gelu(x)` on this thread.
    fn forward_block(kind: Gelu, x: &[f32], y: &mut [f32]) {
        match kind {
            Gelu::Tanh => each(x, y, tanh_form),
            Gelu::Erf => each(x, y, erf_form),
            Gelu::Quick => each(x, y, quick_form),
        }
    }
}

simd_fn! {
    /// `y = gelu(x)` on this thread, and gelu'(x) in place of x.
    pub(crate) fn forward_with_slope_block(kind: Gelu, x: &mut [f32], y: &mut [f32]) {
        match kind {
            Gelu::Tanh => each_with_slope(x, y, tanh_form),
            Gelu::Erf => each_with_slope(x, y, erf_form),
            Gelu::Quick => each_with_slope(x, y, quick_form),
        }
    }
}

#[inline(always)]
fn each(x: &[f32], y: &mut [f32], form: impl Fn(f32) -> (f32, f32)) {
    for (y, x) in y.iter_mut().zip(x) {
        *y = form(*x).0;
    }
}

#[inline(always)]
fn each_with_slope(x: &mut [f32], y: &mut [f32], form: impl Fn(f32) -> (f32, f32)) {
    for (y, x) in y.iter_mut().zip(x) {
        (*y, *x) = form(*x);
    }
}

/// `2 sqrt(2/pi)`: the tanh form is `x * sigmoid(TWICE * (x + 0.044715 x³))`.
const TWICE: f32 = 1.595_769;

/// `(gelu(x), gelu'(x))`, as the other forms.
#[inline(always)]
fn tanh_form(x: f32) -> (f32, f32) {
    let gate = sigmoid(TWICE * (x + 0.044_715 * x * x * x));
    let y = x * gate;
    (y, gate + y * (1.0 - gate) * (TWICE * (1.0 + 0.134_145 * x * x)))
}

#[inline(always)]
fn erf_form(x: f32) -> (f32, f32) {
    // exp(-x²/2) is the normal density's too.
    let (erf, e) = erf_and_exp(x * std::f32::consts::FRAC_1_SQRT_2);
    let gate = 0.5 * (1.0 + erf);
    (x * gate, gate + 0.398_942_3 * x * e)
}

#[inline(always)]
fn quick_form(x: f32) -> (f32, f32) {
    let gate = sigmoid(1.702 * x);
    let y = x * gate;
    (y, gate + 1.702 * y * (1.0 - gate))
}

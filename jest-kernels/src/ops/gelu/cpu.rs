//! GELU on the CPU: blocks in parallel, each in vectors.

use rayon::prelude::*;

use super::Gelu;
use crate::bf16;
use crate::simd::{erf, exp, sigmoid, simd_fn};

/// Elements per block of work.
const BLOCK: usize = 16_384;
/// Elements made f32 at once: they stay in the first cache.
const WIDE: usize = 1024;

pub(super) fn forward(kind: Gelu, x: &[f32], y: &mut [f32]) {
    y.par_chunks_mut(BLOCK).zip(x.par_chunks(BLOCK)).for_each(|(y, x)| forward_block(kind, x, y));
}

pub(super) fn backward(kind: Gelu, x: &[f32], dy: &[f32], dx: &mut [f32]) {
    let blocks = dx.par_chunks_mut(BLOCK).zip(x.par_chunks(BLOCK)).zip(dy.par_chunks(BLOCK));
    blocks.for_each(|((dx, x), dy)| backward_block(kind, x, dy, dx));
}

/// As [`backward`], of x in bf16.
pub(super) fn backward_rounded(kind: Gelu, x: &[u16], dy: &[f32], dx: &mut [f32]) {
    let blocks = dx.par_chunks_mut(BLOCK).zip(x.par_chunks(BLOCK)).zip(dy.par_chunks(BLOCK));
    blocks.for_each(|((dx, x), dy)| {
        let mut wide = [0.0; WIDE];
        for ((dx, x), dy) in dx.chunks_mut(WIDE).zip(x.chunks(WIDE)).zip(dy.chunks(WIDE)) {
            let wide = &mut wide[..x.len()];
            widen(x, wide);
            backward_block(kind, wide, dy, dx);
        }
    });
}

/// [`backward`] on this thread, of x in bf16, with dx rounded when it is written.
pub(crate) fn backward_block_rounded(kind: Gelu, x: &[u16], dy: &[f32], dx: &mut [u16]) {
    let (mut wide, mut sums) = ([0.0; WIDE], [0.0; WIDE]);
    for ((dx, x), dy) in dx.chunks_mut(WIDE).zip(x.chunks(WIDE)).zip(dy.chunks(WIDE)) {
        let (wide, sums) = (&mut wide[..x.len()], &mut sums[..x.len()]);
        widen(x, wide);
        backward_block(kind, wide, dy, sums);
        bf16::round_all(sums, dx);
    }
}

fn backward_block(kind: Gelu, x: &[f32], dy: &[f32], dx: &mut [f32]) {
    match kind {
        Gelu::Tanh => backward_tanh(x, dy, dx),
        Gelu::Erf => backward_erf(x, dy, dx),
        Gelu::Quick => backward_quick(x, dy, dx),
    }
}

simd_fn! {
    /// bf16 as f32.
    fn widen(x: &[u16], out: &mut [f32]) {
        for (out, x) in out.iter_mut().zip(x) {
            *out = bf16::wide(*x);
        }
    }
}

/// `y = gelu(x)` on this thread.
pub(crate) fn forward_block(kind: Gelu, x: &[f32], y: &mut [f32]) {
    match kind {
        Gelu::Tanh => forward_tanh(x, y),
        Gelu::Erf => forward_erf(x, y),
        Gelu::Quick => forward_quick(x, y),
    }
}

/// `2 sqrt(2/pi)`: the tanh form is `x * sigmoid(TWICE * (x + 0.044715 x³))`.
const TWICE: f32 = 1.595_769;

simd_fn! {
    fn forward_tanh(x: &[f32], y: &mut [f32]) {
        for (y, &x) in y.iter_mut().zip(x) {
            *y = x * sigmoid(TWICE * (x + 0.044_715 * x * x * x));
        }
    }
}

simd_fn! {
    fn backward_tanh(x: &[f32], dy: &[f32], dx: &mut [f32]) {
        for ((dx, &x), &dy) in dx.iter_mut().zip(x).zip(dy) {
            let gate = sigmoid(TWICE * (x + 0.044_715 * x * x * x));
            *dx = dy * (gate + x * gate * (1.0 - gate) * (TWICE * (1.0 + 0.134_145 * x * x)));
        }
    }
}

simd_fn! {
    fn forward_erf(x: &[f32], y: &mut [f32]) {
        for (y, &x) in y.iter_mut().zip(x) {
            *y = 0.5 * x * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2));
        }
    }
}

simd_fn! {
    fn backward_erf(x: &[f32], dy: &[f32], dx: &mut [f32]) {
        for ((dx, &x), &dy) in dx.iter_mut().zip(x).zip(dy) {
            let density = 0.398_942_3 * exp(-0.5 * x * x);
            *dx = dy * (0.5 * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2)) + x * density);
        }
    }
}

simd_fn! {
    fn forward_quick(x: &[f32], y: &mut [f32]) {
        for (y, &x) in y.iter_mut().zip(x) {
            *y = x * sigmoid(1.702 * x);
        }
    }
}

simd_fn! {
    fn backward_quick(x: &[f32], dy: &[f32], dx: &mut [f32]) {
        for ((dx, &x), &dy) in dx.iter_mut().zip(x).zip(dy) {
            let gate = sigmoid(1.702 * x);
            *dx = dy * (gate + 1.702 * x * gate * (1.0 - gate));
        }
    }
}

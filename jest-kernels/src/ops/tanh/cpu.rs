//! tanh on the CPU: it follows one token of a text, so that its time does not count.

use rayon::prelude::*;

/// Elements per block of work.
const BLOCK: usize = 4_096;

pub(super) fn forward(x: &[f32], y: &mut [f32]) {
    y.par_chunks_mut(BLOCK).zip(x.par_chunks(BLOCK)).for_each(|(y, x)| {
        y.iter_mut().zip(x).for_each(|(y, x)| *y = x.tanh());
    });
}

pub(super) fn backward(y: &[f32], dy: &[f32], dx: &mut [f32]) {
    let blocks = dx.par_chunks_mut(BLOCK).zip(y.par_chunks(BLOCK)).zip(dy.par_chunks(BLOCK));
    blocks.for_each(|((dx, y), dy)| {
        dx.iter_mut().zip(y).zip(dy).for_each(|((dx, y), dy)| *dx = dy * (1.0 - y * y));
    });
}

//! Columns scaled on the CPU: rows in parallel, each in vectors.

use rayon::prelude::*;

use crate::ops::block_rows;
use crate::simd::simd_fn;

pub(super) fn forward(x: &[f32], scale: &[f32], y: &mut [f32]) {
    let block = block_rows(scale.len()) * scale.len();
    y.par_chunks_mut(block).zip(x.par_chunks(block)).for_each(|(y, x)| scaled(x, scale, y));
}

pub(super) fn backward(x: &[f32], scale: &[f32], dy: &[f32], dx: &mut [f32], terms: &mut [f32]) {
    let block = block_rows(scale.len()) * scale.len();
    let outputs = dx.par_chunks_mut(block).zip(terms.par_chunks_mut(block));
    outputs.zip(dy.par_chunks(block)).zip(x.par_chunks(block)).for_each(|(((dx, terms), dy), x)| {
        scaled(dy, scale, dx);
        product(dy, x, terms);
    });
}

simd_fn! {
    fn scaled(x: &[f32], scale: &[f32], y: &mut [f32]) {
        for (y, x) in y.chunks_exact_mut(scale.len()).zip(x.chunks_exact(scale.len())) {
            for ((y, x), scale) in y.iter_mut().zip(x).zip(scale) {
                *y = x * scale;
            }
        }
    }
}

simd_fn! {
    fn product(a: &[f32], b: &[f32], y: &mut [f32]) {
        for ((y, a), b) in y.iter_mut().zip(a).zip(b) {
            *y = a * b;
        }
    }
}

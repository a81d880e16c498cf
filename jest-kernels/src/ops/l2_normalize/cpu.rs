//! Rows of length 1 on the CPU: rows in parallel, each in vectors.

use rayon::prelude::*;

use super::EPSILON;
use crate::ops::block_rows;
use crate::simd::{simd_fn, sum, sum_over};

pub(super) fn forward(x: &[f32], d: usize, z: &mut [f32], norms: &mut [f32]) {
    let block = block_rows(d);
    let outputs = z.par_chunks_mut(block * d).zip(norms.par_chunks_mut(block));
    outputs.zip(x.par_chunks(block * d)).for_each(|((z, norms), x)| forward_rows(x, d, z, norms));
}

pub(super) fn backward(z: &[f32], norms: &[f32], dz: &[f32], d: usize, dx: &mut [f32]) {
    let block = block_rows(d);
    let inputs = z.par_chunks(block * d).zip(norms.par_chunks(block)).zip(dz.par_chunks(block * d));
    dx.par_chunks_mut(block * d).zip(inputs).for_each(|(dx, ((z, norms), dz))| backward_rows(z, norms, dz, d, dx));
}

simd_fn! {
    fn forward_rows(x: &[f32], d: usize, z: &mut [f32], norms: &mut [f32]) {
        for ((x, z), norm) in x.chunks_exact(d).zip(z.chunks_exact_mut(d)).zip(norms) {
            *norm = sum_over(x, |x| x * x).sqrt();
            // A NaN compares false and stays.
            let length = if *norm < EPSILON { EPSILON } else { *norm };
            for (z, x) in z.iter_mut().zip(x) {
                *z = x / length;
            }
        }
    }
}

simd_fn! {
    fn backward_rows(z: &[f32], norms: &[f32], dz: &[f32], d: usize, dx: &mut [f32]) {
        let rows = z.chunks_exact(d).zip(dz.chunks_exact(d)).zip(dx.chunks_exact_mut(d));
        for (((z, dz), dx), norm) in rows.zip(norms) {
            let short = *norm < EPSILON;
            let along = if short { 0.0 } else { sum([z, dz], |[z, dz]| z * dz) };
            let length = if short { EPSILON } else { *norm };
            for ((dx, dz), z) in dx.iter_mut().zip(dz).zip(z) {
                *dx = (dz - z * along) / length;
            }
        }
    }
}

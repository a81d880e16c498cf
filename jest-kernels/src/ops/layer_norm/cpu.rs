//! Layer normalisation on the CPU: rows in parallel, each row in vectors.

use rayon::prelude::*;

use super::ROWS_PER_PART;
use crate::bf16;
use crate::ops::block_rows;
use crate::simd::{simd_fn, sum, sum_over};

/// What the backward pass reads.
pub(super) struct Inputs<'a> {
    pub(super) x: &'a [f32],
    pub(super) stats: &'a [f32],
    pub(super) gamma: &'a [f32],
    pub(super) dy: &'a [f32],
    /// What is added to dx; empty where there is nothing.
    pub(super) past: &'a [f32],
}

/// Scales and shifts of the columns, and what is added to the variance.
#[derive(Clone, Copy)]
pub(super) struct Affine<'a> {
    pub(super) gamma: &'a [f32],
    pub(super) beta: &'a [f32],
    pub(super) eps: f32,
}

pub(super) fn forward(x: &[f32], affine: Affine<'_>, y: &mut [f32], stats: &mut [f32]) {
    blocks(x, affine, y, stats, forward_rows);
}

/// As [`forward`], with y in bf16.
pub(super) fn forward_rounded(x: &[f32], affine: Affine<'_>, y: &mut [u16], stats: &mut [f32]) {
    blocks(x, affine, y, stats, forward_rows_rounded);
}

/// One block of rows: x, y and the statistics.
type Rows<T> = fn(&[f32], Affine<'_>, &mut [T], &mut [f32]);

fn blocks<T: Send>(x: &[f32], affine: Affine<'_>, y: &mut [T], stats: &mut [f32], rows: Rows<T>) {
    let d = affine.gamma.len();
    let block = block_rows(d);
    let outputs = y.par_chunks_mut(block * d).zip(stats.par_chunks_mut(block * 2));
    outputs.zip(x.par_chunks(block * d)).for_each(|((y, stats), x)| rows(x, affine, y, stats));
}

#[inline(always)]
fn normalize<T>(x: &[f32], affine: Affine<'_>, y: &mut [T], stats: &mut [f32], store: impl Fn(f32) -> T) {
    let Affine { gamma, beta, eps } = affine;
    let d = gamma.len();
    let scale = 1.0 / d as f32;
    for ((x, y), stats) in x.chunks_exact(d).zip(y.chunks_exact_mut(d)).zip(stats.chunks_exact_mut(2)) {
        let mean = sum_over(x, |x| x) * scale;
        let variance = sum_over(x, |x| (x - mean) * (x - mean)) * scale;
        let rstd = 1.0 / (variance + eps).sqrt();
        (stats[0], stats[1]) = (mean, rstd);
        for (((y, x), gamma), beta) in y.iter_mut().zip(x).zip(gamma).zip(beta) {
            *y = store((x - mean) * rstd * gamma + beta);
        }
    }
}

simd_fn! {
    fn forward_rows(x: &[f32], affine: Affine<'_>, y: &mut [f32], stats: &mut [f32]) {
        normalize(x, affine, y, stats, #[inline(always)] |y| y);
    }
}

simd_fn! {
    fn forward_rows_rounded(x: &[f32], affine: Affine<'_>, y: &mut [u16], stats: &mut [f32]) {
        normalize(x, affine, y, stats, bf16::round);
    }
}

/// Writes `dx`, and into each row of `partial` [parts, 2 * d] the sums of `dgamma` and `dbeta` over one part's rows.
pub(super) fn backward(inputs: &Inputs<'_>, dx: &mut [f32], partial: &mut [f32]) {
    let d = inputs.gamma.len();
    let part = ROWS_PER_PART * d;
    dx.par_chunks_mut(part).zip(partial.par_chunks_mut(2 * d)).enumerate().for_each(|(index, (dx, partial))| {
        let range = index * part..index * part + dx.len();
        let first = index * ROWS_PER_PART * 2;
        let stats = &inputs.stats[first..first + 2 * (dx.len() / d)];
        let past = if inputs.past.is_empty() { inputs.past } else { &inputs.past[range.clone()] };
        backward_part(&inputs.x[range.clone()], stats, inputs.gamma, &inputs.dy[range], past, dx, partial);
    });
}

simd_fn! {
    fn backward_part(
        x: &[f32], stats: &[f32], gamma: &[f32], dy: &[f32], past: &[f32], dx: &mut [f32], partial: &mut [f32],
    ) {
        let d = gamma.len();
        let scale = 1.0 / d as f32;
        let (dgamma, dbeta) = partial.split_at_mut(d);
        dgamma.fill(0.0);
        dbeta.fill(0.0);
        let rows = x.chunks_exact(d).zip(dy.chunks_exact(d)).zip(stats.chunks_exact(2));
        for (row, (((x, dy), stats), dx)) in rows.zip(dx.chunks_exact_mut(d)).enumerate() {
            let (mean, rstd) = (stats[0], stats[1]);
            let mean_g = sum([dy, gamma], |[dy, gamma]| dy * gamma) * scale;
            let mean_gx = sum([dy, gamma, x], |[dy, gamma, x]| dy * gamma * ((x - mean) * rstd)) * scale;
            let inputs = x.iter().zip(dy).zip(gamma);
            let outputs = dx.iter_mut().zip(dgamma.iter_mut()).zip(dbeta.iter_mut());
            for (((x, dy), gamma), ((dx, dgamma), dbeta)) in inputs.zip(outputs) {
                let xhat = (x - mean) * rstd;
                *dx = rstd * (dy * gamma - mean_g - xhat * mean_gx);
                *dgamma += dy * xhat;
                *dbeta += dy;
            }
            if !past.is_empty() {
                for (dx, past) in dx.iter_mut().zip(&past[row * d..]) {
                    *dx += past;
                }
            }
        }
    }
}

//! Sums of arrays on the CPU: blocks in parallel, each in vectors.

use rayon::prelude::*;

use crate::ops::block_rows;
use crate::simd::simd_fn;

/// Elements per block of work.
const BLOCK: usize = 16_384;
/// Elements of the table whose gradient one task sums.
const COLUMNS: usize = 1_024;

pub(super) fn forward(a: &[f32], b: &[f32], y: &mut [f32]) {
    let blocks = y.par_chunks_mut(BLOCK).zip(a.par_chunks(BLOCK)).zip(b.par_chunks(BLOCK));
    blocks.for_each(|((y, a), b)| add(a, b, y));
}

pub(super) fn accumulate(x: &[f32], out: &mut [f32]) {
    out.par_chunks_mut(BLOCK).zip(x.par_chunks(BLOCK)).for_each(|(out, x)| add_into(x, out));
}

pub(super) fn forward_rows(x: &[f32], table: &[f32], y: &mut [f32]) {
    let block = block_rows(table.len()) * table.len();
    y.par_chunks_mut(block).zip(x.par_chunks(block)).for_each(|(y, x)| {
        let examples = y.chunks_exact_mut(table.len()).zip(x.chunks_exact(table.len()));
        examples.for_each(|(y, x)| add(x, table, y));
    });
}

pub(super) fn backward_rows(dy: &[f32], dtable: &mut [f32]) {
    let period = dtable.len();
    dtable.par_chunks_mut(COLUMNS).enumerate().for_each(|(index, dtable)| {
        let first = index * COLUMNS;
        for example in dy.chunks_exact(period) {
            add_into(&example[first..first + dtable.len()], dtable);
        }
    });
}

simd_fn! {
    fn add(a: &[f32], b: &[f32], y: &mut [f32]) {
        for ((y, a), b) in y.iter_mut().zip(a).zip(b) {
            *y = a + b;
        }
    }
}

simd_fn! {
    /// `out += x` on this thread.
    pub(crate) fn add_into(x: &[f32], out: &mut [f32]) {
        for (out, x) in out.iter_mut().zip(x) {
            *out += x;
        }
    }
}

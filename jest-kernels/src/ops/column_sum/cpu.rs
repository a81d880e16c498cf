//! Column sums on the CPU: parts of the rows in parallel, then the parts in order.

use rayon::prelude::*;

use super::ROWS_PER_PART;
use crate::simd::simd_fn;

pub(super) fn accumulate(x: &[f32], stride: usize, offset: usize, partial: &mut [f32], out: &mut [f32]) {
    let cols = out.len();
    partial.par_chunks_mut(cols).zip(x.par_chunks(ROWS_PER_PART * stride)).for_each(|(partial, x)| {
        partial.fill(0.0);
        add_rows(x, stride, offset, partial);
    });
    add_rows(partial, cols, 0, out);
}

simd_fn! {
    fn add_rows(x: &[f32], stride: usize, offset: usize, out: &mut [f32]) {
        for row in x.chunks_exact(stride) {
            for (total, value) in out.iter_mut().zip(&row[offset..]) {
                *total += value;
            }
        }
    }
}

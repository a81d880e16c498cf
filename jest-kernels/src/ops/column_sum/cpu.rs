//! Column sums on the CPU: parts of the rows in parallel, then the parts in order.

use rayon::prelude::*;

use super::ROWS_PER_PART;
use crate::bf16;
use crate::simd::simd_fn;

pub(super) fn accumulate(x: &[f32], stride: usize, offset: usize, partial: &mut [f32], out: &mut [f32]) {
    sum_parts(x, stride, offset, partial, out, add_rows);
}

/// As [`accumulate`], of bf16.
pub(super) fn accumulate_rounded(x: &[u16], stride: usize, offset: usize, partial: &mut [f32], out: &mut [f32]) {
    sum_parts(x, stride, offset, partial, out, add_rounded_rows);
}

/// Adds rows: their elements, elements from one to the next, the first column, sums.
type AddRows<T> = fn(&[T], usize, usize, &mut [f32]);

fn sum_parts<T: Sync>(x: &[T], stride: usize, offset: usize, partial: &mut [f32], out: &mut [f32], add: AddRows<T>) {
    let cols = out.len();
    partial.par_chunks_mut(cols).zip(x.par_chunks(ROWS_PER_PART * stride)).for_each(|(partial, x)| {
        partial.fill(0.0);
        add(x, stride, offset, partial);
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

simd_fn! {
    fn add_rounded_rows(x: &[u16], stride: usize, offset: usize, out: &mut [f32]) {
        for row in x.chunks_exact(stride) {
            for (total, bits) in out.iter_mut().zip(&row[offset..]) {
                *total += bf16::wide(*bits);
            }
        }
    }
}

//! Means of rows on the CPU: examples in parallel.

use rayon::prelude::*;

use crate::ops::add::cpu::add_into;

pub(super) fn forward(x: &[f32], lengths: &[u32], l: usize, d: usize, y: &mut [f32]) {
    y.par_chunks_mut(d).zip(x.par_chunks(l * d)).zip(lengths).for_each(|((y, x), length)| {
        y.fill(0.0);
        x.chunks_exact(d).take(*length as usize).for_each(|row| add_into(row, y));
        y.iter_mut().for_each(|y| *y /= *length as f32);
    });
}

pub(super) fn backward(dy: &[f32], lengths: &[u32], l: usize, d: usize, dx: &mut [f32]) {
    dx.par_chunks_mut(l * d).zip(dy.par_chunks(d)).zip(lengths).for_each(|((dx, dy), length)| {
        let (counted, rest) = dx.split_at_mut(*length as usize * d);
        counted.chunks_exact_mut(d).for_each(|row| {
            row.iter_mut().zip(dy).for_each(|(dx, dy)| *dx = dy / *length as f32);
        });
        rest.fill(0.0);
    });
}

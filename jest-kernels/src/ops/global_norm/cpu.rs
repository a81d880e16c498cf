//! The norm of all gradients on the CPU: blocks in parallel, then the blocks in order.

use rayon::prelude::*;

use super::BLOCK;
use crate::simd::{simd_fn, sum_over};

pub(super) fn norm(gradients: &[&[f32]], partial: &mut [f32]) -> f32 {
    let mut rest = &mut *partial;
    for gradient in gradients {
        let (own, behind) = rest.split_at_mut(gradient.len().div_ceil(BLOCK));
        own.par_iter_mut().zip(gradient.par_chunks(BLOCK)).for_each(|(out, block)| *out = squares(block));
        rest = behind;
    }
    let total: f64 = partial.iter().map(|value| f64::from(*value)).sum();
    total.sqrt() as f32
}

simd_fn! {
    fn squares(block: &[f32]) -> f32 {
        sum_over(block, |value| value * value)
    }
}

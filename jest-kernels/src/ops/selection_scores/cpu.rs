//! Conditional scores on the CPU: blocks of candidates in parallel, each against tiles of the chunk.

use rayon::prelude::*;

use crate::ops::block_range;
use crate::ops::matmul::cpu::gemm;
use crate::simd::{simd_fn, softplus, sum, sum_over};

/// Candidates of a block.
const BLOCK: usize = 192;
/// Members of the chunk in a tile; a block's products with them stay in the second cache, on the stack.
const TILE: usize = 128;

/// What both directions share.
#[derive(Clone, Copy)]
pub(super) struct Model<'a> {
    pub(super) image: &'a [f32],
    pub(super) text: &'a [f32],
    pub(super) d: usize,
    pub(super) weight: f32,
    pub(super) scale: f32,
    pub(super) bias: f32,
}

pub(super) fn diagonal(model: Model<'_>, conditional: &mut [f32]) {
    conditional.par_chunks_mut(BLOCK).enumerate().for_each(|(index, conditional)| {
        let first = index * BLOCK * model.d;
        let range = first..first + conditional.len() * model.d;
        diagonal_block(model, &model.image[range.clone()], &model.text[range], conditional);
    });
}

/// `members`: the chunk's image rows, then its text rows, [2, chunk, d].
pub(super) fn condition_on(model: Model<'_>, members: &[f32], conditional: &mut [f32]) {
    let d = model.d;
    let (images, texts) = members.split_at(members.len() / 2);
    conditional.par_chunks_mut(BLOCK).enumerate().with_max_len(1).for_each(|(index, conditional)| {
        let rows = conditional.len();
        let range = index * BLOCK * d..(index * BLOCK + rows) * d;
        let mut products = [0.0f32; BLOCK * TILE];
        let mut totals = [0.0f64; BLOCK];
        for (rows_of, others) in [(model.image, texts), (model.text, images)] {
            for others in others.chunks(TILE * d) {
                let cols = others.len() / d;
                let products = &mut products[..rows * cols];
                gemm(rows, cols, d, (&rows_of[range.clone()], d, 1), (others, 1, d), (products, cols), false);
                add_softplus(model, products, &mut totals[..rows]);
            }
        }
        for (score, total) in conditional.iter_mut().zip(totals) {
            *score += (f64::from(model.weight) * total) as f32;
        }
    });
}

/// Copies the chunk's rows: `members` as [`condition_on`] reads them.
pub(super) fn gather(model: Model<'_>, chunk: &[u32], members: &mut [f32]) {
    let d = model.d;
    let (images, texts) = members.split_at_mut(chunk.len() * d);
    for (from, to) in [(model.image, images), (model.text, texts)] {
        for (row, k) in to.chunks_exact_mut(d).zip(chunk) {
            row.copy_from_slice(&from[block_range(from.len(), d, *k as usize)]);
        }
    }
}

simd_fn! {
    fn add_softplus(model: Model<'_>, products: &[f32], totals: &mut [f64]) {
        for (row, total) in products.chunks_exact(products.len() / totals.len()).zip(totals) {
            *total += f64::from(sum_over(row, |product| softplus(model.scale * product + model.bias)));
        }
    }
}

simd_fn! {
    fn diagonal_block(model: Model<'_>, image: &[f32], text: &[f32], conditional: &mut [f32]) {
        let rows = image.chunks_exact(model.d).zip(text.chunks_exact(model.d));
        for (score, (image, text)) in conditional.iter_mut().zip(rows) {
            let dot = sum(model.d, |k| image[k] * text[k]);
            *score += model.weight * softplus(-(model.scale * dot + model.bias));
        }
    }
}

//! Conditional scores on the CPU: blocks of candidates in parallel, each against tiles of the chunk.

use std::cell::RefCell;

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

thread_local! {
    /// Rows of the open candidates in work; kept from call to call.
    static OWN: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// `members`: the chunk's image rows, then its text rows, [2, chunk, d]. `totals` has a place for each open candidate.
pub(super) fn condition_on(
    model: Model<'_>,
    members: &[f32],
    open: &[u32],
    totals: &mut [f64],
    conditional: &mut [f32],
) {
    let d = model.d;
    let (images, texts) = members.split_at(members.len() / 2);
    totals.fill(0.0);
    let blocks = totals.par_chunks_mut(BLOCK).zip(open.par_chunks(BLOCK));
    blocks.with_max_len(1).for_each(|(totals, open)| {
        OWN.with_borrow_mut(|own| {
            own.resize(own.len().max(open.len() * d), 0.0);
            let own = &mut own[..open.len() * d];
            condition_block(model, [(model.image, texts), (model.text, images)], open, own, totals);
        });
    });
    for (x, total) in open.iter().zip(totals) {
        conditional[*x as usize] += (f64::from(model.weight) * *total) as f32;
    }
}

/// Adds up one block, both directions; `own` has room for its rows.
fn condition_block(
    model: Model<'_>,
    directions: [(&[f32], &[f32]); 2],
    open: &[u32],
    own: &mut [f32],
    totals: &mut [f64],
) {
    let (rows, d) = (open.len(), model.d);
    let mut products = [0.0f32; BLOCK * TILE];
    for (rows_of, others) in directions {
        for (row, x) in own.chunks_exact_mut(d).zip(open) {
            row.copy_from_slice(&rows_of[block_range(rows_of.len(), d, *x as usize)]);
        }
        for others in others.chunks(TILE * d) {
            let cols = others.len() / d;
            let products = &mut products[..rows * cols];
            gemm(rows, cols, d, (own, d, 1), (others, 1, d), (products, cols), false);
            add_softplus(model, products, totals);
        }
    }
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
            let dot = sum([image, text], |[image, text]| image * text);
            *score += model.weight * softplus(-(model.scale * dot + model.bias));
        }
    }
}

//! Softmax cross-entropy on the CPU: rows in parallel, each read from memory once.

use rayon::prelude::*;

use crate::ops::block_rows;
use crate::simd::{exp, max_over, simd_fn, sum_over};

/// Logits of a row that stay in the first cache between the search for their maximum and their sum.
const PIECE: usize = 4096;

/// Blocks of rows whose losses are summed alone.
pub(super) fn blocks(rows: usize, classes: usize) -> usize {
    rows.div_ceil(block_rows(classes))
}

/// Gives the mean loss; `losses` has a place for each of [`blocks`].
pub(super) fn forward(logits: &[f32], labels: &[u32], losses: &mut [f64]) -> f64 {
    let classes = logits.len() / labels.len();
    let block = block_rows(classes);
    let blocks = logits.par_chunks(block * classes).zip(labels.par_chunks(block));
    losses.par_iter_mut().zip(blocks).for_each(|(loss, (logits, labels))| *loss = block_loss(logits, labels));
    losses.iter().sum::<f64>() / labels.len() as f64
}

/// As [`forward`], and writes the gradient.
pub(super) fn forward_backward(logits: &[f32], labels: &[u32], dlogits: &mut [f32], losses: &mut [f64]) -> f64 {
    let classes = logits.len() / labels.len();
    let block = block_rows(classes);
    let weight = 1.0 / labels.len() as f32;
    let inputs = logits.par_chunks(block * classes).zip(labels.par_chunks(block));
    let blocks = dlogits.par_chunks_mut(block * classes).zip(inputs);
    losses.par_iter_mut().zip(blocks).for_each(|(loss, (dlogits, (logits, labels)))| {
        *loss = block_gradient(logits, labels, weight, dlogits);
    });
    losses.iter().sum::<f64>() / labels.len() as f64
}

/// (max, sum) of a row: the sum of its exponentials is `sum * exp(max)`.
#[inline(always)]
fn row_sum(row: &[f32]) -> (f32, f32) {
    let (mut max, mut sum) = (f32::MIN, 0.0);
    for piece in row.chunks(PIECE) {
        let top = max_over(piece);
        let merged = if top > max { top } else { max };
        sum = sum * exp(max - merged) + sum_over(piece, |x| exp(x - merged));
        max = merged;
    }
    (max, sum)
}

/// The distance to the maximum first: where the label's logit is the largest it is exactly 0.
#[inline(always)]
fn loss(max: f32, sum: f32, own: f32) -> f64 {
    f64::from(max - own) + f64::from(sum).ln()
}

simd_fn! {
    fn block_loss(logits: &[f32], labels: &[u32]) -> f64 {
        let mut total = 0.0;
        for (row, label) in logits.chunks_exact(logits.len() / labels.len()).zip(labels) {
            let (max, sum) = row_sum(row);
            total += loss(max, sum, row[*label as usize]);
        }
        total
    }
}

simd_fn! {
    fn block_gradient(logits: &[f32], labels: &[u32], weight: f32, dlogits: &mut [f32]) -> f64 {
        let classes = logits.len() / labels.len();
        let mut total = 0.0;
        let rows = logits.chunks_exact(classes).zip(dlogits.chunks_exact_mut(classes));
        for ((row, drow), label) in rows.zip(labels) {
            let (max, sum) = row_sum(row);
            let factor = weight / sum;
            for (d, x) in drow.iter_mut().zip(row) {
                *d = factor * exp(*x - max);
            }
            drow[*label as usize] -= weight;
            total += loss(max, sum, row[*label as usize]);
        }
        total
    }
}

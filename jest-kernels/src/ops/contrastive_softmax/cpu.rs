//! The two-sided softmax loss on the CPU: one pass over the tiles for the log-sum-exps, a second for the gradients.

use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;

use crate::simd::{exp, max_over, simd_fn, sum_over};
use crate::stripes::cpu::{Pairs, Scratch, TILE_COLS, Tile, gradients, tile_cols, tiles, visit};
use crate::{Pass, Result, Tensor};

/// Below every finite logit; exp of its distance to one is 0.
const LOWEST: f32 = -3e38;

/// A sum of exponentials: `sum * exp(max)`.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(in crate::ops) struct Side {
    pub(in crate::ops) max: f32,
    pub(in crate::ops) sum: f32,
}

impl Side {
    const EMPTY: Side = Side { max: LOWEST, sum: 0.0 };

    fn add(&mut self, other: Side) {
        let max = if other.max > self.max { other.max } else { self.max };
        self.sum = self.sum * exp(self.max - max) + other.sum * exp(other.max - max);
        self.max = max;
    }
}

/// What the tiles of some columns know: all about the columns, and their share of every row.
struct Columns<'a> {
    max: &'a mut [f32],
    sum: &'a mut [f32],
    /// The logit of each column's own pair.
    own: &'a mut [f32],
    rows: &'a mut [Side],
}

/// Memory for what [`softmax`] finds.
pub(in crate::ops) struct Memory {
    /// A side for each row, of all columns, then of those of each tile: [1 + tiles, n, 2].
    rows: Tensor,
    /// Maxima, sums and own logits of the columns: [3, n].
    columns: Tensor,
}

impl Memory {
    pub(in crate::ops) fn new(pass: &mut Pass, n: usize) -> Result<Self> {
        Ok(Self { rows: pass.empty_f32(&[1 + tiles(n), n, 2])?, columns: pass.empty_f32(&[3, n])? })
    }
}

/// The log-sum-exps of all rows and columns, as (max, 1 / sum), and the loss.
#[derive(Clone, Copy)]
pub(in crate::ops) struct Softmax<'a> {
    pub(in crate::ops) rows: &'a [Side],
    pub(in crate::ops) col_max: &'a [f32],
    pub(in crate::ops) col_inverse: &'a [f32],
    loss: f64,
}

pub(in crate::ops) fn softmax<'a>(
    pairs: Pairs<'_>,
    scale: f32,
    scratch: &mut Scratch,
    memory: &'a mut Memory,
) -> Softmax<'a> {
    let (n, cols) = (pairs.len(), tile_cols(pairs.len()));
    let (rows, parts) = bytemuck::cast_slice_mut(memory.rows.f32_mut()).split_at_mut(n);
    let (col_max, rest) = memory.columns.f32_mut().split_at_mut(n);
    let (col_sum, own) = rest.split_at_mut(n);
    rows.fill(Side::EMPTY);
    col_max.fill(LOWEST);
    col_sum.fill(0.0);
    let columns = col_max.par_chunks_mut(cols).zip(col_sum.par_chunks_mut(cols));
    let columns = columns.zip(own.par_chunks_mut(cols)).zip(parts.par_chunks_mut(n));
    let columns = columns.map(|(((max, sum), own), rows)| Columns { max, sum, own, rows });
    visit(pairs, &mut scratch.products, columns, |tile, product, columns| sum_tile(tile, product, scale, columns));
    for part in parts.chunks_exact(n) {
        rows.iter_mut().zip(part).for_each(|(row, part)| row.add(*part));
    }
    // The distance to the maximum first: where a pair's own logit is the largest it is exactly 0.
    let side = |max: f32, sum: f32, own: f32| f64::from(max - own) + f64::from(sum).ln();
    let pair = |i: usize| side(rows[i].max, rows[i].sum, own[i]) + side(col_max[i], col_sum[i], own[i]);
    let loss = (0..n).map(pair).sum::<f64>() / (2 * n) as f64;
    rows.iter_mut().for_each(|row| row.sum = 1.0 / row.sum);
    col_sum.iter_mut().for_each(|sum| *sum = 1.0 / *sum);
    Softmax { rows, col_max, col_inverse: col_sum, loss }
}

pub(super) fn forward(pairs: Pairs<'_>, scale: f32, scratch: &mut Scratch, memory: &mut Memory) -> f64 {
    softmax(pairs, scale, scratch, memory).loss
}

/// Gives the loss and `dlog_scale`.
pub(super) fn forward_backward(
    pairs: Pairs<'_>,
    scale: f32,
    (scratch, memory): (&mut Scratch, &mut Memory),
    dimage: &mut [f32],
    dtext: &mut [f32],
) -> (f64, f64) {
    let n = pairs.len() as f64;
    let softmax = softmax(pairs, scale, scratch, memory);
    let weight = (f64::from(scale) / n) as f32;
    let states: &mut [f64] = scratch.sums.zeroed();
    let epilogue =
        |tile: Tile, product: &mut [f32], sum: &mut f64| gradient_tile(tile, product, scale, weight, softmax, sum);
    gradients(pairs, &mut scratch.products, states, epilogue, dimage, dtext);
    (softmax.loss, states.iter().sum::<f64>() / n)
}

simd_fn! {
    fn sum_tile(tile: Tile, product: &mut [f32], scale: f32, columns: &mut Columns<'_>) {
        let (max, sum) = (&mut columns.max[..tile.cols], &mut columns.sum[..tile.cols]);
        let mut merged = [0.0; TILE_COLS];
        let merged = &mut merged[..tile.cols];
        merged.copy_from_slice(max);
        let rows = &mut columns.rows[tile.row..tile.row + tile.rows];
        for (i, (row, side)) in product.chunks_exact_mut(tile.cols).zip(rows).enumerate() {
            for (product, max) in row.iter_mut().zip(&mut *merged) {
                *product *= scale;
                *max = if *product > *max { *product } else { *max };
            }
            let top = max_over(row);
            *side = Side { max: top, sum: sum_over(row, |logit| exp(logit - top)) };
            if let Some(own) = tile.own_col(i) {
                columns.own[own] = row[own];
            }
        }
        for ((sum, max), merged) in sum.iter_mut().zip(max.iter_mut()).zip(&*merged) {
            *sum *= exp(*max - *merged);
            *max = *merged;
        }
        for row in product.chunks_exact(tile.cols) {
            for ((sum, max), logit) in sum.iter_mut().zip(&*merged).zip(row) {
                *sum += exp(*logit - *max);
            }
        }
    }
}

simd_fn! {
    /// Replaces each product by `weight * n * G`; adds the sum of `n * G * L`.
    fn gradient_tile(
        tile: Tile, product: &mut [f32], scale: f32, weight: f32, softmax: Softmax<'_>, total: &mut f64,
    ) {
        let range = tile.col..tile.col + tile.cols;
        let (col_max, col_inverse) = (&softmax.col_max[range.clone()], &softmax.col_inverse[range]);
        let mut by_column = [0.0f32; TILE_COLS];
        let by_column = &mut by_column[..tile.cols];
        for (i, row) in product.chunks_exact_mut(tile.cols).enumerate() {
            let side = softmax.rows[tile.row + i];
            let own = tile.own_col(i).map(|own| (own, scale * row[own]));
            let columns = col_max.iter().zip(col_inverse).zip(&mut *by_column);
            for (product, ((max, inverse), sum)) in row.iter_mut().zip(columns) {
                let logit = scale * *product;
                let p = 0.5 * (exp(logit - side.max) * side.sum + exp(logit - max) * inverse);
                *sum += p * logit;
                *product = weight * p;
            }
            if let Some((own, logit)) = own {
                row[own] -= weight;
                by_column[own] -= logit;
            }
        }
        *total += by_column.iter().map(|sum| f64::from(*sum)).sum::<f64>();
    }
}

//! The two-sided softmax loss on the CPU: one pass over the tiles for the log-sum-exps, a second for the gradients.

use crate::simd::{exp, max_over, simd_fn, sum_over};
use crate::stripes::cpu::{Pairs, Scratch, Tile, gradients, tiles, visit};

/// Below every finite logit; exp of its distance to one is 0.
const LOWEST: f32 = -3e38;

/// A sum of exponentials: `sum * exp(max)`.
#[derive(Clone, Copy)]
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
struct Columns {
    max: Vec<f32>,
    sum: Vec<f32>,
    /// The logit of each column's own pair.
    own: Vec<f32>,
    rows: Vec<Side>,
}

/// The log-sum-exps of all rows and columns, as (max, 1 / sum), and the loss.
pub(in crate::ops) struct Softmax {
    pub(in crate::ops) rows: Vec<Side>,
    pub(in crate::ops) col_max: Vec<f32>,
    pub(in crate::ops) col_inverse: Vec<f32>,
    loss: f64,
}

pub(in crate::ops) fn softmax(pairs: Pairs<'_>, scale: f32, scratch: &mut Scratch) -> Softmax {
    let n = pairs.len();
    let empty = || Columns { max: Vec::new(), sum: Vec::new(), own: Vec::new(), rows: Vec::with_capacity(n) };
    let mut columns: Vec<Columns> = (0..tiles(n)).map(|_| empty()).collect();
    visit(pairs, scratch, &mut columns, |tile, product, columns| {
        columns.max.resize(tile.cols, LOWEST);
        columns.sum.resize(tile.cols, 0.0);
        columns.own.resize(tile.cols, 0.0);
        sum_tile(tile, product, scale, columns);
    });
    let mut rows = vec![Side::EMPTY; n];
    for part in &columns {
        rows.iter_mut().zip(&part.rows).for_each(|(row, part)| row.add(*part));
    }
    let joined = |part: fn(&Columns) -> &[f32]| columns.iter().map(part).collect::<Vec<_>>().concat();
    let (own, col_max, col_sum) = (joined(|c| &c.own), joined(|c| &c.max), joined(|c| &c.sum));
    // The distance to the maximum first: where a pair's own logit is the largest it is exactly 0.
    let side = |max: f32, sum: f32, own: f32| f64::from(max - own) + f64::from(sum).ln();
    let pair = |i: usize| side(rows[i].max, rows[i].sum, own[i]) + side(col_max[i], col_sum[i], own[i]);
    let loss = (0..n).map(pair).sum::<f64>() / (2 * n) as f64;
    rows.iter_mut().for_each(|row| row.sum = 1.0 / row.sum);
    Softmax { rows, col_max, col_inverse: col_sum.iter().map(|sum| 1.0 / sum).collect(), loss }
}

pub(super) fn forward(pairs: Pairs<'_>, scale: f32, scratch: &mut Scratch) -> f64 {
    softmax(pairs, scale, scratch).loss
}

/// Gives the loss and `dlog_scale`.
pub(super) fn forward_backward(
    pairs: Pairs<'_>,
    scale: f32,
    scratch: &mut Scratch,
    dimage: &mut [f32],
    dtext: &mut [f32],
) -> (f64, f64) {
    let n = pairs.len() as f64;
    let softmax = softmax(pairs, scale, scratch);
    let weight = (f64::from(scale) / n) as f32;
    let mut states = vec![0.0f64; tiles(pairs.len())];
    let epilogue =
        |tile: Tile, product: &mut [f32], sum: &mut f64| gradient_tile(tile, product, scale, weight, &softmax, sum);
    gradients(pairs, scratch, &mut states, epilogue, dimage, dtext);
    (softmax.loss, states.iter().sum::<f64>() / n)
}

simd_fn! {
    fn sum_tile(tile: Tile, product: &mut [f32], scale: f32, columns: &mut Columns) {
        let (max, sum) = (&mut columns.max[..tile.cols], &mut columns.sum[..tile.cols]);
        let mut merged = max.to_vec();
        for (i, row) in product.chunks_exact_mut(tile.cols).enumerate() {
            for (product, max) in row.iter_mut().zip(&mut merged) {
                *product *= scale;
                *max = if *product > *max { *product } else { *max };
            }
            let top = max_over(row);
            columns.rows.push(Side { max: top, sum: sum_over(row, |logit| exp(logit - top)) });
            if let Some(own) = tile.own_col(i) {
                columns.own[own] = row[own];
            }
        }
        for ((sum, max), merged) in sum.iter_mut().zip(max.iter_mut()).zip(&merged) {
            *sum *= exp(*max - *merged);
            *max = *merged;
        }
        for row in product.chunks_exact(tile.cols) {
            for ((sum, max), logit) in sum.iter_mut().zip(&merged).zip(row) {
                *sum += exp(*logit - *max);
            }
        }
    }
}

simd_fn! {
    /// Replaces each product by `weight * n * G`; adds the sum of `n * G * L`.
    fn gradient_tile(
        tile: Tile, product: &mut [f32], scale: f32, weight: f32, softmax: &Softmax, total: &mut f64,
    ) {
        let range = tile.col..tile.col + tile.cols;
        let (col_max, col_inverse) = (&softmax.col_max[range.clone()], &softmax.col_inverse[range]);
        let mut by_column = vec![0.0f32; tile.cols];
        for (i, row) in product.chunks_exact_mut(tile.cols).enumerate() {
            let side = softmax.rows[tile.row + i];
            let own = tile.own_col(i).map(|own| (own, scale * row[own]));
            let columns = col_max.iter().zip(col_inverse).zip(&mut by_column);
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

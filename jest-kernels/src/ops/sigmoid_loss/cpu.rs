//! The sigmoid loss on the CPU: each tile of the product becomes loss and gradient while it is in the cache.

use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;

use crate::simd::{LANES, exp, log1p_unit, simd_fn, softplus, sum_over};
use crate::stripes::cpu::{Pairs, Scratch, Tile, gradients, visit};

/// Scale and bias of the logits, as used.
#[derive(Clone, Copy)]
pub(super) struct Logits {
    pub(super) scale: f32,
    pub(super) bias: f32,
}

/// Sums over pairs: of the losses, of G, and of G times the product.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Sums {
    pub(super) loss: f64,
    pub(super) g: f64,
    pub(super) g_product: f64,
}

fn total(states: &[Sums]) -> Sums {
    let mut all = Sums::default();
    for state in states {
        all.loss += state.loss;
        all.g += state.g;
        all.g_product += state.g_product;
    }
    all
}

pub(super) fn forward(pairs: Pairs<'_>, logits: Logits, scratch: &mut Scratch) -> f64 {
    let states: &mut [Sums] = scratch.sums.zeroed();
    visit(pairs, &mut scratch.products, states.par_iter_mut(), |tile, product, sums| {
        loss_tile(tile, product, logits, sums);
    });
    total(states).loss / pairs.len() as f64
}

pub(super) fn forward_backward(
    pairs: Pairs<'_>,
    logits: Logits,
    scratch: &mut Scratch,
    dimage: &mut [f32],
    dtext: &mut [f32],
) -> Sums {
    let n = pairs.len() as f64;
    let weight = (f64::from(logits.scale) / n) as f32;
    let states: &mut [Sums] = scratch.sums.zeroed();
    let epilogue =
        |tile: Tile, product: &mut [f32], sums: &mut Sums| gradient_tile(tile, product, logits, weight, sums);
    gradients(pairs, &mut scratch.products, states, epilogue, dimage, dtext);
    let Sums { loss, g, g_product } = total(states);
    Sums { loss: loss / n, g: g / n, g_product: g_product / n }
}

/// softplus(x) and sigmoid(x) from one exponential.
#[inline(always)]
fn softplus_sigmoid(x: f32) -> (f32, f32) {
    let u = exp(-x.abs());
    let (positive, numerator) = if x > 0.0 { (x, 1.0) } else { (0.0, u) };
    (positive + log1p_unit(u), numerator / (1.0 + u))
}

/// Replaces each product in a row of negatives by `weight * sigmoid(L)`; adds to the lanes of loss, G and G * product.
#[inline(always)]
fn negatives(row: &mut [f32], logits: Logits, weight: f32, lanes: &mut [[f32; LANES]; 3]) {
    let mut one = |product: &mut f32, lane: usize| {
        let (loss, g) = softplus_sigmoid(logits.scale * *product + logits.bias);
        lanes[0][lane] += loss;
        lanes[1][lane] += g;
        lanes[2][lane] += g * *product;
        *product = weight * g;
    };
    let (whole, rest) = row.as_chunks_mut::<LANES>();
    for chunk in whole {
        for (lane, product) in chunk.iter_mut().enumerate() {
            one(product, lane);
        }
    }
    for (lane, product) in rest.iter_mut().enumerate() {
        one(product, lane);
    }
}

simd_fn! {
    fn gradient_tile(tile: Tile, product: &mut [f32], logits: Logits, weight: f32, sums: &mut Sums) {
        for (i, row) in product.chunks_exact_mut(tile.cols).enumerate() {
            let mut lanes = [[0.0f32; LANES]; 3];
            if let Some(own) = tile.own_col(i) {
                let (before, after) = row.split_at_mut(own);
                negatives(before, logits, weight, &mut lanes);
                negatives(&mut after[1..], logits, weight, &mut lanes);
                // softplus(-L) and sigmoid(L) - 1 = -sigmoid(-L).
                let (loss, g) = softplus_sigmoid(-(logits.scale * after[0] + logits.bias));
                sums.loss += f64::from(loss);
                sums.g -= f64::from(g);
                sums.g_product -= f64::from(g) * f64::from(after[0]);
                after[0] = -weight * g;
            } else {
                negatives(row, logits, weight, &mut lanes);
            }
            let [loss, g, g_product] = lanes.map(|lanes| f64::from(lanes.iter().sum::<f32>()));
            sums.loss += loss;
            sums.g += g;
            sums.g_product += g_product;
        }
    }
}

simd_fn! {
    fn loss_tile(tile: Tile, product: &mut [f32], logits: Logits, sums: &mut Sums) {
        for (i, row) in product.chunks_exact(tile.cols).enumerate() {
            let negatives = |row| sum_over(row, |product| softplus(logits.scale * product + logits.bias));
            sums.loss += f64::from(match tile.own_col(i) {
                Some(own) => {
                    let positive = softplus(-(logits.scale * row[own] + logits.bias));
                    positive + (negatives(&row[..own]) + negatives(&row[own + 1..]))
                }
                None => negatives(row),
            });
        }
    }
}

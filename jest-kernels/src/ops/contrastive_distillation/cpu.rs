//! Distillation on the CPU: the log-sum-exps of both models first, then tiles of both products side by side.

use std::cell::RefCell;

use bytemuck::{Pod, Zeroable};

use super::super::contrastive_softmax::cpu::{self as contrastive_softmax, Softmax, softmax};
use crate::simd::{exp, simd_fn};
use crate::stripes::cpu::{Pairs, Scratch, TILE_COLS, Tile, gradients};
use crate::{Pass, Result, Tensor};

thread_local! {
    /// The teacher's product of the tile in work; kept from call to call.
    static TEACHER: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Memory for what is known of a [`Model`].
pub(super) struct Memory {
    softmax: contrastive_softmax::Memory,
    /// Of rows, then of columns: [2, n].
    logs: Tensor,
}

impl Memory {
    pub(super) fn new(pass: &mut Pass, n: usize) -> Result<Self> {
        Ok(Self { softmax: contrastive_softmax::Memory::new(pass, n)?, logs: pass.empty_f32(&[2, n])? })
    }
}

/// A model's pairs, their scale t, and the logarithms of the sums of its softmaxes.
struct Model<'a> {
    pairs: Pairs<'a>,
    scale: f32,
    softmax: Softmax<'a>,
    row_log: &'a [f32],
    col_log: &'a [f32],
}

impl<'a> Model<'a> {
    fn new(pairs: Pairs<'a>, scale: f32, scratch: &mut Scratch, memory: &'a mut Memory) -> Self {
        let softmax = softmax(pairs, scale, scratch, &mut memory.softmax);
        // Sums are kept as what they divide by.
        let (row_log, col_log) = memory.logs.f32_mut().split_at_mut(pairs.len());
        row_log.iter_mut().zip(softmax.rows).for_each(|(log, row)| *log = -row.sum.ln());
        col_log.iter_mut().zip(softmax.col_inverse).for_each(|(log, inverse)| *log = -inverse.ln());
        Self { pairs, scale, softmax, row_log, col_log }
    }
}

/// Sums over the tiles of some columns.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct State {
    loss: f64,
    by_scale: f64,
}

/// Gives `weight` times the loss, and that of `dlog_scale`.
pub(super) fn forward_backward(
    [student, teacher]: [(Pairs<'_>, f32); 2],
    weight: f32,
    (scratch, memories): (&mut Scratch, &mut [Memory; 2]),
    dimage: &mut [f32],
    dtext: &mut [f32],
) -> (f64, f64) {
    let [own, theirs] = memories;
    let student = Model::new(student.0, student.1, scratch, own);
    let teacher = Model::new(teacher.0, teacher.1, scratch, theirs);
    let n = student.pairs.len();
    let share = f64::from(weight) / n as f64;
    let factor = (share * f64::from(student.scale)) as f32;
    let states: &mut [State] = scratch.sums.zeroed();
    let epilogue = |tile: Tile, product: &mut [f32], state: &mut State| {
        TEACHER.with_borrow_mut(|kept| {
            kept.resize(kept.len().max(product.len()), 0.0);
            let other = &mut kept[..product.len()];
            teacher.pairs.product(&tile, other);
            gradient_tile(tile, product, other, factor, &student, &teacher, state);
        });
    };
    gradients(student.pairs, &mut scratch.products, states, epilogue, dimage, dtext);
    let sum = |of: fn(&State) -> f64| share * states.iter().map(of).sum::<f64>();
    (0.5 * sum(|state| state.loss), sum(|state| state.by_scale))
}

simd_fn! {
    /// Replaces each product of the student by `factor * n * G`; adds the sums of `n * G * L` and of `-p log q`.
    fn gradient_tile(
        tile: Tile, product: &mut [f32], other: &[f32], factor: f32, student: &Model<'_>, teacher: &Model<'_>,
        state: &mut State,
    ) {
        let range = tile.col..tile.col + tile.cols;
        let (q_max, q_inverse) = (&student.softmax.col_max[range.clone()], &student.softmax.col_inverse[range.clone()]);
        let (p_max, p_inverse) = (&teacher.softmax.col_max[range.clone()], &teacher.softmax.col_inverse[range.clone()]);
        let q_log = &student.col_log[range];
        let (mut losses, mut by_scale) = ([0.0f32; TILE_COLS], [0.0f32; TILE_COLS]);
        let (losses, by_scale) = (&mut losses[..tile.cols], &mut by_scale[..tile.cols]);
        for (i, (row, other)) in product.chunks_exact_mut(tile.cols).zip(other.chunks_exact(tile.cols)).enumerate() {
            let (q, p) = (student.softmax.rows[tile.row + i], teacher.softmax.rows[tile.row + i]);
            let row_log = student.row_log[tile.row + i];
            for j in 0..tile.cols {
                let (logit, theirs) = (student.scale * row[j], teacher.scale * other[j]);
                let p_row = exp(theirs - p.max) * p.sum;
                let p_col = exp(theirs - p_max[j]) * p_inverse[j];
                let q_row = exp(logit - q.max) * q.sum;
                let q_col = exp(logit - q_max[j]) * q_inverse[j];
                // The distance to the maximum first: where a logit is the largest it is exactly 0.
                losses[j] += p_row * ((q.max - logit) + row_log) + p_col * ((q_max[j] - logit) + q_log[j]);
                let g = 0.5 * ((q_row - p_row) + (q_col - p_col));
                by_scale[j] += g * logit;
                row[j] = factor * g;
            }
        }
        state.loss += losses.iter().map(|loss| f64::from(*loss)).sum::<f64>();
        state.by_scale += by_scale.iter().map(|sum| f64::from(*sum)).sum::<f64>();
    }
}

//! Distillation on the CPU: the log-sum-exps of both models first, then tiles of both products side by side.

use super::super::contrastive_softmax::cpu::{Softmax, softmax};
use crate::simd::{exp, simd_fn};
use crate::stripes::cpu::{Pairs, Scratch, Tile, gradients, tiles};

/// A model's pairs, their scale t, and the logarithms of the sums of its softmaxes.
struct Model<'a> {
    pairs: Pairs<'a>,
    scale: f32,
    softmax: Softmax,
    row_log: Vec<f32>,
    col_log: Vec<f32>,
}

impl<'a> Model<'a> {
    fn new(pairs: Pairs<'a>, scale: f32, scratch: &mut Scratch) -> Self {
        let softmax = softmax(pairs, scale, scratch);
        // Sums are kept as what they divide by.
        let row_log = softmax.rows.iter().map(|row| -row.sum.ln()).collect();
        let col_log = softmax.col_inverse.iter().map(|inverse| -inverse.ln()).collect();
        Self { pairs, scale, softmax, row_log, col_log }
    }
}

/// Sums over the tiles of some columns, and the teacher's product of the tile in work.
#[derive(Default)]
struct State {
    loss: f64,
    by_scale: f64,
    teacher: Vec<f32>,
}

/// Gives `weight` times the loss, and that of `dlog_scale`.
pub(super) fn forward_backward(
    [student, teacher]: [(Pairs<'_>, f32); 2],
    weight: f32,
    scratch: &mut Scratch,
    dimage: &mut [f32],
    dtext: &mut [f32],
) -> (f64, f64) {
    let [student, teacher] = [student, teacher].map(|(pairs, scale)| Model::new(pairs, scale, scratch));
    let n = student.pairs.len();
    let share = f64::from(weight) / n as f64;
    let factor = (share * f64::from(student.scale)) as f32;
    let mut states: Vec<State> = (0..tiles(n)).map(|_| State::default()).collect();
    let epilogue = |tile: Tile, product: &mut [f32], state: &mut State| {
        let mut other = std::mem::take(&mut state.teacher);
        other.resize(product.len(), 0.0);
        teacher.pairs.product(&tile, &mut other);
        gradient_tile(tile, product, &other, factor, &student, &teacher, state);
        state.teacher = other;
    };
    gradients(student.pairs, scratch, &mut states, epilogue, dimage, dtext);
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
        let (mut losses, mut by_scale) = (vec![0.0f32; tile.cols], vec![0.0f32; tile.cols]);
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

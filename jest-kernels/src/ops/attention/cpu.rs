//! Attention on the CPU: examples in parallel, each head through tiles of query rows that stay in cache.

use std::cell::RefCell;

use rayon::prelude::*;

use super::Operands;
use crate::ops::block_range;
use crate::ops::matmul::cpu::gemm;
use crate::simd::{exp, max, simd_fn, sum};

/// Query rows of a tile of scores.
const TILE: usize = 64;

thread_local! {
    /// Tiles of this thread, kept from call to call.
    static TILES: RefCell<[Vec<f32>; 2]> = const { RefCell::new([Vec::new(), Vec::new()]) };
}

/// What both passes read, on the CPU.
#[derive(Clone, Copy)]
pub(super) struct Inputs<'a> {
    pub(super) operands: Operands,
    pub(super) q: &'a [f32],
    pub(super) kv: &'a [f32],
    pub(super) lengths: Option<&'a [u32]>,
}

/// Where the gradients go: all into one packed tensor, or those of the queries apart from those of keys and values.
pub(super) enum Outputs<'a> {
    Packed(&'a mut [f32]),
    Pooled { dq: &'a mut [f32], dkv: &'a mut [f32] },
}

impl Outputs<'_> {
    fn dq(&mut self) -> &mut [f32] {
        match self {
            Outputs::Packed(all) => all,
            Outputs::Pooled { dq, .. } => dq,
        }
    }

    fn dkv(&mut self) -> &mut [f32] {
        match self {
            Outputs::Packed(all) => all,
            Outputs::Pooled { dkv, .. } => dkv,
        }
    }
}

/// One head of one example: its rows begin at the slices' starts.
struct Head<'a> {
    q: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
    /// Keys that count.
    keys: usize,
    /// Query rows of a tile.
    tile: usize,
}

impl<'a> Inputs<'a> {
    fn head(&self, example: usize, head: usize) -> Head<'a> {
        let Operands { shape, q_rows, q_stride, q_offset, kv_stride, k_offset, v_offset } = self.operands;
        let keys = self.lengths.map_or(shape.k_len, |lengths| (lengths[example] as usize).clamp(1, shape.k_len));
        let kv = &self.kv[example * shape.k_len * kv_stride + head * shape.head_dim..];
        let q = &self.q[example * q_rows * q_stride + q_offset + head * shape.head_dim..];
        let (k, v) = (&kv[k_offset..], &kv[v_offset..]);
        // In a tile of one row the causal mask hides no key that is multiplied: NaN stays where it is.
        let d = shape.head_dim;
        let alone = self.operands.causal() && !(is_finite(k, keys, kv_stride, d) && is_finite(v, keys, kv_stride, d));
        Head { q, k, v, keys, tile: if alone { 1 } else { TILE } }
    }
}

/// Writes y [n * q_len, width] and lse [n, heads, q_len].
pub(super) fn forward(inputs: &Inputs<'_>, y: &mut [f32], lse: &mut [f32]) {
    let shape = inputs.operands.shape;
    let width = shape.width();
    y.par_chunks_mut(shape.q_len * width).zip(lse.par_chunks_mut(shape.heads * shape.q_len)).enumerate().for_each(
        |(example, (y, lse))| {
            TILES.with_borrow_mut(|[tile, _]| {
                for (head, lse) in lse.chunks_exact_mut(shape.q_len).enumerate() {
                    let at = head * shape.head_dim;
                    forward_head(&inputs.operands, &inputs.head(example, head), tile, &mut y[at..], lse);
                }
            });
        },
    );
}

fn forward_head(operands: &Operands, head: &Head<'_>, tile: &mut Vec<f32>, y: &mut [f32], lse: &mut [f32]) {
    let (shape, d, width) = (operands.shape, operands.shape.head_dim, operands.shape.width());
    let (q_stride, kv_stride) = (operands.q_stride, operands.kv_stride);
    for index in 0..shape.q_len.div_ceil(head.tile) {
        let rows = block_range(shape.q_len, head.tile, index);
        let seen = operands.seen(head.keys, rows.end - 1);
        let (first, m) = (rows.start, rows.len());
        let s = space(tile, m * seen);
        gemm(m, seen, d, (&head.q[first * q_stride..], q_stride, 1), (head.k, 1, kv_stride), (s, seen), false);
        soften(operands, head.keys, first, s, &mut lse[rows]);
        let y = &mut y[first * width..];
        gemm(m, d, seen, (s, seen, 1), (head.v, kv_stride, 1), (y, width), false);
    }
}

/// Turns scores into weights, row by row, and writes each row's logarithm of the sum of exponentials.
fn soften(operands: &Operands, keys: usize, first: usize, s: &mut [f32], lse: &mut [f32]) {
    let cols = s.len() / lse.len();
    for (i, (s, lse)) in s.chunks_exact_mut(cols).zip(lse).enumerate() {
        let (seen, hidden) = s.split_at_mut(operands.seen(keys, first + i));
        *lse = softmax(seen, operands.scale());
        hidden.fill(0.0);
    }
}

simd_fn! {
    fn softmax(s: &mut [f32], scale: f32) -> f32 {
        let n = s.len();
        let top = max(n, |j| s[j]) * scale;
        for s in s.iter_mut() {
            *s = exp(*s * scale - top);
        }
        let total = sum(n, |j| s[j]);
        let inverse = 1.0 / total;
        for s in s.iter_mut() {
            *s *= inverse;
        }
        top + total.ln()
    }
}

/// What only the backward pass reads.
pub(super) struct Upstream<'a> {
    pub(super) y: &'a [f32],
    pub(super) lse: &'a [f32],
    pub(super) dy: &'a [f32],
}

/// Writes every element of the outputs; `dq` holds one [q_len, width] for each example.
pub(super) fn backward(inputs: &Inputs<'_>, upstream: &Upstream<'_>, outputs: Outputs<'_>) {
    let operands = &inputs.operands;
    let (shape, width) = (operands.shape, operands.shape.width());
    let kv_rows = shape.k_len * operands.kv_stride;
    match outputs {
        Outputs::Packed(all) => all.par_chunks_mut(kv_rows).enumerate().for_each(|(example, all)| {
            backward_example(inputs, upstream, example, &mut Outputs::Packed(all));
        }),
        Outputs::Pooled { dq, dkv } => {
            dq.par_chunks_mut(shape.q_len * width).zip(dkv.par_chunks_mut(kv_rows)).enumerate().for_each(
                |(example, (dq, dkv))| {
                    backward_example(inputs, upstream, example, &mut Outputs::Pooled { dq, dkv });
                },
            );
        }
    }
}

fn backward_example(inputs: &Inputs<'_>, upstream: &Upstream<'_>, example: usize, outputs: &mut Outputs<'_>) {
    let shape = inputs.operands.shape;
    let width = shape.width();
    let lse = &upstream.lse[example * shape.heads * shape.q_len..];
    for (head, lse) in lse.chunks_exact(shape.q_len).take(shape.heads).enumerate() {
        let at = example * shape.q_len * width + head * shape.head_dim;
        let upstream = Upstream { y: &upstream.y[at..], lse, dy: &upstream.dy[at..] };
        TILES.with_borrow_mut(|tiles| {
            backward_head(&inputs.operands, &inputs.head(example, head), &upstream, head, tiles, outputs);
        });
    }
}

fn backward_head(
    operands: &Operands,
    head: &Head<'_>,
    upstream: &Upstream<'_>,
    index: usize,
    [w_tile, ds_tile]: &mut [Vec<f32>; 2],
    outputs: &mut Outputs<'_>,
) {
    let (shape, d, width) = (operands.shape, operands.shape.head_dim, operands.shape.width());
    let (q_stride, kv_stride, dq_stride) = (operands.q_stride, operands.kv_stride, operands.q_stride);
    let (q_at, k_at, v_at) = (operands.q_offset, operands.k_offset, operands.v_offset);
    let at = index * d;
    for row in outputs.dkv().chunks_exact_mut(kv_stride) {
        row[k_at + at..k_at + at + d].fill(0.0);
        row[v_at + at..v_at + at + d].fill(0.0);
    }
    for index in 0..shape.q_len.div_ceil(head.tile) {
        let rows = block_range(shape.q_len, head.tile, index);
        let (first, m) = (rows.start, rows.len());
        let seen = operands.seen(head.keys, rows.end - 1);
        let (w, ds) = (space(w_tile, m * seen), space(ds_tile, m * seen));
        let (q, dy) = (&head.q[first * q_stride..], &upstream.dy[first * width..]);
        gemm(m, seen, d, (q, q_stride, 1), (head.k, 1, kv_stride), (w, seen), false);
        gemm(m, seen, d, (dy, width, 1), (head.v, 1, kv_stride), (ds, seen), false);
        for i in 0..m {
            let sight = operands.seen(head.keys, first + i);
            let y = &upstream.y[(first + i) * width..][..d];
            let row = i * seen..(i + 1) * seen;
            let lse = upstream.lse[first + i];
            score_gradients(&mut w[row.clone()], &mut ds[row], sight, lse, operands.scale(), y, &dy[i * width..]);
        }
        gemm(
            m,
            d,
            seen,
            (ds, seen, 1),
            (head.k, kv_stride, 1),
            (&mut outputs.dq()[first * dq_stride + q_at + at..], dq_stride),
            false,
        );
        gemm(seen, d, m, (ds, 1, seen), (q, q_stride, 1), (&mut outputs.dkv()[k_at + at..], kv_stride), true);
        gemm(seen, d, m, (w, 1, seen), (dy, width, 1), (&mut outputs.dkv()[v_at + at..], kv_stride), true);
    }
}

simd_fn! {
    /// One row: `w` turns from scores into weights, `ds` from `dy · vᵀ` into the gradient of the unscaled scores.
    fn score_gradients(w: &mut [f32], ds: &mut [f32], seen: usize, lse: f32, scale: f32, y: &[f32], dy: &[f32]) {
        let delta = sum(y.len(), |j| y[j] * dy[j]);
        let (w, hidden) = w.split_at_mut(seen);
        hidden.fill(0.0);
        let (ds, hidden) = ds.split_at_mut(seen);
        hidden.fill(0.0);
        for (w, ds) in w.iter_mut().zip(ds) {
            *w = exp(*w * scale - lse);
            *ds = scale * *w * (*ds - delta);
        }
    }
}

simd_fn! {
    /// Whether `rows` rows of `d` elements, `stride` apart, are all finite.
    fn is_finite(x: &[f32], rows: usize, stride: usize, d: usize) -> bool {
        (0..rows).all(|row| {
            let row = &x[row * stride..][..d];
            // 0 * x is 0 exactly where x is finite.
            sum(d, |j| row[j] * 0.0) == 0.0
        })
    }
}

/// The first `len` elements, with unspecified contents.
fn space(tile: &mut Vec<f32>, len: usize) -> &mut [f32] {
    if tile.len() < len {
        tile.resize(len, 0.0);
    }
    &mut tile[..len]
}

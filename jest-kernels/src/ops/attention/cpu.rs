//! Attention on the CPU: examples in parallel, each head through tiles of query rows that stay in cache.

use std::cell::RefCell;
use std::ops::Range;

use rayon::prelude::*;

use super::Operands;
use crate::ops::block_range;
use crate::ops::matmul::cpu::gemm;
use crate::simd::{LANES, exp, max_over, simd_fn, sum, sum_over};

/// Query rows of a tile of scores.
const TILE: usize = 64;

thread_local! {
    /// Weights and score gradients of one tile, rows padded to whole vectors; kept from call to call.
    static TILES: RefCell<[Vec<f32>; 2]> = const { RefCell::new([Vec::new(), Vec::new()]) };
}

/// What both passes read, on the CPU.
#[derive(Clone, Copy)]
pub(super) struct Inputs<'a, E = &'a [f32]> {
    pub(super) operands: Operands,
    pub(super) q: E,
    pub(super) kv: E,
    pub(super) lengths: Option<&'a [u32]>,
}

impl<E> Inputs<'_, E> {
    /// How many keys of an example count.
    pub(super) fn keys(&self, example: usize) -> usize {
        let k_len = self.operands.shape.k_len;
        self.lengths.map_or(k_len, |lengths| (lengths[example] as usize).clamp(1, k_len))
    }
}

/// Where the gradients go: all into one packed tensor, or those of the queries apart from those of keys and values.
pub(super) enum Outputs<P> {
    Packed(P),
    Pooled { dq: P, dkv: P },
}

impl<P> Outputs<P> {
    pub(super) fn map<Q>(self, f: impl Fn(P) -> Q) -> Outputs<Q> {
        match self {
            Outputs::Packed(all) => Outputs::Packed(f(all)),
            Outputs::Pooled { dq, dkv } => Outputs::Pooled { dq: f(dq), dkv: f(dkv) },
        }
    }
}

impl<T> Outputs<&mut [T]> {
    pub(super) fn dq(&mut self) -> &mut [T] {
        match self {
            Outputs::Packed(all) => all,
            Outputs::Pooled { dq, .. } => dq,
        }
    }

    pub(super) fn dkv(&mut self) -> &mut [T] {
        match self {
            Outputs::Packed(all) => all,
            Outputs::Pooled { dkv, .. } => dkv,
        }
    }

    /// Those of `n` examples.
    pub(super) fn part(&mut self, operands: &Operands, first: usize, n: usize) -> Outputs<&mut [T]> {
        let (dq_len, kv_len) = (operands.shape.q_len * operands.shape.width(), operands.kv_len());
        match self {
            Outputs::Packed(all) => Outputs::Packed(&mut all[first * kv_len..][..n * kv_len]),
            Outputs::Pooled { dq, dkv } => Outputs::Pooled {
                dq: &mut dq[first * dq_len..][..n * dq_len],
                dkv: &mut dkv[first * kv_len..][..n * kv_len],
            },
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
        let keys = self.keys(example);
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
    let kv_len = inputs.operands.kv_len();
    y.par_chunks_mut(shape.q_len * width).zip(lse.par_chunks_mut(shape.heads * shape.q_len)).enumerate().for_each(
        |(example, (y, lse))| {
            fetch(&inputs.kv[example * kv_len..][..kv_len]);
            fetch(y);
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
        let (first, m, pitch) = (rows.start, rows.len(), seen.next_multiple_of(LANES));
        let w = space(tile, m * pitch);
        gemm(m, seen, d, (&head.q[first * q_stride..], q_stride, 1), (head.k, 1, kv_stride), (w, pitch), false);
        for (i, (w, lse)) in w.chunks_exact_mut(pitch).zip(&mut lse[rows]).enumerate() {
            *lse = softmax(w, 0..operands.seen(head.keys, first + i), operands.scale());
        }
        let y = &mut y[first * width..];
        gemm(m, d, seen, (w, pitch, 1), (head.v, kv_stride, 1), (y, width), false);
    }
}

simd_fn! {
    /// Turns the scores of one row that are `seen` into weights and the rest of its padded length into 0; gives the
    /// logarithm of the sum of exponentials.
    pub(super) fn softmax(w: &mut [f32], seen: Range<usize>, scale: f32) -> f32 {
        fill_outside(w, &seen, f32::NEG_INFINITY);
        let top = max_over(w) * scale;
        for w in w.iter_mut() {
            *w = exp(*w * scale - top);
        }
        fill_outside(w, &seen, 0.0);
        let total = sum_over(w, |w| w);
        let inverse = 1.0 / total;
        for w in w.iter_mut() {
            *w *= inverse;
        }
        top + total.ln()
    }
}

/// Puts `x` in place of all of a row that is not `seen`.
#[inline(always)]
pub(super) fn fill_outside(row: &mut [f32], seen: &Range<usize>, x: f32) {
    row[..seen.start].fill(x);
    row[seen.end..].fill(x);
}

/// What only the backward pass reads.
pub(super) struct Upstream<'a> {
    pub(super) y: &'a [f32],
    pub(super) lse: &'a [f32],
    pub(super) dy: &'a [f32],
}

/// Writes every element of the outputs; `dq` holds one [q_len, width] for each example.
pub(super) fn backward(inputs: &Inputs<'_>, upstream: &Upstream<'_>, outputs: Outputs<&mut [f32]>) {
    each_group(&inputs.operands, 1, outputs, |examples, outputs| {
        backward_example(inputs, upstream, examples.start, outputs);
    });
}

/// Calls `work` with `group_len` examples at a time, fewer at the end, and their part of the outputs.
pub(super) fn each_group<T: Send>(
    operands: &Operands,
    group_len: usize,
    outputs: Outputs<&mut [T]>,
    work: impl Fn(Range<usize>, &mut Outputs<&mut [T]>) + Sync,
) {
    let (dq_len, kv_len) = (operands.shape.q_len * operands.shape.width(), operands.kv_len());
    let examples = |group: usize, dkv: &[T]| group * group_len..group * group_len + dkv.len() / kv_len;
    match outputs {
        Outputs::Packed(all) => all.par_chunks_mut(group_len * kv_len).enumerate().for_each(|(group, all)| {
            work(examples(group, all), &mut Outputs::Packed(all));
        }),
        Outputs::Pooled { dq, dkv } => {
            let rows = dq.par_chunks_mut(group_len * dq_len).zip(dkv.par_chunks_mut(group_len * kv_len));
            rows.enumerate().for_each(|(group, (dq, dkv))| {
                work(examples(group, dkv), &mut Outputs::Pooled { dq, dkv });
            });
        }
    }
}

fn backward_example(inputs: &Inputs<'_>, upstream: &Upstream<'_>, example: usize, outputs: &mut Outputs<&mut [f32]>) {
    let shape = inputs.operands.shape;
    let width = shape.width();
    let lse = &upstream.lse[example * shape.heads * shape.q_len..];
    let (y_len, kv_len) = (shape.q_len * width, inputs.operands.kv_len());
    fetch(&inputs.kv[example * kv_len..][..kv_len]);
    fetch(&upstream.y[example * y_len..][..y_len]);
    fetch(&upstream.dy[example * y_len..][..y_len]);
    fetch(outputs.dkv());
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
    outputs: &mut Outputs<&mut [f32]>,
) {
    let (shape, d, width) = (operands.shape, operands.shape.head_dim, operands.shape.width());
    let (q_stride, kv_stride) = (operands.q_stride, operands.kv_stride);
    let [q_at, k_at, v_at] = [operands.q_offset, operands.k_offset, operands.v_offset].map(|at| at + index * d);
    for row in outputs.dkv().chunks_exact_mut(kv_stride) {
        row[k_at..k_at + d].fill(0.0);
        row[v_at..v_at + d].fill(0.0);
    }
    for index in 0..shape.q_len.div_ceil(head.tile) {
        let rows = block_range(shape.q_len, head.tile, index);
        let seen = operands.seen(head.keys, rows.end - 1);
        let (first, m, pitch) = (rows.start, rows.len(), seen.next_multiple_of(LANES));
        let (w, ds) = (space(w_tile, m * pitch), space(ds_tile, m * pitch));
        let (q, dy) = (&head.q[first * q_stride..], &upstream.dy[first * width..]);
        gemm(m, seen, d, (q, q_stride, 1), (head.k, 1, kv_stride), (w, pitch), false);
        gemm(m, seen, d, (dy, width, 1), (head.v, 1, kv_stride), (ds, pitch), false);
        for (i, (w, ds)) in w.chunks_exact_mut(pitch).zip(ds.chunks_exact_mut(pitch)).enumerate() {
            let (y, dy) = (&upstream.y[(first + i) * width..][..d], &dy[i * width..][..d]);
            let seen = operands.seen(head.keys, first + i);
            score_gradients(w, ds, seen, upstream.lse[first + i], operands.scale(), y, dy);
        }
        let dq = &mut outputs.dq()[first * q_stride + q_at..];
        gemm(m, d, seen, (ds, pitch, 1), (head.k, kv_stride, 1), (dq, q_stride), false);
        let dk = &mut outputs.dkv()[k_at..];
        gemm(seen, d, m, (ds, 1, pitch), (q, q_stride, 1), (dk, kv_stride), true);
        let dv = &mut outputs.dkv()[v_at..];
        gemm(seen, d, m, (w, 1, pitch), (dy, width, 1), (dv, kv_stride), true);
    }
}

simd_fn! {
    /// One row: `w` turns from scores into weights, `ds` from `dy · vᵀ` into the gradient of the unscaled scores; both
    /// are 0 from `seen` on.
    fn score_gradients(w: &mut [f32], ds: &mut [f32], seen: usize, lse: f32, scale: f32, y: &[f32], dy: &[f32]) {
        let delta = sum([y, dy], |[y, dy]| y * dy);
        for (w, ds) in w.iter_mut().zip(ds.iter_mut()) {
            *w = exp(*w * scale - lse);
            *ds = scale * *w * (*ds - delta);
        }
        w[seen..].fill(0.0);
        ds[seen..].fill(0.0);
    }
}

simd_fn! {
    /// Whether `rows` rows of `d` elements, `stride` apart, are all finite.
    fn is_finite(x: &[f32], rows: usize, stride: usize, d: usize) -> bool {
        let mut zero = 0.0;
        for row in x.chunks(stride).take(rows) {
            // 0 * x is 0 exactly where x is finite.
            zero += sum_over(&row[..d], |x| x * 0.0);
        }
        zero == 0.0
    }
}

/// The first `len` elements, with unspecified contents.
fn space(tile: &mut Vec<f32>, len: usize) -> &mut [f32] {
    if tile.len() < len {
        tile.resize(len, 0.0);
    }
    &mut tile[..len]
}

/// Asks for all of one example's rows at once: the heads then walk them by columns, where no line would be expected.
pub(super) fn fetch<T>(rows: &[T]) {
    #[cfg(target_arch = "x86_64")]
    for line in rows.chunks(64 / size_of::<T>()) {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: the address is that of an element; a prefetch changes nothing but the caches.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(line.as_ptr().cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = rows;
}

//! Attention on the CPU with operands of its products rounded to bf16: keys and values are packed once a head, scores
//! stay in f32, and weights are rounded as they are packed. Outputs are rounded when they are written.
//!
//! Blocks are 32 rows tall: of examples with fewer tokens, as many as fit are packed one below the other and multiplied at
//! once, and of each row's scores those with its own example's keys are kept. Where in a block an example comes to lie
//! shows in its last bits, as sums are taken in the order of lanes.

use std::cell::RefCell;
use std::ops::Range;

use rayon::prelude::*;

use super::Operands;
use super::cpu::{Inputs, Outputs, each_group, fetch, fill_outside, softmax};
use crate::bf16::{self, DEPTH, Elements, Level, Line, Operand, Pieces, Role, SIDE, lines};
use crate::simd::{exp, simd_fn, sum};

/// Query rows of a tile of scores.
const TILE: usize = 64;

thread_local! {
    /// What one head packs, its tile of scores and its sums; kept from call to call.
    static SCRATCH: RefCell<Vec<Line>> = const { RefCell::new(Vec::new()) };
}

/// Packed rows, columns or depths: whole pairs of blocks, and whole blocks of depths.
fn whole(n: usize) -> usize {
    const { assert!(DEPTH == 2 * SIDE) };
    n.next_multiple_of(DEPTH)
}

/// Examples that are multiplied at once: as many as fit in one block, where each has its own queries and as many keys.
fn group_len(operands: &Operands) -> usize {
    let (shape, own) = (operands.shape, operands.q_rows == operands.shape.q_len);
    if own && shape.q_len == shape.k_len { (DEPTH / shape.q_len).max(1) } else { 1 }
}

/// One head of one example, or of some that are multiplied at once.
struct Head<'a> {
    level: Level,
    inputs: &'a Inputs<'a, Elements<'a>>,
    examples: Range<usize>,
    /// Which head.
    index: usize,
    /// Rows are tokens, depths the head's columns; so are those of k and v.
    q: Operand<'a>,
    k: Operand<'a>,
    v: Operand<'a>,
}

impl<'a> Head<'a> {
    fn new(level: Level, inputs: &'a Inputs<'a, Elements<'a>>, examples: Range<usize>, index: usize) -> Self {
        let Operands { shape, q_rows, q_stride, q_offset, kv_stride, k_offset, v_offset } = inputs.operands;
        let part = |elements: Elements<'a>, first: usize, stride: usize| Operand {
            elements: elements.from(first + index * shape.head_dim),
            stride,
            depth_stride: 1,
        };
        let kv = examples.start * shape.k_len * kv_stride;
        Self {
            level,
            inputs,
            index,
            q: part(inputs.q, examples.start * q_rows * q_stride + q_offset, q_stride),
            k: part(inputs.kv, kv + k_offset, kv_stride),
            v: part(inputs.kv, kv + v_offset, kv_stride),
            examples,
        }
    }

    /// The examples at once where all that they would multiply by each other's 0 is finite, else one by one.
    fn split<const N: usize>(&self, multiplied: [&Operand<'_>; N]) -> impl Iterator<Item = Self> {
        let (n, rows, d) = (self.examples.len(), self.rows(), self.inputs.operands.shape.head_dim);
        let step = if n == 1 || multiplied.iter().all(|x| is_finite(x, rows, d)) { n } else { 1 };
        let Self { level, inputs, index, .. } = *self;
        self.examples.clone().step_by(step).map(move |first| Self::new(level, inputs, first..first + step, index))
    }

    /// Query rows.
    fn rows(&self) -> usize {
        self.examples.len() * self.inputs.operands.shape.q_len
    }

    /// Keys that are packed: those that count, of one example, or all of several.
    fn keys(&self) -> usize {
        match self.examples.len() {
            1 => self.inputs.keys(self.examples.start),
            n => n * self.inputs.operands.shape.k_len,
        }
    }

    /// Of the keys that are packed, those that a query row sees.
    fn seen(&self, row: usize) -> Range<usize> {
        let shape = self.inputs.operands.shape;
        let (example, query) = (row / shape.q_len, row % shape.q_len);
        let first = example * shape.k_len;
        first..first + self.inputs.operands.seen(self.inputs.keys(self.examples.start + example), query)
    }

    /// Where a query row is in [n, heads, q_len] of these examples.
    fn place(&self, row: usize) -> usize {
        let shape = self.inputs.operands.shape;
        (row / shape.q_len * shape.heads + self.index) * shape.q_len + row % shape.q_len
    }

    /// Query rows, and how many keys are packed for them. A weight of 0 does not hide a key that is not finite: where
    /// the causal mask has to, each query is alone with the keys that it sees.
    fn spans(&self) -> impl Iterator<Item = (Range<usize>, usize)> {
        let (operands, keys, rows) = (self.inputs.operands, self.keys(), self.rows());
        let finite = |x| is_finite(x, keys, operands.shape.head_dim);
        let alone = self.examples.len() == 1 && operands.causal() && !(finite(&self.k) && finite(&self.v));
        let step = if alone { 1 } else { rows };
        (0..rows)
            .step_by(step)
            .map(move |first| (first..first + step, if alone { operands.seen(keys, first) } else { keys }))
    }

    fn pack(&self, role: Role, operand: &Operand<'_>, rows: (usize, usize), depths: (usize, usize), out: &mut [u16]) {
        bf16::pack(self.level, role, operand, rows, depths, out);
    }

    /// `y [m, n] (+)= a · b` of packed operands, rows of y as far apart as whole columns.
    fn multiply(&self, (a, m): (&[u16], usize), (b, n): (&[u16], usize), depths: usize, y: &mut [f32], add: bool) {
        bf16::multiply(self.level, (a, m), (b, n), depths, (y, n), add);
    }
}

/// A tile of whole rows as it lies in memory, `cols` elements a row.
fn tile(elements: &[f32], cols: usize) -> Operand<'_> {
    Operand { elements: Elements::F32(elements), stride: cols, depth_stride: 1 }
}

/// Writes y [n * q_len, width] and lse [n, heads, q_len].
pub(super) fn forward(level: Level, inputs: &Inputs<'_, Elements<'_>>, y: &mut [u16], lse: &mut [f32]) {
    let (shape, group_len) = (inputs.operands.shape, group_len(&inputs.operands));
    let (y_len, lse_len) = (shape.q_len * shape.width(), shape.heads * shape.q_len);
    let groups = y.par_chunks_mut(group_len * y_len).zip(lse.par_chunks_mut(group_len * lse_len));
    groups.enumerate().for_each(|(group, (y, lse))| {
        let first = group * group_len;
        let examples = first..first + y.len() / y_len;
        fetch_all(inputs, examples.clone());
        for index in 0..shape.heads {
            let all = Head::new(level, inputs, examples.clone(), index);
            for head in all.split([&all.v]) {
                let at = head.examples.start - first;
                let (y, lse) = (&mut y[at * y_len + index * shape.head_dim..], &mut lse[at * lse_len..]);
                for (rows, keys) in head.spans() {
                    forward_rows(&head, rows, keys, y, lse);
                }
            }
        }
    });
}

/// Some query rows of one head, with its first `keys` keys.
fn forward_rows(head: &Head<'_>, rows: Range<usize>, keys: usize, y: &mut [u16], lse: &mut [f32]) {
    let (d, width) = (head.inputs.operands.shape.head_dim, head.inputs.operands.shape.width());
    let (tall, wide, deep) = (whole(rows.len().min(TILE)), whole(keys), whole(d));
    SCRATCH.with_borrow_mut(|kept| {
        let mut pieces = Pieces(lines(kept, 2 * wide * deep + 3 * tall * (wide + deep)));
        let [k, v] = [wide * deep; 2].map(|len| pieces.bits(len));
        let (q, w) = (pieces.bits(tall * deep), pieces.bits(tall * wide));
        let (scores, sums) = (pieces.sums(tall * wide), pieces.sums(tall * deep));
        head.pack(Role::Right, &head.k, (0, keys), (0, d), k);
        head.pack(Role::Right, &head.v.transposed(), (0, d), (0, keys), v);
        for first in rows.clone().step_by(TILE) {
            let m = TILE.min(rows.end - first);
            let tall = whole(m);
            let (q, w) = (&mut q[..tall * deep], &mut w[..tall * wide]);
            head.pack(Role::Left, &head.q, (first, m), (0, d), q);
            head.multiply((q, tall), (k, wide), d, scores, false);
            for (row, w) in (first..first + m).zip(scores.chunks_exact_mut(wide)) {
                lse[head.place(row)] = softmax(w, head.seen(row), head.inputs.operands.scale());
            }
            head.pack(Role::Left, &tile(scores, wide), (0, tall), (0, wide), w);
            head.multiply((w, tall), (v, deep), wide, sums, false);
            for (i, sums) in sums.chunks_exact(deep).take(m).enumerate() {
                bf16::round_all(&sums[..d], &mut y[(first + i) * width..][..d]);
            }
        }
    });
}

/// What only the backward pass reads.
pub(super) struct Upstream<'a> {
    pub(super) lse: &'a [f32],
    pub(super) dy: Elements<'a>,
}

/// Writes every element of the outputs; `dq` holds one [q_len, width] for each example.
pub(super) fn backward(
    level: Level,
    inputs: &Inputs<'_, Elements<'_>>,
    upstream: &Upstream<'_>,
    outputs: Outputs<&mut [u16]>,
) {
    let shape = inputs.operands.shape;
    let (y_len, lse_len) = (shape.q_len * shape.width(), shape.heads * shape.q_len);
    each_group(&inputs.operands, group_len(&inputs.operands), outputs, |examples, outputs| {
        fetch_all(inputs, examples.clone());
        fetch_part(upstream.dy, examples.start * y_len, examples.len() * y_len);
        for index in 0..shape.heads {
            let of = |first: usize| {
                let elements = upstream.dy.from(first * y_len + index * shape.head_dim);
                Operand { elements, stride: shape.width(), depth_stride: 1 }
            };
            let all = Head::new(level, inputs, examples.clone(), index);
            for head in all.split([&all.q, &all.k, &of(examples.start)]) {
                let (first, n) = (head.examples.start, head.examples.len());
                let mut outputs = outputs.part(&inputs.operands, first - examples.start, n);
                backward_head(&head, &upstream.lse[first * lse_len..], &of(first), &mut outputs);
            }
        }
    });
}

fn backward_head(head: &Head<'_>, lse: &[f32], dy: &Operand<'_>, outputs: &mut Outputs<&mut [u16]>) {
    let Operands { shape, q_offset, kv_stride, k_offset, v_offset, .. } = head.inputs.operands;
    let (d, rows, keys) = (shape.head_dim, head.rows(), head.keys());
    let [q_at, k_at, v_at] = [q_offset, k_offset, v_offset].map(|at| at + head.index * d);
    let (tall, wide, deep) = (whole(rows.min(TILE)), whole(keys), whole(d));
    SCRATCH.with_borrow_mut(|kept| {
        let mut pieces = Pieces(lines(kept, 7 * wide * deep + 5 * tall * wide + 3 * tall * deep));
        let [dk, dv] = [wide * deep; 2].map(|len| pieces.sums(len));
        dk.fill(0.0);
        dv.fill(0.0);
        for (rows, keys) in head.spans() {
            let dq = &mut outputs.dq()[q_at..];
            backward_rows(head, (lse, dy), (rows, keys), Pieces(&mut *pieces.0), (dq, dk, dv));
        }
        for (key, row) in outputs.dkv().chunks_exact_mut(kv_stride).enumerate() {
            for (at, sums) in [(k_at, &dk), (v_at, &dv)] {
                match key < keys {
                    true => bf16::round_all(&sums[key * deep..][..d], &mut row[at..at + d]),
                    false => row[at..at + d].fill(0),
                }
            }
        }
    });
}

/// Some query rows of one head, with its first `keys` keys: writes their dq, adds to dk and dv.
fn backward_rows(
    head: &Head<'_>,
    (lse, dy): (&[f32], &Operand<'_>),
    (rows, keys): (Range<usize>, usize),
    mut pieces: Pieces<'_>,
    (dq, dk, dv): (&mut [u16], &mut [f32], &mut [f32]),
) {
    let (operands, d) = (head.inputs.operands, head.inputs.operands.shape.head_dim);
    let (tall, wide, deep) = (whole(rows.len().min(TILE)), whole(keys), whole(d));
    let [k, v, k_t] = [wide * deep; 3].map(|len| pieces.bits(len));
    let (side, across) = (pieces.bits(tall * deep), pieces.bits(tall * wide));
    let [w, ds] = [tall * wide; 2].map(|len| pieces.sums(len));
    let sums = pieces.sums(tall * deep);
    head.pack(Role::Right, &head.k, (0, keys), (0, d), k);
    head.pack(Role::Right, &head.v, (0, keys), (0, d), v);
    head.pack(Role::Right, &head.k.transposed(), (0, d), (0, keys), k_t);
    for first in rows.clone().step_by(TILE) {
        let m = TILE.min(rows.end - first);
        let tall = whole(m);
        let (side, across) = (&mut side[..tall * deep], &mut across[..tall * wide]);
        let [w, ds] = [&mut *w, &mut *ds].map(|x| &mut x[..tall * wide]);
        for (x, right, y) in [(&head.q, &*k, &mut *w), (dy, &*v, &mut *ds)] {
            head.pack(Role::Left, x, (first, m), (0, d), side);
            head.multiply((side, tall), (right, wide), d, y, false);
            y[m * wide..].fill(0.0);
        }
        for (row, (w, ds)) in (first..first + m).zip(w.chunks_exact_mut(wide).zip(ds.chunks_exact_mut(wide))) {
            score_gradients(w, ds, head.seen(row), lse[head.place(row)], operands.scale());
        }
        head.pack(Role::Left, &tile(ds, wide), (0, tall), (0, wide), across);
        head.multiply((across, tall), (k_t, deep), wide, sums, false);
        for (i, sums) in sums.chunks_exact(deep).take(m).enumerate() {
            bf16::round_all(&sums[..d], &mut dq[(first + i) * operands.q_stride..][..d]);
        }
        // Of all the rows that are packed only those of keys that count: a NaN in dy is multiplied by no other's 0.
        for (x, right, total) in [(&*ds, &head.q, &mut *dk), (&*w, dy, &mut *dv)] {
            head.pack(Role::Left, &tile(x, wide).transposed(), (0, wide), (0, tall), across);
            head.pack(Role::Right, &right.transposed(), (0, d), (first, m), side);
            head.multiply((across, keys), (side, deep), tall, total, true);
        }
    }
}

simd_fn! {
    /// One row: `w` turns from scores into weights, `ds` from `dy · vᵀ` into the gradient of the unscaled scores; both
    /// are 0 outside `seen`.
    fn score_gradients(w: &mut [f32], ds: &mut [f32], seen: Range<usize>, lse: f32, scale: f32) {
        for w in w.iter_mut() {
            *w = exp(*w * scale - lse);
        }
        fill_outside(w, &seen, 0.0);
        fill_outside(ds, &seen, 0.0);
        let delta = sum([w, ds], |[w, ds]| w * ds);
        for (w, ds) in w.iter().zip(ds.iter_mut()) {
            *ds = scale * *w * (*ds - delta);
        }
        fill_outside(ds, &seen, 0.0);
    }
}

/// Whether the first `rows` rows of `d` elements are all finite once they are rounded.
fn is_finite(x: &Operand<'_>, rows: usize, d: usize) -> bool {
    match x.elements {
        Elements::F32(all) => finite_values(all, x.stride, rows, d),
        Elements::Bf16(all) => finite_bits(all, x.stride, rows, d),
    }
}

simd_fn! {
    fn finite_values(x: &[f32], stride: usize, rows: usize, d: usize) -> bool {
        // From here on values may be rounded to infinity.
        const LIMIT: f32 = 3.38e38;
        x.chunks(stride).take(rows).all(|row| row[..d].iter().fold(true, |all, x| all & (x.abs() < LIMIT)))
    }
}

simd_fn! {
    fn finite_bits(x: &[u16], stride: usize, rows: usize, d: usize) -> bool {
        const EXPONENT: u16 = 0x7f80;
        x.chunks(stride).take(rows).all(|row| row[..d].iter().fold(true, |all, x| all & (x & EXPONENT != EXPONENT)))
    }
}

/// Asks for all rows of some examples at once.
fn fetch_all(inputs: &Inputs<'_, Elements<'_>>, examples: Range<usize>) {
    let len = inputs.operands.kv_len();
    fetch_part(inputs.kv, examples.start * len, examples.len() * len);
}

fn fetch_part(elements: Elements<'_>, first: usize, len: usize) {
    match elements {
        Elements::F32(all) => fetch(&all[first..first + len]),
        Elements::Bf16(all) => fetch(&all[first..first + len]),
    }
}

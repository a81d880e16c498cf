//! Matrix products on the CPU: a SIMD GEMM called on one thread for each block of rows.

use rayon::prelude::*;

use super::kernels::Store;
use super::{Form, Sizes, packed};
use crate::bf16::{self, Elements, Level, Operand};
use crate::ops::add::cpu::add_into;
use crate::ops::gelu;
use crate::simd::simd_fn;

/// What is multiplied.
#[derive(Clone, Copy)]
pub(super) struct Operands<'a> {
    pub(super) form: Form,
    pub(super) sizes: Sizes,
    pub(super) a: &'a [f32],
    pub(super) b: &'a [f32],
    pub(super) ends: Ends<'a>,
}

/// What is added to the sums; each is empty where there is none.
#[derive(Clone, Copy)]
pub(super) struct Ends<'a> {
    pub(super) bias: &'a [f32],
    /// Rows as those of the output.
    pub(super) residual: &'a [f32],
}

impl Ends<'_> {
    /// Adds them to the block of elements of the output that begins at `first`.
    pub(super) fn add(self, first: usize, y: &mut [f32]) {
        add_bias(y, self.bias);
        if !self.residual.is_empty() {
            add_into(&self.residual[first..first + y.len()], y);
        }
    }

    /// What follows the sums of whole rows without slopes.
    pub(super) fn finish(self, store: Store, first: usize, y: &mut [f32]) {
        match store {
            Store::Write | Store::Add => {}
            Store::Bias => self.add(first, y),
            Store::BiasGelu(kind) => {
                self.add(first, y);
                gelu::cpu::forward_in_place(kind, y);
            }
        }
    }
}

/// Rows per block: by shape alone, so that results do not depend on the thread count.
fn rows_per_block(m: usize) -> usize {
    (m / 8).next_multiple_of(16).clamp(16, 256)
}

/// Rows of a part of a product whose depth is split.
const PART_ROWS: usize = 512;
/// Elements that one task adds up over all parts.
const PART_SUM: usize = 16_384;

/// Parts that the depth of a product is split into, by shape alone: the gradient of a weight is short and wide and
/// very deep, and would be multiplied in slivers if its rows were split alone.
pub(super) fn depth_parts(form: Form, sizes: Sizes) -> usize {
    const MOST_WORDS: usize = 1 << 24;
    let Sizes { z, m, n, k } = sizes;
    let parts = (k / 1024).clamp(1, 8);
    if form == Form::AtB && z == 1 && parts * m * n <= MOST_WORDS { parts } else { 1 }
}

/// As [`product`] of one matrix to be written or added, through one partial product for each part of the depth.
pub(super) fn product_by_parts(operands: &Operands<'_>, add: bool, y: &mut [f32], partial: &mut [f32]) {
    let Sizes { m, n, k, .. } = operands.sizes;
    let part = k.div_ceil(partial.len() / (m * n));
    partial.par_chunks_mut(m * n).enumerate().for_each(|(index, partial)| {
        let depths = index * part..((index + 1) * part).min(k);
        partial.par_chunks_mut(PART_ROWS * n).enumerate().for_each(|(block, partial)| {
            let (a, b) = (&operands.a[depths.start * m + block * PART_ROWS..], &operands.b[depths.start * n..]);
            gemm(partial.len() / n, n, depths.len(), (a, 1, m), (b, n, 1), (partial, n), false);
        });
    });
    add_parts(partial, add, y);
}

/// Writes to y, or adds to it, the sum of all parts in order.
pub(super) fn add_parts(partial: &[f32], add: bool, y: &mut [f32]) {
    let len = y.len();
    y.par_chunks_mut(PART_SUM).enumerate().for_each(|(index, y)| {
        for (number, partial) in partial.chunks_exact(len).enumerate() {
            let partial = &partial[index * PART_SUM..][..y.len()];
            if number == 0 && !add {
                y.copy_from_slice(partial);
            } else {
                add_into(partial, y);
            }
        }
    });
}

pub(super) fn product(operands: &Operands<'_>, store: Store, y: &mut [f32], slope: Option<&mut [f32]>) {
    let Sizes { m, n, .. } = operands.sizes;
    let block = rows_per_block(m);
    match (store, slope) {
        (Store::BiasGelu(kind), Some(slope)) => {
            let blocks = y.par_chunks_mut(block * n).zip(slope.par_chunks_mut(block * n));
            blocks.enumerate().for_each(|(index, (y, sums))| {
                multiply(operands, 0, index * block, sums, false);
                operands.ends.add(0, sums);
                gelu::cpu::forward_with_slope_block(kind, sums, y);
            });
        }
        _ => y.par_chunks_mut(m * n).enumerate().for_each(|(z, y)| {
            y.par_chunks_mut(block * n).enumerate().for_each(|(index, y)| {
                multiply(operands, z, index * block, y, store == Store::Add);
                operands.ends.finish(store, index * block * n, y);
            });
        }),
    }
}

/// Rows from which on the right side of `a · bᵀ` is turned over once rather than by every block that packs it.
const TURNED: usize = 1024;

/// Whether the right side of a product is to be turned over first.
pub(super) fn turns(form: Form, sizes: Sizes) -> bool {
    form == Form::ABt && sizes.z == 1 && sizes.m >= TURNED
}

/// The transpose of b [n, k], and the product that reads it as it lies.
pub(super) fn turned<'a>(operands: &Operands<'a>, transpose: &'a mut [f32]) -> Operands<'a> {
    const LINES: usize = 32;
    let Sizes { n, k, .. } = operands.sizes;
    transpose.par_chunks_mut(LINES * n).enumerate().for_each(|(block, out)| {
        for (j, row) in operands.b.chunks_exact(k).enumerate() {
            for (line, x) in out.chunks_exact_mut(n).zip(&row[block * LINES..]) {
                line[j] = *x;
            }
        }
    });
    Operands { form: Form::AB, b: transpose, ..*operands }
}

/// Rows `first..` of one product into `y`.
fn multiply(operands: &Operands<'_>, z: usize, first: usize, y: &mut [f32], add: bool) {
    let Sizes { m, n, k, .. } = operands.sizes;
    // Strides of (row, depth) in a and of (depth, col) in b.
    let (a_row, a_depth) = if operands.form == Form::AtB { (1, m) } else { (k, 1) };
    let (b_depth, b_col) = if operands.form == Form::ABt { (1, k) } else { (n, 1) };
    let a = &operands.a[z * m * k + first * a_row..];
    let b = &operands.b[z * k * n..];
    gemm(y.len() / n, n, k, (a, a_row, a_depth), (b, b_depth, b_col), (y, n), add);
}

/// Least rows, columns and depths of a product of f32 whose elements are split.
const SPLIT: usize = 32;

/// How a product of f32 with no side shorter than this is computed on packed operands; none where they are multiplied as
/// they lie.
pub(super) fn split(shortest: usize) -> Option<Level> {
    bf16::split().filter(|_| shortest >= SPLIT)
}

/// `y [m, n] (+)= a · b` on this thread; operands are (elements, row stride, column stride), y is (elements, row stride).
pub(crate) fn gemm(
    m: usize,
    n: usize,
    k: usize,
    (a, a_row, a_col): (&[f32], usize, usize),
    (b, b_row, b_col): (&[f32], usize, usize),
    (y, y_row): (&mut [f32], usize),
    add: bool,
) {
    if m == 0 || n == 0 || k == 0 {
        return;
    }
    assert!((m - 1) * a_row + (k - 1) * a_col < a.len(), "a holds every element that is read");
    assert!((k - 1) * b_row + (n - 1) * b_col < b.len(), "b holds every element that is read");
    assert!((m - 1) * y_row + n <= y.len(), "y holds every element that is written");
    if let Some(level) = split(m.min(n).min(k))
        && (a_row == 1 || a_col == 1)
        && (b_row == 1 || b_col == 1)
    {
        let a = Operand { elements: Elements::F32(a), stride: a_row, depth_stride: a_col };
        let b = Operand { elements: Elements::F32(b), stride: b_col, depth_stride: b_row };
        return packed::gemm(level, (m, n, k), [a, b], (y, y_row), add);
    }
    // SAFETY: the assertions above bound every access; y is borrowed mutably, so it overlaps neither a nor b.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            y.as_mut_ptr(),
            1,
            y_row as isize,
            add,
            a.as_ptr(),
            a_col as isize,
            a_row as isize,
            b.as_ptr(),
            b_col as isize,
            b_row as isize,
            if add { 1.0f32 } else { 0.0 },
            1.0f32,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

simd_fn! {
    fn add_bias(y: &mut [f32], bias: &[f32]) {
        for row in y.chunks_exact_mut(bias.len()) {
            for (y, bias) in row.iter_mut().zip(bias) {
                *y += bias;
            }
        }
    }
}

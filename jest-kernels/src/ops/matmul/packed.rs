//! The CPU form with packed operands, of bf16 or f32 in parts: b is packed once, a by each block of rows.

use std::cell::RefCell;
use std::ops::Range;

use rayon::prelude::*;

use super::cpu;
use super::kernels::Store;
use super::{Form, Sizes};
use crate::bf16::{self, DEPTH, Elements, Level, Line, Operand, Pieces, Role, SIDE, lines};
use crate::ops::gelu::{self, Gelu};

/// Columns that are packed as one piece.
const COLS: usize = 2 * SIDE;
/// Pieces that one task packs.
const PIECES: usize = 4;

/// What is multiplied, and how.
pub(super) struct Operands<'a> {
    pub(super) level: Level,
    pub(super) form: Form,
    pub(super) sizes: Sizes,
    pub(super) a: Elements<'a>,
    pub(super) b: Elements<'a>,
    pub(super) ends: cpu::Ends<'a>,
}

impl Operands<'_> {
    /// The left side of one of the products.
    fn left(&self, z: usize) -> Operand<'_> {
        let Sizes { m, k, .. } = self.sizes;
        let (stride, depth_stride) = if self.form == Form::AtB { (1, m) } else { (k, 1) };
        Operand { elements: self.a.from(z * m * k), stride, depth_stride }
    }

    /// The right side of one of the products.
    fn right(&self, z: usize) -> Operand<'_> {
        let Sizes { n, k, .. } = self.sizes;
        let (stride, depth_stride) = if self.form == Form::ABt { (k, 1) } else { (1, n) };
        Operand { elements: self.b.from(z * k * n), stride, depth_stride }
    }
}

thread_local! {
    /// Packed rows of a; kept from call to call.
    static ROWS: RefCell<Vec<Line>> = const { RefCell::new(Vec::new()) };
    /// Both sides of a tile.
    static TILES: RefCell<Vec<Line>> = const { RefCell::new(Vec::new()) };
    /// Sums of a block of rows whose end is stored in another form.
    static SUMS: RefCell<Vec<Line>> = const { RefCell::new(Vec::new()) };
}

/// Words of scratch that n columns of so many depths take.
pub(super) fn scratch_words(level: Level, n: usize, depths: usize) -> usize {
    n.div_ceil(COLS) * pair_len(level, depths) / 2
}

/// Rows of a part that one task computes.
const PART_ROWS: usize = 512;
/// Rows, columns and depths that a thread packs for itself at once: they stay in the second cache.
const TILE: (usize, usize, usize) = (256, 768, 256);
/// Elements whose activation is computed at once: they stay in the first cache.
const ACTIVE: usize = 1024;

/// As [`product`] of one matrix to be written or added, through one partial product for each part of the depth.
pub(super) fn product_by_parts(operands: &Operands<'_>, add: bool, y: &mut [f32], partial: &mut [f32]) {
    let Sizes { n, k, .. } = operands.sizes;
    let part = k.div_ceil(partial.len() / y.len());
    partial.par_chunks_mut(y.len()).enumerate().for_each(|(index, partial)| {
        let depths = Depths { all: index * part..((index + 1) * part).min(k), run: TILE.2 };
        partial.par_chunks_mut(PART_ROWS * n).enumerate().for_each(|(index, partial)| {
            let (a, b) = (operands.left(0), operands.right(0));
            let a = Operand { elements: a.elements.from(index * PART_ROWS * a.stride), ..a };
            multiply_here(operands.level, (a, partial.len() / n), (b, n), &depths, (partial, n), false);
        });
    });
    cpu::add_parts(partial, add, y);
}

/// `y [m, n] (+)= a · b` on this thread, rows of y `y_row` apart.
pub(super) fn gemm(
    level: Level,
    (m, n, k): (usize, usize, usize),
    [a, b]: [Operand<'_>; 2],
    y: (&mut [f32], usize),
    add: bool,
) {
    multiply_here(level, (a, m), (b, n), &Depths { all: 0..k, run: TILE.2 }, y, add);
}

/// The same over some depths; packs both sides tile by tile.
fn multiply_here(
    level: Level,
    (a, m): (Operand<'_>, usize),
    (b, n): (Operand<'_>, usize),
    depths: &Depths,
    (y, y_row): (&mut [f32], usize),
    add: bool,
) {
    let (rows, cols) = (TILE.0.min(m.next_multiple_of(COLS)), TILE.1.min(n.next_multiple_of(COLS)));
    TILES.with_borrow_mut(|kept| {
        for (depth, count) in depths.runs() {
            let pair = pair_len(level, count);
            let mut pieces = Pieces(lines(kept, (rows + cols) / COLS * pair));
            let [left, right] = [rows, cols].map(|len| pieces.bits(len / COLS * pair));
            for col in (0..n).step_by(cols) {
                let cols = cols.min(n - col);
                let right = &mut right[..cols.div_ceil(COLS) * pair];
                bf16::pack(level, Role::Right, &b, (col, cols), (depth, count), right);
                for row in (0..m).step_by(rows) {
                    let rows = rows.min(m - row);
                    let left = &mut left[..rows.div_ceil(COLS) * pair];
                    bf16::pack(level, Role::Left, &a, (row, rows), (depth, count), left);
                    let y = &mut y[row * y_row + col..];
                    bf16::multiply(
                        level,
                        (left, rows),
                        (right, cols),
                        count,
                        (y, y_row),
                        add || depth > depths.all.start,
                    );
                }
            }
        }
    });
}

/// Packed elements of 32 rows or columns.
fn pair_len(level: Level, depths: usize) -> usize {
    2 * depths.div_ceil(DEPTH) * level.block()
}

/// Rows per block: by shape alone, so that results do not depend on the thread count.
fn rows_per_block(m: usize) -> usize {
    (m / 8).next_multiple_of(COLS).clamp(COLS, 256)
}

/// As the form on plain operands, with an end of f32, without slopes; sums are f32, in the order of depths.
pub(super) fn product(operands: &Operands<'_>, store: Store, y: &mut [f32], scratch: &mut [u16]) {
    let Sizes { m, n, k, .. } = operands.sizes;
    let (rows, depths) = (rows_per_block(m), Depths::of(k));
    for (z, y) in y.chunks_exact_mut(m * n).enumerate() {
        pack_columns(operands, z, &depths, scratch);
        y.par_chunks_mut(rows * n).enumerate().for_each(|(index, y)| {
            multiply(operands, (z, index * rows), &depths, scratch, y, store == Store::Add);
            operands.ends.finish(store, index * rows * n, y);
        });
    }
}

/// As [`product`] of one matrix to be written, with or without the ends, rounded when it is written.
pub(super) fn product_rounded(operands: &Operands<'_>, store: Store, y: &mut [u16], scratch: &mut [u16]) {
    let Sizes { m, n, k, .. } = operands.sizes;
    let (rows, depths) = (rows_per_block(m), Depths::of(k));
    pack_columns(operands, 0, &depths, scratch);
    y.par_chunks_mut(rows * n).enumerate().for_each(|(index, y)| {
        with_sums(operands, (index * rows, y.len()), &depths, scratch, |sums| {
            operands.ends.finish(store, index * rows * n, sums);
            bf16::round_all(sums, y);
        });
    });
}

/// `pre = a · b + bias`, `y = gelu(pre)` and `slope = gelu'(pre)`.
pub(super) fn product_gelu(operands: &Operands<'_>, kind: Gelu, y: &mut [f32], slope: &mut [f32], scratch: &mut [u16]) {
    let Sizes { m, n, k, .. } = operands.sizes;
    let (rows, depths) = (rows_per_block(m), Depths::of(k));
    pack_columns(operands, 0, &depths, scratch);
    y.par_chunks_mut(rows * n).zip(slope.par_chunks_mut(rows * n)).enumerate().for_each(|(index, (y, sums))| {
        multiply(operands, (0, index * rows), &depths, scratch, sums, false);
        operands.ends.add(0, sums);
        gelu::cpu::forward_with_slope_block(kind, sums, y);
    });
}

/// As [`product_gelu`], both rounded when they are written.
pub(super) fn product_gelu_rounded(
    operands: &Operands<'_>,
    kind: Gelu,
    y: &mut [u16],
    slope: &mut [u16],
    scratch: &mut [u16],
) {
    let Sizes { m, n, k, .. } = operands.sizes;
    let (rows, depths) = (rows_per_block(m), Depths::of(k));
    pack_columns(operands, 0, &depths, scratch);
    y.par_chunks_mut(rows * n).zip(slope.par_chunks_mut(rows * n)).enumerate().for_each(|(index, (y, slope))| {
        with_sums(operands, (index * rows, y.len()), &depths, scratch, |sums| {
            operands.ends.add(0, sums);
            let mut active = [0.0; ACTIVE];
            for ((y, slope), sums) in y.chunks_mut(ACTIVE).zip(slope.chunks_mut(ACTIVE)).zip(sums.chunks_mut(ACTIVE)) {
                let active = &mut active[..y.len()];
                gelu::cpu::forward_with_slope_block(kind, sums, active);
                bf16::round_all(active, y);
                bf16::round_all(sums, slope);
            }
        });
    });
}

/// `dpre = (a · b) * slope`, rounded when it is written.
pub(super) fn product_through_gelu(operands: &Operands<'_>, slope: &[u16], dpre: &mut [u16], scratch: &mut [u16]) {
    let Sizes { m, n, k, .. } = operands.sizes;
    let (rows, depths) = (rows_per_block(m), Depths::of(k));
    pack_columns(operands, 0, &depths, scratch);
    dpre.par_chunks_mut(rows * n).zip(slope.par_chunks(rows * n)).enumerate().for_each(|(index, (dpre, slope))| {
        with_sums(operands, (index * rows, dpre.len()), &depths, scratch, |sums| {
            gelu::cpu::backward_block_rounded(slope, sums, dpre);
        });
    });
}

/// Computes `len` elements of whole rows from a first row on, in memory of this thread, and ends with them.
fn with_sums(
    operands: &Operands<'_>,
    (first, len): (usize, usize),
    depths: &Depths,
    packed: &[u16],
    end: impl FnOnce(&mut [f32]),
) {
    SUMS.with_borrow_mut(|sums| {
        let sums = Pieces(lines(sums, 2 * len)).sums(len.next_multiple_of(SIDE));
        let sums = &mut sums[..len];
        multiply(operands, (0, first), depths, packed, sums, false);
        end(sums);
    });
}

/// Depths that are summed, so many packed as one run.
struct Depths {
    all: Range<usize>,
    run: usize,
}

impl Depths {
    fn of(k: usize) -> Self {
        Self { all: 0..k, run: bf16::run(k) }
    }

    /// The first depth and the number of each run.
    fn runs(&self) -> impl Iterator<Item = (usize, usize)> {
        let (run, end) = (self.run, self.all.end);
        self.all.clone().step_by(run).map(move |depth| (depth, run.min(end - depth)))
    }
}

/// Packs the columns of one product, run after run.
fn pack_columns(operands: &Operands<'_>, z: usize, depths: &Depths, mut packed: &mut [u16]) {
    let (level, n, b) = (operands.level, operands.sizes.n, operands.right(z));
    for (depth, count) in depths.runs() {
        let pair = pair_len(level, count);
        let (run, rest) = packed.split_at_mut(n.div_ceil(COLS) * pair);
        run.par_chunks_mut(PIECES * pair).enumerate().for_each(|(index, run)| {
            let (first, cols) = (index * PIECES * COLS, run.len() / pair * COLS);
            bf16::pack(level, Role::Right, &b, (first, cols.min(n - first)), (depth, count), run);
        });
        packed = rest;
    }
}

/// Writes, or adds to y, a block of rows of one product, given as (product, first row); on this thread.
fn multiply(
    operands: &Operands<'_>,
    (z, first): (usize, usize),
    depths: &Depths,
    mut packed: &[u16],
    y: &mut [f32],
    add: bool,
) {
    let (level, n, a) = (operands.level, operands.sizes.n, operands.left(z));
    let rows = y.len() / n;
    ROWS.with_borrow_mut(|own| {
        for (depth, count) in depths.runs() {
            let pair = pair_len(level, count);
            let (cols, rest) = packed.split_at(n.div_ceil(COLS) * pair);
            let own: &mut [u16] = bytemuck::cast_slice_mut(lines(own, rows.div_ceil(COLS) * pair));
            bf16::pack(level, Role::Left, &a, (first, rows), (depth, count), own);
            bf16::multiply(level, (own, rows), (cols, n), count, (y, n), add || depth > depths.all.start);
            packed = rest;
        }
    });
}

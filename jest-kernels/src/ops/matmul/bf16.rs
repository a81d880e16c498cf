//! The CPU form with operands rounded to bf16: b is packed once a run of depths, a by each block of rows.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard};

use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;

use super::cpu::{self, Operands, add_bias};
use super::kernels::Store;
use super::{Form, Sizes};
use crate::bf16::{self, BLOCK, DEPTH, Operand, Role, SIDE};
use crate::ops::gelu;

/// Columns that are packed as one piece.
const COLS: usize = 2 * SIDE;
/// Pieces that one task packs.
const PIECES: usize = 4;

/// A cache line of packed elements: a row of a tile that lay across two lines would take twice as long to load.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
struct Line([u16; DEPTH]);

thread_local! {
    /// Packed rows of a; kept from call to call.
    static ROWS: RefCell<Vec<Line>> = const { RefCell::new(Vec::new()) };
}

/// Words of scratch that n columns of so many depths take.
pub(super) fn scratch_words(n: usize, depths: usize) -> usize {
    n.div_ceil(COLS) * pair_len(bf16::run(depths)) / 2
}

/// Rows per block of a product in parts: parts alone keep the threads busy.
const PART_ROWS: usize = 256;

/// As [`product`] of one matrix to be written or added, through one partial product for each part of the depth; so the
/// thread that packs the columns of a part multiplies them.
pub(super) fn product_by_parts(
    operands: &Operands<'_>,
    add: bool,
    y: &mut [f32],
    partial: &mut [f32],
    scratch: &mut [u16],
) {
    let k = operands.sizes.k;
    let parts = partial.len() / y.len();
    let part = k.div_ceil(parts);
    // That of a whole part, which scratch was measured by: fewer depths may make a longer run.
    let run = bf16::run(part);
    let packed = scratch.par_chunks_mut(scratch.len() / parts);
    partial.par_chunks_mut(y.len()).zip(packed).enumerate().for_each(|(index, (partial, packed))| {
        let depths = index * part..((index + 1) * part).min(k);
        sums(operands, 0, (depths, run), PART_ROWS, false, partial, packed, |_, _| {});
    });
    cpu::add_parts(partial, add, y);
}

/// Packed elements of 32 rows or columns.
fn pair_len(depths: usize) -> usize {
    2 * depths.div_ceil(DEPTH) * BLOCK
}

/// Rows per block: by shape alone, so that results do not depend on the thread count.
fn rows_per_block(m: usize) -> usize {
    (m / 8).next_multiple_of(COLS).clamp(COLS, 256)
}

/// As the f32 form; sums are f32, in the order of depths.
pub(super) fn product(
    operands: &Operands<'_>,
    store: Store,
    y: &mut [f32],
    pre: Option<&mut [f32]>,
    scratch: &mut [u16],
) {
    let Sizes { m, n, k, .. } = operands.sizes;
    let rows = rows_per_block(m);
    match (store, pre) {
        (Store::BiasGelu(kind), Some(pre)) => {
            let y = RowBlocks::new(y, rows * n);
            sums(operands, 0, (0..k, bf16::run(k)), rows, false, pre, scratch, |index, pre| {
                add_bias(pre, operands.bias);
                gelu::cpu::forward_block(kind, pre, &mut y.of(index));
            });
        }
        _ => {
            for (z, y) in y.chunks_exact_mut(m * n).enumerate() {
                sums(operands, z, (0..k, bf16::run(k)), rows, store == Store::Add, y, scratch, |_, y| {
                    if store == Store::Bias {
                        add_bias(y, operands.bias);
                    }
                });
            }
        }
    }
}

/// Blocks of rows that different threads write, each locked by the one that writes it.
struct RowBlocks<'a>(Vec<Mutex<&'a mut [f32]>>);

impl<'a> RowBlocks<'a> {
    fn new(y: &'a mut [f32], block: usize) -> Self {
        Self(y.chunks_mut(block).map(Mutex::new).collect())
    }

    fn of(&self, index: usize) -> MutexGuard<'_, &'a mut [f32]> {
        self.0[index].lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// One product over some depths, so many of them packed at once, written or added to y in blocks of rows; `finish` is given each block, by its number, while it
/// is in the cache.
#[expect(clippy::too_many_arguments, reason = "the one place where all forms of the product meet")]
fn sums(
    operands: &Operands<'_>,
    z: usize,
    (all, run): (Range<usize>, usize),
    block: usize,
    add: bool,
    y: &mut [f32],
    scratch: &mut [u16],
    finish: impl Fn(usize, &mut [f32]) + Sync,
) {
    let level = bf16::level();
    let Sizes { m, n, k, .. } = operands.sizes;
    let (a_stride, a_depth) = if operands.form == Form::AtB { (1, m) } else { (k, 1) };
    let (b_stride, b_depth) = if operands.form == Form::ABt { (k, 1) } else { (1, n) };
    let a = Operand { elements: &operands.a[z * m * k..], stride: a_stride, depth_stride: a_depth };
    let b = Operand { elements: &operands.b[z * k * n..], stride: b_stride, depth_stride: b_depth };
    for depth in all.clone().step_by(run) {
        let depths = run.min(all.end - depth);
        let pair = pair_len(depths);
        let packed = &mut scratch[..n.div_ceil(COLS) * pair];
        packed.par_chunks_mut(PIECES * pair).enumerate().for_each(|(index, packed)| {
            let (first, cols) = (index * PIECES * COLS, packed.len() / pair * COLS);
            bf16::pack(level, Role::Right, &b, (first, cols.min(n - first)), (depth, depths), packed);
        });
        y.par_chunks_mut(block * n).enumerate().for_each(|(index, y)| {
            let rows = y.len() / n;
            ROWS.with_borrow_mut(|own| {
                let len = rows.div_ceil(COLS) * pair;
                own.resize(own.len().max(len / DEPTH), Line::zeroed());
                let own = &mut bytemuck::cast_slice_mut(own)[..len];
                bf16::pack(level, Role::Left, &a, (index * block, rows), (depth, depths), own);
                bf16::multiply(level, (own, rows), (packed, n), depths, (y, n), add || depth > all.start);
            });
            if depth + depths == all.end {
                finish(index, y);
            }
        });
    }
}

//! The CPU form with operands rounded to bf16: b is packed once a run of depths, a by each block of rows.

use std::cell::RefCell;

use rayon::prelude::*;

use super::cpu::{Operands, add_bias};
use super::kernels::Store;
use super::{Form, Sizes};
use crate::bf16::{self, BLOCK, DEPTH, Operand, RUN, Role, SIDE};
use crate::ops::gelu;

/// Columns that one task packs.
const COLS: usize = 2 * SIDE;

thread_local! {
    /// Packed rows of a; kept from call to call.
    static ROWS: RefCell<Vec<u16>> = const { RefCell::new(Vec::new()) };
}

/// Words of scratch that [`product`] takes.
pub(super) fn scratch_words(sizes: Sizes) -> usize {
    sizes.n.div_ceil(COLS) * pair_len(sizes.k.min(RUN)) / 2
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
    let Sizes { m, n, .. } = operands.sizes;
    let block = rows_per_block(m) * n;
    match (store, pre) {
        (Store::BiasGelu(kind), Some(pre)) => {
            sums(operands, 0, false, pre, scratch);
            y.par_chunks_mut(block).zip(pre.par_chunks_mut(block)).for_each(|(y, pre)| {
                add_bias(pre, operands.bias);
                gelu::cpu::forward_block(kind, pre, y);
            });
        }
        _ => {
            for (z, y) in y.chunks_exact_mut(m * n).enumerate() {
                sums(operands, z, store == Store::Add, y, scratch);
            }
            if store == Store::Bias {
                y.par_chunks_mut(block).for_each(|y| add_bias(y, operands.bias));
            }
        }
    }
}

/// One product, written or added to y.
fn sums(operands: &Operands<'_>, z: usize, add: bool, y: &mut [f32], scratch: &mut [u16]) {
    let level = bf16::level();
    let Sizes { m, n, k, .. } = operands.sizes;
    let (a_stride, a_depth) = if operands.form == Form::AtB { (1, m) } else { (k, 1) };
    let (b_stride, b_depth) = if operands.form == Form::ABt { (k, 1) } else { (1, n) };
    let a = Operand { elements: &operands.a[z * m * k..], stride: a_stride, depth_stride: a_depth };
    let b = Operand { elements: &operands.b[z * k * n..], stride: b_stride, depth_stride: b_depth };
    let block = rows_per_block(m);
    for depth in (0..k).step_by(RUN) {
        let depths = RUN.min(k - depth);
        let pair = pair_len(depths);
        let packed = &mut scratch[..n.div_ceil(COLS) * pair];
        packed.par_chunks_mut(pair).enumerate().for_each(|(index, packed)| {
            let first = index * COLS;
            bf16::pack(level, Role::Right, &b, (first, COLS.min(n - first)), (depth, depths), packed);
        });
        y.par_chunks_mut(block * n).enumerate().for_each(|(index, y)| {
            let rows = y.len() / n;
            ROWS.with_borrow_mut(|own| {
                let len = rows.div_ceil(COLS) * pair;
                own.resize(own.len().max(len), 0);
                let own = &mut own[..len];
                bf16::pack(level, Role::Left, &a, (index * block, rows), (depth, depths), own);
                bf16::multiply(level, (own, rows), (packed, n), depths, (y, n), add || depth > 0);
            });
        });
    }
}

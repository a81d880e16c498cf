//! Every open candidate against every row of a chunk, a tile of products at a time: no `[B, c]` block is stored.

use std::{num::NonZeroUsize, thread};

use crate::Candidate;

/// Candidates in a tile. Fixed, as are the places where tiles begin: products do not depend on the number of threads.
const ROWS: usize = 128;
/// Rows of the chunk in a tile; the products of a tile take 128 KiB.
const COLS: usize = 256;

/// Products that a thread must have to be worth its start: about a tenth of a millisecond.
const WORK: usize = 1 << 24;

/// Rows of some candidates, side by side. `[n, d]`
pub(super) struct PackedRows {
    data: Vec<f32>,
    width: usize,
}

impl PackedRows {
    /// Gathers the rows of `chunk` from `matrix`, `[B, d]`.
    pub(super) fn gather(matrix: &[f32], width: usize, chunk: &[Candidate]) -> Self {
        let mut data = Vec::with_capacity(chunk.len() * width);
        chunk.iter().for_each(|&candidate| data.extend_from_slice(row(matrix, width, candidate)));
        Self { data, width }
    }

    fn rows(&self) -> usize {
        self.data.len() / self.width
    }
}

/// Calls `fold(state, dots)` for each open candidate x with `row_x . row_k` of all packed rows k, some at a time and in
/// the order of the chunk.
///
/// At most `threads` work on it, fewer where it is little. What a state sees, and in which order, is the same for any
/// number of them.
pub(super) fn cross<A: Send>(
    matrix: &[f32],
    open: &mut [(Candidate, A)],
    packed: &PackedRows,
    threads: NonZeroUsize,
    fold: impl Fn(&mut A, &[f32]) + Sync,
) {
    let useful = (open.len() * packed.data.len()).div_ceil(WORK).max(1);
    let tiles = open.len().div_ceil(ROWS).div_ceil(threads.get().min(useful));
    cross_in_shares(matrix, open, packed, tiles * ROWS, &fold);
}

/// A thread for each `share` open candidates, a multiple of `ROWS`.
fn cross_in_shares<A: Send>(
    matrix: &[f32],
    open: &mut [(Candidate, A)],
    packed: &PackedRows,
    share: usize,
    fold: &(impl Fn(&mut A, &[f32]) + Sync),
) {
    thread::scope(|scope| {
        let mut shares = open.chunks_mut(share.max(ROWS));
        let own = shares.next();
        for share in shares {
            scope.spawn(|| cross_share(matrix, share, packed, fold));
        }
        if let Some(own) = own {
            cross_share(matrix, own, packed, fold);
        }
    });
}

fn cross_share<A>(matrix: &[f32], share: &mut [(Candidate, A)], packed: &PackedRows, fold: &impl Fn(&mut A, &[f32])) {
    let width = packed.width;
    let mut products = vec![0.0; ROWS * COLS.min(packed.rows())];
    for tile in share.chunks_mut(ROWS) {
        let members: Vec<Candidate> = tile.iter().map(|(candidate, _)| *candidate).collect();
        let rows = PackedRows::gather(matrix, width, &members);
        for others in packed.data.chunks(COLS * width) {
            let cols = others.len() / width;
            let products = &mut products[..tile.len() * cols];
            multiply(&rows.data, others, width, products);
            for ((_, state), dots) in tile.iter_mut().zip(products.chunks_exact(cols)) {
                fold(state, dots);
            }
        }
    }
}

/// `products_ik = a_i . b_k`, of rows of `width`. `[n, width]`, `[m, width]` -> `[n, m]`
fn multiply(a: &[f32], b: &[f32], width: usize, products: &mut [f32]) {
    let (n, m) = (a.len() / width, b.len() / width);
    assert_eq!(products.len(), n * m, "a product for each pair of rows");
    let stride = width as isize;
    // SAFETY: by the assertion and the lengths that n and m are made of, every access is inside of its slice; products
    // is borrowed mutably and overlaps neither a nor b.
    unsafe {
        gemm::gemm(
            n,
            m,
            width,
            products.as_mut_ptr(),
            1,
            m as isize,
            false,
            a.as_ptr(),
            1,
            stride,
            b.as_ptr(),
            stride,
            1,
            0.0f32,
            1.0f32,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

/// The embedding of a candidate. `[d]`
fn row(matrix: &[f32], width: usize, candidate: Candidate) -> &[f32] {
    &matrix[candidate.index() * width..][..width]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embeddings::dot;

    /// Every ragged edge: candidates against ROWS, chunk against COLS, any width.
    #[test]
    fn each_pair_is_seen_once_and_in_order() {
        for (rows, chunk, width, shares) in
            [(1, 1, 1, 1), (3, 7, 5, 2), (127, 8, 3, 1), (129, 257, 2, 3), (300, 33, 7, 4), (2, 513, 3, 8)]
        {
            let total = rows + chunk;
            let matrix: Vec<f32> = (0..total * width).map(|i| ((i * 37 % 101) as f32 - 50.0) / 64.0).collect();
            let picked: Vec<_> = (0..chunk as u32).map(|k| Candidate::new(total as u32 - 1 - k)).collect();
            let mut open: Vec<_> = (0..rows as u32).map(|x| (Candidate::new(x), Vec::new())).collect();
            let packed = PackedRows::gather(&matrix, width, &picked);
            let fold = |seen: &mut Vec<f32>, dots: &[f32]| seen.extend_from_slice(dots);
            cross_in_shares(&matrix, &mut open, &packed, rows.div_ceil(ROWS).div_ceil(shares) * ROWS, &fold);
            for (x, seen) in open {
                // The values are multiples of 1/64 and small, so that any order of summation is exact.
                let expected = picked.iter().map(|&k| dot(row(&matrix, width, x), row(&matrix, width, k)) as f32);
                assert_eq!(seen, expected.collect::<Vec<_>>(), "{x} of {rows}, chunk {chunk}, width {width}");
            }
        }
    }
}

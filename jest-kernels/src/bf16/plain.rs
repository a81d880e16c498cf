//! Products of packed blocks in f32 arithmetic, on any processor.

use super::{BLOCK, DEPTH, SIDE, wide};
use crate::simd::simd_fn;

/// Rows whose sums are in registers at once.
const ROWS: usize = 4;

simd_fn! {
    /// 32 x 32 elements of a product of two packed pairs of block rows: block by block, made f32 first.
    pub(super) fn square(a: &[u16], b: &[u16], y: &mut [f32], y_row: usize, add: bool) {
        let half = a.len() / 2;
        let mut sums = [[[0.0f32; SIDE]; 2 * SIDE]; 2];
        let (mut rows, mut cols) = ([[0.0f32; DEPTH]; 2 * SIDE], [[0.0f32; SIDE]; DEPTH]);
        for first in (0..half).step_by(BLOCK) {
            for (index, row) in rows.iter_mut().enumerate() {
                let a = &a[index / SIDE * half + first + index % SIDE * DEPTH..][..DEPTH];
                row.iter_mut().zip(a).for_each(|(row, a)| *row = wide(*a));
            }
            for (side, sums) in sums.iter_mut().enumerate() {
                let b = &b[side * half + first..][..BLOCK];
                for (cols, b) in cols.chunks_exact_mut(2).zip(b.chunks_exact(2 * SIDE)) {
                    for (col, b) in b.chunks_exact(2).enumerate() {
                        (cols[0][col], cols[1][col]) = (wide(b[0]), wide(b[1]));
                    }
                }
                let (rows, sums) = (rows.as_chunks::<ROWS>().0, sums.as_chunks_mut::<ROWS>().0);
                rows.iter().zip(sums).for_each(|(rows, sums)| add_block(rows, &cols, sums));
            }
        }
        for row in 0..2 * SIDE {
            for (side, sums) in sums.iter().enumerate() {
                let out = &mut y[row * y_row + side * SIDE..][..SIDE];
                out.iter_mut().zip(&sums[row]).for_each(|(y, sum)| *y = if add { *y + sum } else { *sum });
            }
        }
    }
}

/// Adds the product of a few rows and a block of columns, in the order of depths; by index, for through iterators the
/// compiler does not keep the sums in registers.
#[inline(always)]
fn add_block(rows: &[[f32; DEPTH]; ROWS], cols: &[[f32; SIDE]; DEPTH], sums: &mut [[f32; SIDE]; ROWS]) {
    let mut here = [[0.0; SIDE]; ROWS];
    here.copy_from_slice(sums);
    for depth in 0..DEPTH {
        for row in 0..ROWS {
            for col in 0..SIDE {
                here[row][col] += rows[row][depth] * cols[depth][col];
            }
        }
    }
    sums.copy_from_slice(&here);
}

/// The same elements of blocks in three parts: the six products of parts that an f32 sum can tell from 0.
#[cfg(test)]
pub(super) fn square_split(a: &[u16], b: &[u16], y: &mut [f32], y_row: usize, add: bool) {
    use super::PARTS;

    const PRODUCTS: [(usize, usize); 6] = [(2, 0), (1, 0), (1, 1), (0, 1), (0, 0), (0, 2)];
    let half = a.len() / 2;
    let block = |all: &[u16], side: usize, step: usize, part: usize| -> [u16; BLOCK] {
        std::array::from_fn(|i| all[side * half + (step * PARTS + part) * BLOCK + i])
    };
    for (row, col) in (0..4 * SIDE * SIDE).map(|i| (i / (2 * SIDE), i % (2 * SIDE))) {
        let mut sum = 0.0;
        for step in 0..half / (PARTS * BLOCK) {
            for (of_a, of_b) in PRODUCTS {
                let (a, b) = (block(a, row / SIDE, step, of_a), block(b, col / SIDE, step, of_b));
                for depth in 0..DEPTH {
                    let right = b[depth / 2 * 2 * SIDE + col % SIDE * 2 + depth % 2];
                    sum += wide(a[row % SIDE * DEPTH + depth]) * wide(right);
                }
            }
        }
        let y = &mut y[row * y_row + col];
        *y = if add { *y + sum } else { sum };
    }
}

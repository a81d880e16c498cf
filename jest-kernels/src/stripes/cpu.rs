//! Stripes of images against tiles of texts on the CPU: memory is O(STRIPE * n), and every sum has a fixed order.

use bytemuck::Pod;
use rayon::prelude::*;

use crate::ops::matmul::cpu::gemm;
use crate::simd::simd_fn;
use crate::{Pass, Result, Tensor};

/// Images whose products are in memory at once.
const STRIPE: usize = 256;

/// Rows of a stripe of an `[n, n]` matrix: never more than half of them, so that the matrix is never stored.
pub(crate) fn rows(n: usize) -> usize {
    STRIPE.min(n.div_ceil(2))
}
/// Rows of `dimage` that one task adds up.
const SUM_ROWS: usize = 16;

/// What is compared: both [n, d].
#[derive(Clone, Copy)]
pub(crate) struct Pairs<'a> {
    pub(crate) image: &'a [f32],
    pub(crate) text: &'a [f32],
    pub(crate) d: usize,
}

/// Rows `row..row + rows` and columns `col..col + cols` of `image · textᵀ`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tile {
    pub(crate) row: usize,
    pub(crate) rows: usize,
    pub(crate) col: usize,
    pub(crate) cols: usize,
}

impl Tile {
    /// Column in the tile that pairs with the tile's row `i`, if it is there.
    #[inline(always)]
    pub(crate) fn own_col(&self, i: usize) -> Option<usize> {
        (self.row + i).checked_sub(self.col).filter(|col| *col < self.cols)
    }
}

impl Pairs<'_> {
    pub(crate) fn len(&self) -> usize {
        self.image.len() / self.d
    }

    fn image_rows(&self, tile: &Tile) -> &[f32] {
        &self.image[tile.row * self.d..(tile.row + tile.rows) * self.d]
    }

    fn text_rows(&self, tile: &Tile) -> &[f32] {
        &self.text[tile.col * self.d..(tile.col + tile.cols) * self.d]
    }

    fn tile(&self, row: usize, col: usize) -> Tile {
        let n = self.len();
        Tile { row, rows: rows(n).min(n - row), col, cols: tile_cols(n).min(n - col) }
    }

    /// The tile's part of `image · textᵀ`.
    pub(crate) fn product(&self, tile: &Tile, out: &mut [f32]) {
        let d = self.d;
        let operands = ((self.image_rows(tile), d, 1), (self.text_rows(tile), 1, d));
        gemm(tile.rows, tile.cols, d, operands.0, operands.1, (out, tile.cols), false);
    }
}

/// Most texts in a tile.
pub(crate) const TILE_COLS: usize = 512;

/// Texts in a tile: by n alone, so that results do not depend on the thread count.
pub(crate) fn tile_cols(n: usize) -> usize {
    (n / 16).next_multiple_of(64).clamp(128, TILE_COLS)
}

/// Number of tiles in a stripe.
pub(crate) fn tiles(n: usize) -> usize {
    n.div_ceil(tile_cols(n))
}

/// Buffers of the tiles in flight.
pub(crate) struct Scratch {
    pub(crate) products: Products,
    pub(crate) sums: Sums,
}

/// Products of the tiles in flight.
pub(crate) struct Products {
    products: Tensor,
    /// `dimage` of one stripe by each tile alone.
    partial: Tensor,
}

/// What the tiles of the same columns add up: a few numbers for each.
pub(crate) struct Sums(Tensor);

impl Sums {
    /// Numbers of f64 that there is room for in each.
    const NUMBERS: usize = 4;

    /// One state for the tiles of the same columns, all zero.
    pub(crate) fn zeroed<S: Pod>(&mut self) -> &mut [S] {
        const { assert!(size_of::<S>() <= Self::NUMBERS * size_of::<f64>() && size_of::<S>() > 0) };
        let tiles = self.0.rows();
        let states: &mut [S] = bytemuck::cast_slice_mut(&mut self.0.f32_mut()[..tiles * size_of::<S>() / 4]);
        states.fill(S::zeroed());
        states
    }
}

impl Scratch {
    /// Scratch for n pairs of width d; `d = 0` when no gradients are wanted.
    pub(crate) fn new(pass: &mut Pass, n: usize, d: usize) -> Result<Self> {
        let rows = rows(n);
        let products = pass.empty_f32(&[tiles(n), rows, tile_cols(n)])?;
        let partial = pass.empty_f32(&[tiles(n), rows, d.max(1)])?;
        let sums = Sums(pass.empty_f32(&[tiles(n), 2 * Sums::NUMBERS])?);
        Ok(Self { products: Products { products, partial }, sums })
    }
}

/// Shows every tile of `image · textᵀ` to `visit`; tiles of the same columns come in order, with the same state.
pub(crate) fn visit<S: Send>(
    pairs: Pairs<'_>,
    scratch: &mut Products,
    states: impl IndexedParallelIterator<Item = S>,
    visit: impl Fn(Tile, &mut [f32], &mut S) + Sync,
) {
    let n = pairs.len();
    let cols = tile_cols(n);
    let products = scratch.products.f32_mut().par_chunks_mut(rows(n) * cols);
    products.zip(states).enumerate().with_max_len(1).for_each(|(index, (product, mut state))| {
        for row in (0..n).step_by(rows(n)) {
            let tile = pairs.tile(row, index * cols);
            let product = &mut product[..tile.rows * tile.cols];
            pairs.product(&tile, product);
            visit(tile, product, &mut state);
        }
    });
}

/// Gradients by both embeddings: `epilogue` turns each tile of `image · textᵀ` into G, the gradient by that product;
/// `dimage = G · text`, `dtext = Gᵀ · image`.
pub(crate) fn gradients<S: Send>(
    pairs: Pairs<'_>,
    scratch: &mut Products,
    states: &mut [S],
    epilogue: impl Fn(Tile, &mut [f32], &mut S) + Sync,
    dimage: &mut [f32],
    dtext: &mut [f32],
) {
    let (n, d) = (pairs.len(), pairs.d);
    let (cols, stripe) = (tile_cols(n), rows(n));
    let (products, partial) = (scratch.products.f32_mut(), scratch.partial.f32_mut());
    for (index, dimage) in dimage.chunks_mut(stripe * d).enumerate() {
        let row = index * stripe;
        let buffers = products.par_chunks_mut(stripe * cols).zip(partial.par_chunks_mut(stripe * d));
        let tasks = buffers.zip(dtext.par_chunks_mut(cols * d)).zip(states.par_iter_mut()).enumerate();
        tasks.with_max_len(1).for_each(|(index, (((product, partial), dtext), state))| {
            let tile = pairs.tile(row, index * cols);
            let g = &mut product[..tile.rows * tile.cols];
            pairs.product(&tile, g);
            epilogue(tile, g, state);
            let (image, text) = (pairs.image_rows(&tile), pairs.text_rows(&tile));
            gemm(tile.rows, d, tile.cols, (g, tile.cols, 1), (text, d, 1), (partial, d), false);
            gemm(tile.cols, d, tile.rows, (g, 1, tile.cols), (image, d, 1), (dtext, d), row > 0);
        });
        dimage.par_chunks_mut(SUM_ROWS * d).enumerate().for_each(|(block, dimage)| {
            let start = block * SUM_ROWS * d;
            dimage.copy_from_slice(&partial[start..start + dimage.len()]);
            for tile in partial.chunks_exact(stripe * d).skip(1) {
                add(dimage, &tile[start..]);
            }
        });
    }
}

simd_fn! {
    fn add(y: &mut [f32], x: &[f32]) {
        for (y, x) in y.iter_mut().zip(x) {
            *y += x;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::devices;

    #[test]
    fn no_square_matrix_is_stored() {
        let mut pass = devices()[0].pass();
        for n in [1, 100, 4096, 20_000] {
            let scratch = Scratch::new(&mut pass, n, 8).unwrap().products;
            assert!(scratch.products.len() <= STRIPE.min(n) * (n + 512), "{n}: {:?}", scratch.products.shape());
            assert!(scratch.partial.len() <= 2 * STRIPE.min(n).max(n) * 8, "{n}: {:?}", scratch.partial.shape());
        }
    }
}

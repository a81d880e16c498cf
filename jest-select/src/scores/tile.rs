//! Every open candidate against every row of a chunk, a register tile at a time: no `[B, c]` block is stored.

use std::{num::NonZeroUsize, thread};

use crate::Candidate;

/// Candidates in a tile.
const ROWS: usize = 4;
/// Rows of the chunk in a tile, side by side in memory.
const LANES: usize = 8;
/// Panels that stay in the cache while all candidates pass by: 64 rows, 192 KiB at width 768.
const PANELS: usize = 8;

/// Products that a thread must have to be worth its start: about a millisecond.
const WORK: usize = 1 << 22;

/// The rows of a chunk, packed as panels of `LANES` rows. `[ceil(c / LANES), d, LANES]`, zero where there is no row.
pub(super) struct PackedRows {
    data: Vec<f32>,
    rows: usize,
    width: usize,
}

impl PackedRows {
    /// Gathers the rows of `chunk` from `matrix`, `[B, d]`.
    pub(super) fn gather(matrix: &[f32], width: usize, chunk: &[Candidate]) -> Self {
        let mut data = vec![0.0; chunk.len().next_multiple_of(LANES) * width];
        for (panel, members) in data.chunks_exact_mut(LANES * width).zip(chunk.chunks(LANES)) {
            for (lane, &candidate) in members.iter().enumerate() {
                for (column, &value) in panel.chunks_exact_mut(LANES).zip(row(matrix, width, candidate)) {
                    column[lane] = value;
                }
            }
        }
        Self { data, rows: chunk.len(), width }
    }
}

/// Calls `fold(state, row_x . row_k)` for each open candidate x and, in the order of the chunk, each packed row k.
///
/// At most `threads` work on it, fewer where it is little. What a state sees, and in which order, is the same for any
/// number of them.
pub(super) fn cross<A: Send>(
    matrix: &[f32],
    open: &mut [(Candidate, A)],
    packed: &PackedRows,
    threads: NonZeroUsize,
    fold: impl Fn(&mut A, f32) + Sync,
) {
    let useful = (open.len() * packed.rows * packed.width).div_ceil(WORK);
    let share = open.len().div_ceil(threads.get().min(useful.max(1)));
    cross_in_shares(matrix, open, packed, share, &fold);
}

/// A thread for each `share` open candidates.
fn cross_in_shares<A: Send>(
    matrix: &[f32],
    open: &mut [(Candidate, A)],
    packed: &PackedRows,
    share: usize,
    fold: &(impl Fn(&mut A, f32) + Sync),
) {
    thread::scope(|scope| {
        let mut shares = open.chunks_mut(share.max(1));
        let own = shares.next();
        for share in shares {
            scope.spawn(|| cross_share(matrix, share, packed, fold));
        }
        if let Some(own) = own {
            cross_share(matrix, own, packed, fold);
        }
    });
}

fn cross_share<A>(matrix: &[f32], share: &mut [(Candidate, A)], packed: &PackedRows, fold: &impl Fn(&mut A, f32)) {
    let width = packed.width;
    for (block, panels) in packed.data.chunks(PANELS * LANES * width).enumerate() {
        for tile in share.chunks_mut(ROWS) {
            // A tile that is not full repeats its last row, and drops the repeats.
            let rows: [&[f32]; ROWS] = std::array::from_fn(|r| row(matrix, width, tile[r.min(tile.len() - 1)].0));
            for (panel, values) in panels.chunks_exact(LANES * width).enumerate() {
                let lanes = LANES.min(packed.rows - (block * PANELS + panel) * LANES);
                for ((_, state), dots) in tile.iter_mut().zip(dot_tile(rows, values)) {
                    dots[..lanes].iter().for_each(|&dot| fold(state, dot));
                }
            }
        }
    }
}

/// Dot products of `ROWS` rows with the `LANES` rows of a panel, summed over d in order.
fn dot_tile(rows: [&[f32]; ROWS], panel: &[f32]) -> [[f32; LANES]; ROWS] {
    let mut dots = [[0.0; LANES]; ROWS];
    for (i, column) in panel.as_chunks::<LANES>().0.iter().enumerate() {
        for (dots, row) in dots.iter_mut().zip(rows) {
            for (dot, value) in dots.iter_mut().zip(column) {
                *dot += row[i] * value;
            }
        }
    }
    dots
}

/// The embedding of a candidate. `[d]`
fn row(matrix: &[f32], width: usize, candidate: Candidate) -> &[f32] {
    &matrix[candidate.index() * width..][..width]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embeddings::dot;

    /// Every ragged edge: rows against ROWS, chunk against LANES and PANELS, any width.
    #[test]
    fn each_pair_is_seen_once_and_in_order() {
        for (rows, chunk, width, threads) in
            [(1, 1, 1, 1), (3, 7, 5, 2), (4, 8, 3, 1), (9, 65, 2, 3), (31, 33, 7, 4), (2, 129, 3, 8)]
        {
            let total = rows + chunk;
            let matrix: Vec<f32> = (0..total * width).map(|i| ((i * 37 % 101) as f32 - 50.0) / 64.0).collect();
            let picked: Vec<_> = (0..chunk as u32).map(|k| Candidate::new(total as u32 - 1 - k)).collect();
            let mut open: Vec<_> = (0..rows as u32).map(|x| (Candidate::new(x), Vec::new())).collect();
            let packed = PackedRows::gather(&matrix, width, &picked);
            let fold = |seen: &mut Vec<f32>, dot| seen.push(dot);
            cross_in_shares(&matrix, &mut open, &packed, rows.div_ceil(threads), &fold);
            for (x, seen) in open {
                // The values are multiples of 1/64 and small, so that any order of summation is exact.
                let expected = picked.iter().map(|&k| dot(row(&matrix, width, x), row(&matrix, width, k)) as f32);
                assert_eq!(seen, expected.collect::<Vec<_>>(), "{x} of {rows}, chunk {chunk}, width {width}");
            }
        }
    }
}

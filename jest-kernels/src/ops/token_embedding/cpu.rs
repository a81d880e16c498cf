//! Token embedding on the CPU: rows in parallel; of the gradient, the pieces of the sorted positions.

use rayon::prelude::*;

use crate::ops::add::cpu::add_into;
use crate::ops::block_rows;

pub(super) fn forward(ids: &[u32], l: usize, table: &[f32], posemb: &[f32], d: usize, y: &mut [f32]) {
    let block = block_rows(d);
    y.par_chunks_mut(block * d).zip(ids.par_chunks(block)).enumerate().for_each(|(index, (y, ids))| {
        for (k, (y, id)) in y.chunks_exact_mut(d).zip(ids).enumerate() {
            let position = (index * block + k) % l;
            y.copy_from_slice(&table[*id as usize * d..][..d]);
            add_into(&posemb[position * d..][..d], y);
        }
    });
}

/// Pieces that one task sums.
const PIECES: usize = 32;

/// Adds each piece's rows of dy to its row of dtable, or writes their sum to its row of `partial`.
pub(super) fn pieces(pieces: &[u32], order: &[u32], dy: &[f32], d: usize, dtable: &mut [f32], partial: &mut [f32]) {
    let vocab = dtable.len() / d;
    let targets = [Rows { first: 0, rows: dtable }, Rows { first: vocab, rows: partial }];
    sum_pieces(Pieces { pieces, order, dy, d, vocab }, targets);
}

/// Pieces (first and end in the order, target) and what they are of. Targets ascend both below vocab and from it on.
#[derive(Clone, Copy)]
struct Pieces<'a> {
    pieces: &'a [u32],
    order: &'a [u32],
    dy: &'a [f32],
    d: usize,
    vocab: usize,
}

/// Some rows of a matrix: those of the targets from `first` on.
struct Rows<'a> {
    first: usize,
    rows: &'a mut [f32],
}

impl<'a> Rows<'a> {
    /// Rows in front of a target, and those from it on; all are in front of none.
    fn split(self, target: Option<usize>, d: usize) -> (Self, Self) {
        let at = target.map_or(self.rows.len(), |target| (target - self.first) * d);
        let (before, from) = self.rows.split_at_mut(at);
        (Self { first: self.first, rows: before }, Self { first: target.unwrap_or(self.first), rows: from })
    }
}

/// Halves the pieces, and the rows that they write, until few are left.
fn sum_pieces(all: Pieces<'_>, [mut table, mut partial]: [Rows<'_>; 2]) {
    let Pieces { pieces, order, dy, d, vocab } = all;
    if pieces.len() > 3 * PIECES {
        let (left, right) = pieces.split_at(pieces.len() / 6 * 3);
        let mut targets = right.chunks_exact(3).map(|piece| piece[2] as usize);
        let (left_table, right_table) = table.split(targets.clone().find(|target| *target < vocab), d);
        let (left_partial, right_partial) = partial.split(targets.find(|target| *target >= vocab), d);
        rayon::join(
            || sum_pieces(Pieces { pieces: left, ..all }, [left_table, left_partial]),
            || sum_pieces(Pieces { pieces: right, ..all }, [right_table, right_partial]),
        );
        return;
    }
    for piece in pieces.chunks_exact(3) {
        let (positions, target) = (&order[piece[0] as usize..piece[1] as usize], piece[2] as usize);
        let Rows { first, rows } = if target < vocab { &mut table } else { &mut partial };
        let out = &mut rows[(target - *first) * d..][..d];
        if target >= vocab {
            out.fill(0.0);
        }
        positions.iter().for_each(|position| add_into(&dy[*position as usize * d..][..d], out));
    }
}

/// Adds the partial sums of each id that was split to its row of dtable.
pub(super) fn finish(splits: &[u32], partial: &[f32], d: usize, dtable: &mut [f32]) {
    for split in splits.chunks_exact(3) {
        let out = &mut dtable[split[2] as usize * d..][..d];
        partial[split[0] as usize * d..split[1] as usize * d].chunks_exact(d).for_each(|sum| add_into(sum, out));
    }
}

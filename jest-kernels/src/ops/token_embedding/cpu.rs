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

/// Adds each piece's rows of dy to its row of dtable, or writes their sum to its row of `partial`.
pub(super) fn pieces(pieces: &[u32], order: &[u32], dy: &[f32], d: usize, dtable: &mut [f32], partial: &mut [f32]) {
    let vocab = dtable.len() / d;
    // Targets ascend in each of the two, so the rows can be borrowed one after the other.
    let (mut rows, mut sums) = (Rows::new(dtable, d), Rows::new(partial, d));
    let tasks: Vec<_> = pieces
        .chunks_exact(3)
        .map(|piece| {
            let (positions, target) = (&order[piece[0] as usize..piece[1] as usize], piece[2] as usize);
            let out = if target < vocab { rows.take(target) } else { sums.take(target - vocab) };
            (positions, out, target < vocab)
        })
        .collect();
    tasks.into_par_iter().for_each(|(positions, out, direct)| {
        if !direct {
            out.fill(0.0);
        }
        positions.iter().for_each(|position| add_into(&dy[*position as usize * d..][..d], out));
    });
}

/// Adds the partial sums of each id that was split to its row of dtable.
pub(super) fn finish(splits: &[u32], partial: &[f32], d: usize, dtable: &mut [f32]) {
    for split in splits.chunks_exact(3) {
        let out = &mut dtable[split[2] as usize * d..][..d];
        partial[split[0] as usize * d..split[1] as usize * d].chunks_exact(d).for_each(|sum| add_into(sum, out));
    }
}

/// Rows of a matrix, each lent once, in ascending order.
struct Rows<'a> {
    rest: &'a mut [f32],
    first: usize,
    d: usize,
}

impl<'a> Rows<'a> {
    fn new(rest: &'a mut [f32], d: usize) -> Self {
        Self { rest, first: 0, d }
    }

    fn take(&mut self, row: usize) -> &'a mut [f32] {
        let (_, rest) = std::mem::take(&mut self.rest).split_at_mut((row - self.first) * self.d);
        let (taken, rest) = rest.split_at_mut(self.d);
        (self.rest, self.first) = (rest, row + 1);
        taken
    }
}

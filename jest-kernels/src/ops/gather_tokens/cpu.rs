//! Choosing tokens on the CPU: rows in parallel.

use rayon::prelude::*;

use crate::ops::block_rows;

pub(super) fn forward(x: &[f32], indices: &[u32], k: usize, l: usize, d: usize, y: &mut [f32]) {
    let block = block_rows(d);
    y.par_chunks_mut(block * d).zip(indices.par_chunks(block)).enumerate().for_each(|(part, (y, indices))| {
        for (slot, (y, index)) in y.chunks_exact_mut(d).zip(indices).enumerate() {
            let example = (part * block + slot) / k;
            y.copy_from_slice(&x[(example * l + *index as usize) * d..][..d]);
        }
    });
}

/// `inverse [n * l]` holds the slot of a kept token plus 1, and 0 for a dropped one.
pub(super) fn backward(dy: &[f32], inverse: &[u32], k: usize, l: usize, d: usize, dx: &mut [f32]) {
    let block = block_rows(d);
    dx.par_chunks_mut(block * d).zip(inverse.par_chunks(block)).enumerate().for_each(|(part, (dx, inverse))| {
        for (position, (dx, slot)) in dx.chunks_exact_mut(d).zip(inverse).enumerate() {
            let example = (part * block + position) / l;
            match *slot as usize {
                0 => dx.fill(0.0),
                slot => dx.copy_from_slice(&dy[(example * k + slot - 1) * d..][..d]),
            }
        }
    });
}

//! The product with a number on the CPU: blocks in parallel.

use rayon::prelude::*;

/// Elements per block of work.
const BLOCK: usize = 16_384;

pub(super) fn in_place(x: &mut [f32], factor: f32) {
    x.par_chunks_mut(BLOCK).for_each(|x| x.iter_mut().for_each(|x| *x *= factor));
}

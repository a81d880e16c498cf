//! f32 to f16 and back on the CPU: blocks in parallel, by the processor's own conversion where it has one.

use half::f16;
use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};
use rayon::prelude::*;

/// Elements per block of work.
const BLOCK: usize = 16_384;

pub(super) fn to_f16(x: &[f32], y: &mut [f16]) {
    y.par_chunks_mut(BLOCK).zip(x.par_chunks(BLOCK)).for_each(|(y, x)| y.convert_from_f32_slice(x));
}

pub(super) fn to_f32(x: &[f16], y: &mut [f32]) {
    y.par_chunks_mut(BLOCK).zip(x.par_chunks(BLOCK)).for_each(|(y, x)| x.convert_to_f32_slice(y));
}

/// As packing rounds.
pub(super) fn to_bf16(x: &[f32], y: &mut [u16]) {
    y.par_chunks_mut(BLOCK).zip(x.par_chunks(BLOCK)).for_each(|(y, x)| crate::bf16::round_all(x, y));
}

pub(super) fn bf16_to_f32(x: &[u16], y: &mut [f32]) {
    let x: &[half::bf16] = x.reinterpret_cast();
    y.par_chunks_mut(BLOCK).zip(x.par_chunks(BLOCK)).for_each(|(y, x)| x.convert_to_f32_slice(y));
}

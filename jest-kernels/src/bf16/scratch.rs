//! Memory for what is packed, kept by a thread from call to call.

use bytemuck::{Pod, Zeroable};

use super::DEPTH;

/// A cache line of packed elements: a row of a tile that lay across two lines would take twice as long to load.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
pub(crate) struct Line([u16; DEPTH]);

/// At least `len` elements of 16 bits, in whole lines, with unspecified contents.
pub(crate) fn lines(kept: &mut Vec<Line>, len: usize) -> &mut [Line] {
    let needed = len.div_ceil(DEPTH);
    kept.resize(kept.len().max(needed), Line::zeroed());
    &mut kept[..needed]
}

/// Lines that are handed out from the front, piece by piece.
pub(crate) struct Pieces<'a>(pub(crate) &'a mut [Line]);

impl<'a> Pieces<'a> {
    /// The next `len` elements of 16 bits, a multiple of 32.
    pub(crate) fn bits(&mut self, len: usize) -> &'a mut [u16] {
        let (piece, rest) = std::mem::take(&mut self.0).split_at_mut(len / DEPTH);
        self.0 = rest;
        bytemuck::cast_slice_mut(piece)
    }

    /// The next `len` elements of f32, a multiple of 16.
    pub(crate) fn sums(&mut self, len: usize) -> &'a mut [f32] {
        bytemuck::cast_slice_mut(self.bits(2 * len))
    }
}

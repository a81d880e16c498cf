//! Rounding to bf16 and packing of one block of 16 rows by 32 depths.

use super::{BLOCK, DEPTH, Elements, Level, Role, SIDE};

/// Where the elements of one block lie; either stride is 1.
pub(super) struct Source<'a> {
    pub(super) elements: Elements<'a>,
    pub(super) stride: usize,
    pub(super) depth_stride: usize,
    /// 1 to 16.
    pub(super) rows: usize,
    /// 1 to 32.
    pub(super) depths: usize,
}

/// Writes one packed block.
pub(super) fn block(level: Level, role: Role, source: &Source<'_>, out: &mut [u16]) {
    assert!((source.rows - 1) * source.stride + (source.depths - 1) * source.depth_stride < source.elements.len());
    assert!(out.len() == BLOCK);
    #[cfg(target_arch = "x86_64")]
    if level != Level::Plain && source.rows == SIDE && source.depths == DEPTH {
        // SAFETY: levels above `Plain` have AVX-512 with BF16; the assertions bound every access.
        unsafe { super::avx512::pack(role, source, out) };
        return;
    }
    let _ = level;
    let at = |row: usize, depth: usize| {
        let inside = row < source.rows && depth < source.depths;
        if inside { source.elements.bits(row * source.stride + depth * source.depth_stride) } else { 0 }
    };
    for (index, out) in out.iter_mut().enumerate() {
        *out = match role {
            Role::Left => at(index / DEPTH, index % DEPTH),
            Role::Right => at(index / 2 % SIDE, index / (2 * SIDE) * 2 + index % 2),
        };
    }
}

/// The nearest bf16, ties to even; NaN stays NaN, values below the normal range become 0 as in the processor's own
/// conversion.
#[inline(always)]
pub(crate) fn round(x: f32) -> u16 {
    let bits = x.to_bits();
    if x.is_nan() {
        return (bits >> 16) as u16 | 0x40;
    }
    if x.is_subnormal() {
        return (bits >> 16) as u16 & 0x8000;
    }
    ((bits + 0x7fff + (bits >> 16 & 1)) >> 16) as u16
}

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

#[cfg(target_arch = "x86_64")]
impl Source<'_> {
    fn is_whole(&self) -> bool {
        self.rows == SIDE && self.depths == DEPTH
    }

    /// Where the two halves of a whole block's line begin: 32 depths of a row, or 16 rows at two depths.
    #[inline(always)]
    pub(super) fn halves(&self, line: usize) -> (usize, usize) {
        if self.depth_stride == 1 {
            (line * self.stride, line * self.stride + SIDE)
        } else {
            (2 * line * self.depth_stride, (2 * line + 1) * self.depth_stride)
        }
    }
}

/// Writes one packed block.
pub(super) fn block(level: Level, role: Role, source: &Source<'_>, out: &mut [u16]) {
    assert!((source.rows - 1) * source.stride + (source.depths - 1) * source.depth_stride < source.elements.len());
    assert!(out.len() == level.block());
    match level {
        // SAFETY: these levels have AVX-512 with BF16; the assertions bound every access.
        #[cfg(target_arch = "x86_64")]
        Level::Split if source.is_whole() => unsafe { super::avx512::pack_split(role, source, out) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Level::Amx | Level::Avx512 if source.is_whole() => unsafe { super::avx512::pack(role, source, out) },
        Level::Plain => plain(role, source, out, |at| source.elements.bits(at)),
        #[cfg(test)]
        Level::PlainSplit => {
            for (part, out) in out.chunks_exact_mut(BLOCK).enumerate() {
                plain(role, source, out, |at| parts(source.elements.value(at))[part]);
            }
        }
        _ => filled_up(level, role, source, out),
    }
}

/// One block, part of which is beyond the edges.
fn filled_up(level: Level, role: Role, source: &Source<'_>, out: &mut [u16]) {
    let by_rows = source.depth_stride == 1;
    let (line, len, lines) =
        if by_rows { (DEPTH, source.depths, source.rows) } else { (SIDE, source.rows, source.depths) };
    let apart = if by_rows { source.stride } else { source.depth_stride };
    let (mut f32s, mut bf16s) = ([0.0f32; BLOCK], [0u16; BLOCK]);
    let elements = match source.elements {
        Elements::F32(all) => {
            copy_lines(&mut f32s, line, all, apart, (lines, len));
            Elements::F32(&f32s)
        }
        Elements::Bf16(all) => {
            copy_lines(&mut bf16s, line, all, apart, (lines, len));
            Elements::Bf16(&bf16s)
        }
    };
    let (stride, depth_stride) = if by_rows { (line, 1) } else { (1, line) };
    let whole = Source { elements, stride, depth_stride, rows: SIDE, depths: DEPTH };
    block(level, role, &whole, out);
}

fn copy_lines<T: Copy>(to: &mut [T], line: usize, from: &[T], apart: usize, (lines, len): (usize, usize)) {
    for (index, to) in to.chunks_exact_mut(line).enumerate().take(lines) {
        to[..len].copy_from_slice(&from[index * apart..][..len]);
    }
}

/// One block on any processor; `bits` are those of the element at a place.
fn plain(role: Role, source: &Source<'_>, out: &mut [u16], bits: impl Fn(usize) -> u16) {
    let at = |row: usize, depth: usize| {
        let inside = row < source.rows && depth < source.depths;
        if inside { bits(row * source.stride + depth * source.depth_stride) } else { 0 }
    };
    for (index, out) in out.iter_mut().enumerate() {
        *out = match role {
            Role::Left => at(index / DEPTH, index % DEPTH),
            Role::Right => at(index / 2 % SIDE, index / (2 * SIDE) * 2 + index % 2),
        };
    }
}

/// The parts of an element: each is the nearest bf16 to what those before leave of it, the first a finite one.
#[cfg(test)]
fn parts(x: f32) -> [u16; super::PARTS] {
    let largest = super::wide(0x7f7f);
    let mut rest = x;
    std::array::from_fn(|part| {
        let bits = round(if part == 0 { rest.clamp(-largest, largest) } else { rest });
        rest -= super::wide(bits);
        bits
    })
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

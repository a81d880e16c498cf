//! Products of matrices whose elements are rounded to bf16, with f32 sums: tiles of the processor's matrix unit (AMX),
//! AVX-512's dot products, or plain f32 arithmetic on the rounded elements.
//!
//! Operands are rounded as they are packed, or were rounded when they were written. The packed form is the same for all three: blocks of
//! 16 rows (or columns) by 32 depths, so one test holds them against each other.
//!
//! The matrix unit also multiplies f32: an element is the exact sum of three of bf16, a + a' + a'', each at most 2⁻⁸ of the
//! one before. Of the nine products of two such sums, six reach an f32 sum; a' b'', a'' b' and a'' b'' are below 2⁻²⁴ of a b.
//! Subnormal numbers count as 0 in the unit, so elements and products below 1e-31 lose their lower parts; and what is infinite,
//! an element or a sum, may come out as NaN.

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod pack;
mod plain;
mod scratch;
#[cfg(test)]
mod tests;

pub(crate) use pack::round;
pub(crate) use scratch::{Line, Pieces, lines};

use std::sync::OnceLock;

use crate::{DType, Tensor};

/// Rows or columns of a packed block.
pub(crate) const SIDE: usize = 16;
/// Depths of a packed block.
pub(crate) const DEPTH: usize = 32;
/// Elements of a packed block.
pub(crate) const BLOCK: usize = SIDE * DEPTH;
/// Parts of an element that is split.
const PARTS: usize = 3;
/// Most depths that one run of the inner loop sums: 32 rows packed for them stay in the first cache, unless they are split.
const RUN: usize = 512;
/// Pairs of block rows of b that are gone through for each of a: packed for a run they stay in the second cache. Fewer
/// where they are split.
const PAIRS: usize = 16;

/// How products are computed here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// f32 arithmetic on elements in three parts, in place of [`Level::Split`] where a test's processor has no matrix unit.
    #[cfg(test)]
    PlainSplit,
    /// f32 arithmetic on rounded elements.
    Plain,
    /// `vdpbf16ps`.
    Avx512,
    /// `tdpbf16ps`.
    Amx,
    /// The same on elements in three parts: products of f32.
    Split,
}

impl Level {
    /// Elements of 16 bits that a block of 16 by 32 packs into.
    pub(crate) fn block(self) -> usize {
        if self.splits() { PARTS * BLOCK } else { BLOCK }
    }

    /// Whether elements are packed in parts.
    fn splits(self) -> bool {
        match self {
            Level::Split => true,
            #[cfg(test)]
            Level::PlainSplit => true,
            _ => false,
        }
    }
}

/// For tests: all that this processor and its operating system allow, the plainest first.
#[cfg(test)]
pub(crate) fn levels() -> Vec<Level> {
    [Level::Plain, Level::Avx512, Level::Amx].into_iter().filter(|one| *one <= level()).collect()
}

/// For tests: all ways to multiply f32 in parts that this processor has, one at least.
#[cfg(test)]
pub(crate) fn split_levels() -> Vec<Level> {
    [Some(Level::PlainSplit), split()].into_iter().flatten().collect()
}

/// How products of f32 are computed, where the processor does them faster than with f32 arithmetic.
pub(crate) fn split() -> Option<Level> {
    (level() == Level::Amx).then_some(Level::Split)
}

/// The best that this processor and its operating system allow for elements of bf16.
pub(crate) fn level() -> Level {
    static LEVEL: OnceLock<Level> = OnceLock::new();
    *LEVEL.get_or_init(|| {
        #[cfg(target_arch = "x86_64")]
        {
            if avx512::available() && amx::available() {
                return Level::Amx;
            }
            if avx512::available() {
                return Level::Avx512;
            }
        }
        Level::Plain
    })
}

/// Elements as they lie in memory.
#[derive(Clone, Copy)]
pub(crate) enum Elements<'a> {
    /// To be rounded.
    F32(&'a [f32]),
    /// Bits of rounded ones.
    Bf16(&'a [u16]),
}

impl<'a> Elements<'a> {
    /// Those of a tensor on the CPU device, in f32 or bf16.
    pub(crate) fn of(tensor: &'a Tensor) -> Self {
        match tensor.dtype() {
            DType::Bf16 => Elements::Bf16(tensor.bf16()),
            _ => Elements::F32(tensor.f32()),
        }
    }

    /// Those from `at` on.
    pub(crate) fn from(self, at: usize) -> Self {
        match self {
            Elements::F32(all) => Elements::F32(&all[at..]),
            Elements::Bf16(all) => Elements::Bf16(&all[at..]),
        }
    }

    fn len(self) -> usize {
        match self {
            Elements::F32(all) => all.len(),
            Elements::Bf16(all) => all.len(),
        }
    }

    /// Bits of one, rounded.
    fn bits(self, at: usize) -> u16 {
        match self {
            Elements::F32(all) => pack::round(all[at]),
            Elements::Bf16(all) => all[at],
        }
    }

    /// One as f32.
    #[cfg(test)]
    fn value(self, at: usize) -> f32 {
        match self {
            Elements::F32(all) => all[at],
            Elements::Bf16(all) => wide(all[at]),
        }
    }
}

/// Elements of a matrix with a stride for each axis: `along` rows (of a) or columns (of b), then the depth.
#[derive(Clone, Copy)]
pub(crate) struct Operand<'a> {
    pub(crate) elements: Elements<'a>,
    /// Elements from one row (column) to the next.
    pub(crate) stride: usize,
    /// Elements from one depth to the next; either this or `stride` is 1.
    pub(crate) depth_stride: usize,
}

impl Operand<'_> {
    /// The same elements with rows for depths and depths for rows.
    pub(crate) fn transposed(self) -> Self {
        Self { stride: self.depth_stride, depth_stride: self.stride, ..self }
    }
}

/// Which side of the product an operand is on: the blocks of the right one hold pairs of depths side by side.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Blocks of [16 rows][32 depths].
    Left,
    /// Blocks of [16 pairs of depths][16 columns][2].
    Right,
}

/// Depths of each run but the last, which may be shorter.
pub(crate) fn run(depths: usize) -> usize {
    depths.div_ceil(depths.div_ceil(RUN)).next_multiple_of(DEPTH)
}

/// Packs rows (columns) `first..first + len` of `operand` at depths `depth..depth + depths`: pairs of block rows, blocks
/// of one row in the order of depths, zeros beyond the edges.
pub(crate) fn pack(
    level: Level,
    role: Role,
    operand: &Operand<'_>,
    (first, len): (usize, usize),
    (depth, depths): (usize, usize),
    out: &mut [u16],
) {
    let (steps, len_packed) = (depths.div_ceil(DEPTH), level.block());
    let block_rows = out.len() / (steps * len_packed);
    let along_depth = operand.depth_stride == 1;
    // In the order of memory, whichever axis is contiguous.
    for turn in 0..steps * block_rows {
        let (index, step) =
            if along_depth { (turn / steps, turn % steps) } else { (turn % block_rows, turn / block_rows) };
        let block = &mut out[(index * steps + step) * len_packed..][..len_packed];
        let rows = len.saturating_sub(index * SIDE).min(SIDE);
        if rows == 0 {
            block.fill(0);
            continue;
        }
        let at = (first + index * SIDE) * operand.stride + (depth + step * DEPTH) * operand.depth_stride;
        let source = pack::Source {
            elements: operand.elements.from(at),
            stride: operand.stride,
            depth_stride: operand.depth_stride,
            rows,
            depths: (depths - step * DEPTH).min(DEPTH),
        };
        pack::block(level, role, &source, block);
    }
}

/// `a [m, k] · bᵀ`, b [n, k], at a level that this processor has: on this thread, packed for the whole depth at once.
pub(crate) fn product(level: Level, (m, n, k): (usize, usize, usize), a: &[f32], b: &[f32]) -> Vec<f32> {
    let pair = 2 * k.div_ceil(DEPTH) * level.block();
    let [mut rows, mut cols] = [m, n].map(|len| vec![0; len.div_ceil(2 * SIDE) * pair]);
    let [a, b] = [a, b].map(|all| Operand { elements: Elements::F32(all), stride: k, depth_stride: 1 });
    pack(level, Role::Left, &a, (0, m), (0, k), &mut rows);
    pack(level, Role::Right, &b, (0, n), (0, k), &mut cols);
    let mut y = vec![0.0; m * n];
    multiply(level, (&rows, m), (&cols, n), k, (&mut y, n), false);
    y
}

/// Adds the product of packed rows and packed columns to `y`: `rows x cols` elements, rows `y_row` apart; writes instead
/// where `add` is false. Both are packed for the same depths.
pub(crate) fn multiply(
    level: Level,
    (a, rows): (&[u16], usize),
    (b, cols): (&[u16], usize),
    depths: usize,
    (y, y_row): (&mut [f32], usize),
    add: bool,
) {
    let steps = depths.div_ceil(DEPTH);
    let (pair, pairs) = (2 * steps * level.block(), PAIRS * BLOCK / level.block());
    #[cfg(target_arch = "x86_64")]
    let _tiles = (level >= Level::Amx).then(amx::Tiles::load);
    let mut edge = [0.0f32; 4 * SIDE * SIDE];
    for (part, b) in b.chunks(pairs * pair).enumerate() {
        for (i, a) in a.chunks_exact(pair).enumerate() {
            let row = i * 2 * SIDE;
            let m = (rows - row).min(2 * SIDE);
            for (j, b) in b.chunks_exact(pair).enumerate() {
                let col = (part * pairs + j) * 2 * SIDE;
                let n = (cols - col).min(2 * SIDE);
                let out = &mut y[row * y_row + col..];
                if m == 2 * SIDE && n == 2 * SIDE {
                    square(level, a, b, out, y_row, add);
                    continue;
                }
                square(level, a, b, &mut edge, 2 * SIDE, false);
                for (y, sums) in out.chunks_mut(y_row).zip(edge.chunks_exact(2 * SIDE)).take(m) {
                    for (y, sum) in y.iter_mut().zip(sums).take(n) {
                        *y = if add { *y + sum } else { *sum };
                    }
                }
            }
        }
    }
}

/// 32 x 32 elements.
fn square(level: Level, a: &[u16], b: &[u16], y: &mut [f32], y_row: usize, add: bool) {
    assert!(y.len() >= (2 * SIDE - 1) * y_row + 2 * SIDE, "y holds every element that is written");
    assert!(a.len() == b.len() && !a.is_empty() && a.len().is_multiple_of(2 * level.block()), "whole pairs of blocks");
    match level {
        // SAFETY: `split` gave this level to a processor with tiles; the assertions above bound every access.
        #[cfg(target_arch = "x86_64")]
        Level::Split => unsafe { amx::square_split(a, b, y, y_row, add) },
        // SAFETY: `level` is what this processor has; the assertions above bound every access.
        #[cfg(target_arch = "x86_64")]
        Level::Amx => unsafe { amx::square(a, b, y, y_row, add) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => unsafe { avx512::square(a, b, y, y_row, add) },
        #[cfg(test)]
        Level::PlainSplit => plain::square_split(a, b, y, y_row, add),
        _ => plain::square(a, b, y, y_row, add),
    }
}

/// The bits of each element, rounded as packing rounds.
pub(crate) fn round_all(x: &[f32], out: &mut [u16]) {
    let mut whole = 0;
    #[cfg(target_arch = "x86_64")]
    if level() != Level::Plain {
        whole = x.len().min(out.len()) / DEPTH * DEPTH;
        // SAFETY: levels above `Plain` have AVX-512 with BF16.
        unsafe { avx512::round_all(&x[..whole], &mut out[..whole]) };
    }
    out[whole..].iter_mut().zip(&x[whole..]).for_each(|(out, x)| *out = pack::round(*x));
}

/// bf16 bits as f32.
#[inline(always)]
pub(crate) fn wide(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

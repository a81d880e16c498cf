//! bf16 products and packing with AVX-512.

use std::arch::x86_64::*;

use super::pack::Source;
use super::{BLOCK, DEPTH, Elements, PARTS, Role, SIDE};

/// Rows whose sums are in registers at once, for two blocks of columns.
const ROWS: usize = 8;

/// Elements from those that are packed to those that are asked for: two blocks further on the same line, the way that
/// [`super::pack`] goes when depths are contiguous, and as far along the line when rows are.
const AHEAD: usize = 2 * DEPTH;

/// Whether the processor has all that is used here.
pub(super) fn available() -> bool {
    use std::is_x86_feature_detected as has;
    has!("avx512f") && has!("avx512bw") && has!("avx512bf16")
}

/// 32 x 32 elements of a product of two packed pairs of block rows.
///
/// # Safety
/// The processor has what [`available`] asks for; a and b hold whole pairs of equally many blocks; y holds 32 rows of 32
/// elements, `y_row` apart.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) unsafe fn square(a: &[u16], b: &[u16], y: &mut [f32], y_row: usize, add: bool) {
    let half = a.len() / 2;
    for first in (0..2 * SIDE).step_by(ROWS) {
        let mut sums = [[_mm512_setzero_ps(); 2]; ROWS];
        for step in 0..half / BLOCK {
            // SAFETY: within the blocks of a and b, as the caller promises.
            unsafe {
                let a = a.as_ptr().add(first / SIDE * half + step * BLOCK + first % SIDE * DEPTH);
                let b = b.as_ptr().add(step * BLOCK);
                for pair in 0..DEPTH / 2 {
                    let left = bf16(_mm512_loadu_si512(b.add(pair * 2 * SIDE).cast()));
                    let right = bf16(_mm512_loadu_si512(b.add(half + pair * 2 * SIDE).cast()));
                    for (row, sums) in sums.iter_mut().enumerate() {
                        let a = bf16(_mm512_set1_epi32(a.add(row * DEPTH + 2 * pair).cast::<i32>().read_unaligned()));
                        sums[0] = _mm512_dpbf16_ps(sums[0], a, left);
                        sums[1] = _mm512_dpbf16_ps(sums[1], a, right);
                    }
                }
            }
        }
        for (row, sums) in sums.iter().enumerate() {
            for (side, sum) in sums.iter().enumerate() {
                // SAFETY: row and column are below 32, which y holds.
                unsafe {
                    let y = y.as_mut_ptr().add((first + row) * y_row + side * SIDE);
                    _mm512_storeu_ps(y, if add { _mm512_add_ps(_mm512_loadu_ps(y), *sum) } else { *sum });
                }
            }
        }
    }
}

/// Packs a whole block.
///
/// # Safety
/// The processor has what [`available`] asks for; the source holds 16 rows of 32 depths, one of its strides is 1, and
/// `out` holds a block.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) unsafe fn pack(role: Role, source: &Source<'_>, out: &mut [u16]) {
    let mut lines = [_mm512_setzero_si512(); SIDE];
    let by_rows = source.depth_stride == 1;
    let interleave = interleaved();
    for (index, line) in lines.iter_mut().enumerate() {
        let (low, high) = source.halves(index);
        expect(source.elements, low + AHEAD);
        expect(source.elements, high + AHEAD);
        // SAFETY: 16 rows of 32 depths, or 32 depths of 16 rows, as the caller promises.
        let both = unsafe { both(source.elements, low, high) };
        *line = if by_rows { both } else { _mm512_permutexvar_epi16(interleave, both) };
    }
    // Rows of depths for the left operand, pairs of depths by column for the right one.
    if by_rows != (role == Role::Left) {
        transpose(&mut lines);
    }
    // SAFETY: `out` holds a block.
    unsafe { store(&lines, out) };
}

/// Packs a whole block in parts, one after the other: each is the nearest bf16 to what those before leave of an element.
///
/// # Safety
/// As for [`pack`]; `out` holds a block for each part.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) unsafe fn pack_split(role: Role, source: &Source<'_>, out: &mut [u16]) {
    let by_rows = source.depth_stride == 1;
    let interleave = interleaved();
    for index in 0..SIDE {
        let (low, high) = source.halves(index);
        expect(source.elements, low + AHEAD);
        expect(source.elements, high + AHEAD);
        // SAFETY: 16 rows of 32 depths, or 32 depths of 16 rows, as the caller promises.
        let [mut low, mut high] = unsafe { [floats(source.elements, low), floats(source.elements, high)] };
        for part in 0..PARTS {
            // The nearest to the largest of f32 would be infinite; what is not finite stays so in the later parts.
            let [high_part, low_part] = if part == 0 { [within_bf16(high), within_bf16(low)] } else { [high, low] };
            let both = bits(_mm512_cvtne2ps_pbh(high_part, low_part));
            low = _mm512_sub_ps(low, widened(_mm512_castsi512_si256(both)));
            high = _mm512_sub_ps(high, widened(_mm512_extracti64x4_epi64::<1>(both)));
            let line = if by_rows { both } else { _mm512_permutexvar_epi16(interleave, both) };
            // SAFETY: `out` holds a block for each part.
            unsafe { _mm512_storeu_si512(out.as_mut_ptr().add(part * BLOCK + index * DEPTH).cast(), line) };
        }
    }
    if by_rows != (role == Role::Left) {
        for part in out.chunks_exact_mut(BLOCK) {
            let mut lines = [_mm512_setzero_si512(); SIDE];
            for (index, line) in lines.iter_mut().enumerate() {
                // SAFETY: a block holds 16 lines.
                *line = unsafe { _mm512_loadu_si512(part.as_ptr().add(index * DEPTH).cast()) };
            }
            transpose(&mut lines);
            // SAFETY: the same block.
            unsafe { store(&lines, part) };
        }
    }
}

/// Writes the lines of a block.
///
/// # Safety
/// `out` holds a block.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn store(lines: &[__m512i; SIDE], out: &mut [u16]) {
    for (index, line) in lines.iter().enumerate() {
        // SAFETY: as the caller promises.
        unsafe { _mm512_storeu_si512(out.as_mut_ptr().add(index * DEPTH).cast(), *line) };
    }
}

/// Asks for the line of an element that may not be there.
#[inline(always)]
fn expect(elements: Elements<'_>, at: usize) {
    let line: *const i8 = match elements {
        Elements::F32(all) => all.as_ptr().wrapping_add(at).cast(),
        Elements::Bf16(all) => all.as_ptr().wrapping_add(at).cast(),
    };
    // SAFETY: a prefetch reads nothing and faults nowhere; it changes nothing but the caches.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(line) };
}

/// 16 elements as f32.
///
/// # Safety
/// The elements are there.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn floats(elements: Elements<'_>, at: usize) -> __m512 {
    // SAFETY: as the caller promises.
    unsafe {
        match elements {
            Elements::F32(all) => _mm512_loadu_ps(all.as_ptr().add(at)),
            Elements::Bf16(all) => widened(_mm256_loadu_si256(all.as_ptr().add(at).cast())),
        }
    }
}

/// The nearest that bf16 holds of numbers beyond its largest; NaN stays NaN.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn within_bf16(x: __m512) -> __m512 {
    let largest = _mm512_castsi512_ps(_mm512_set1_epi32(0x7f7f_0000));
    let smallest = _mm512_castsi512_ps(_mm512_set1_epi32(0xff7f_0000_u32 as i32));
    _mm512_min_ps(largest, _mm512_max_ps(smallest, x))
}

/// bf16 bits as f32.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn widened(bits: __m256i) -> __m512 {
    _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(bits)))
}

/// Rounded elements: 16 from `low` on below 16 from `high` on.
///
/// # Safety
/// The elements are there.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn both(elements: Elements<'_>, low: usize, high: usize) -> __m512i {
    // SAFETY: 16 elements are there from each place on, as the caller promises.
    unsafe {
        match elements {
            Elements::F32(all) => {
                let at = |place: usize| all.as_ptr().add(place);
                bits(_mm512_cvtne2ps_pbh(_mm512_loadu_ps(at(high)), _mm512_loadu_ps(at(low))))
            }
            Elements::Bf16(all) => {
                let at = |place: usize| _mm256_loadu_si256(all.as_ptr().add(place).cast());
                _mm512_inserti64x4::<1>(_mm512_castsi256_si512(at(low)), at(high))
            }
        }
    }
}

/// Rounds whole lines of 32 elements.
///
/// # Safety
/// The processor has what [`available`] asks for; both are equally long, a multiple of 32.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) unsafe fn round_all(x: &[f32], out: &mut [u16]) {
    let all = Elements::F32(x);
    for (index, line) in out.chunks_exact_mut(DEPTH).enumerate() {
        // SAFETY: x is as long as out, so the line is there.
        unsafe { _mm512_storeu_si512(line.as_mut_ptr().cast(), both(all, index * DEPTH, index * DEPTH + SIDE)) };
    }
}

/// 0, 16, 1, 17, ..: element i of the lower half beside element i of the upper half.
#[target_feature(enable = "avx512f,avx512bw")]
fn interleaved() -> __m512i {
    let mut order = [0u16; 32];
    order.iter_mut().enumerate().for_each(|(i, order)| *order = (i / 2 + i % 2 * 16) as u16);
    // SAFETY: 32 words are 512 bits.
    unsafe { _mm512_loadu_si512(order.as_ptr().cast()) }
}

/// Transposes 16 x 16 words of 32 bits.
#[target_feature(enable = "avx512f,avx512bw")]
fn transpose(rows: &mut [__m512i; SIDE]) {
    let mut t = *rows;
    for i in (0..SIDE).step_by(2) {
        t[i] = _mm512_unpacklo_epi32(rows[i], rows[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(rows[i], rows[i + 1]);
    }
    let mut u = t;
    for i in (0..SIDE).step_by(4) {
        u[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        u[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        u[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        u[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    // Row 4 g + c of u holds, in quarter q, column 4 q + c of rows 4 g..4 g + 4.
    for c in 0..4 {
        let low = _mm512_shuffle_i32x4::<0x88>(u[c], u[4 + c]);
        let high = _mm512_shuffle_i32x4::<0xdd>(u[c], u[4 + c]);
        let low2 = _mm512_shuffle_i32x4::<0x88>(u[8 + c], u[12 + c]);
        let high2 = _mm512_shuffle_i32x4::<0xdd>(u[8 + c], u[12 + c]);
        rows[c] = _mm512_shuffle_i32x4::<0x88>(low, low2);
        rows[8 + c] = _mm512_shuffle_i32x4::<0xdd>(low, low2);
        rows[4 + c] = _mm512_shuffle_i32x4::<0x88>(high, high2);
        rows[12 + c] = _mm512_shuffle_i32x4::<0xdd>(high, high2);
    }
}

/// The same 512 bits.
#[inline(always)]
fn bits(x: __m512bh) -> __m512i {
    // SAFETY: both are 512 plain bits.
    unsafe { std::mem::transmute(x) }
}

/// The same 512 bits.
#[inline(always)]
fn bf16(x: __m512i) -> __m512bh {
    // SAFETY: both are 512 plain bits.
    unsafe { std::mem::transmute(x) }
}

//! Products of bf16, and of f32 in three parts, on the processor's matrix unit (Intel AMX), written as assembly: the compiler's own functions for it are
//! not stable yet.

use std::arch::asm;
use std::arch::x86_64::{__cpuid, __cpuid_count};

use super::{BLOCK, PARTS, SIDE};

/// Bytes from one row of a packed block, and of a tile, to the next.
const LINE: usize = 64;

/// Whether the processor has tiles and bf16 products on them, and the operating system lets this process use them.
pub(super) fn available() -> bool {
    const TILE_STATE: u64 = 0b11 << 17;
    let leaf7 = __cpuid(0).eax >= 7;
    let features = if leaf7 { __cpuid_count(7, 0).edx } else { 0 };
    let saves_state = __cpuid(1).ecx >> 27 & 1 == 1;
    // AMX-BF16 and AMX-TILE.
    if !(features >> 22 & 1 == 1 && features >> 24 & 1 == 1 && saves_state) {
        return false;
    }
    let (low, high): (u32, u32);
    // SAFETY: the processor has xgetbv, as the flag above says; it reads one register.
    unsafe { asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") high, options(nomem, nostack)) };
    (u64::from(high) << 32 | u64::from(low)) & TILE_STATE == TILE_STATE && permitted()
}

/// Asks Linux for the tiles; threads started later inherit them.
#[cfg(target_os = "linux")]
fn permitted() -> bool {
    const ARCH_PRCTL: usize = 158;
    const REQUEST_PERMISSION: usize = 0x1023;
    const TILE_DATA: usize = 18;
    let answer: isize;
    // SAFETY: this call takes two numbers and touches no memory of ours.
    unsafe {
        asm!("syscall", inlateout("rax") ARCH_PRCTL => answer, in("rdi") REQUEST_PERMISSION, in("rsi") TILE_DATA,
             out("rcx") _, out("r11") _, options(nostack));
    }
    answer == 0
}

#[cfg(not(target_os = "linux"))]
fn permitted() -> bool {
    false
}

/// Shapes of the eight tiles, as `ldtilecfg` reads them: palette 1, 16 rows of 64 bytes each.
#[repr(C, align(64))]
struct Shapes([u8; 64]);

static SHAPES: Shapes = {
    let mut bytes = [0; 64];
    bytes[0] = 1;
    let mut tile = 0;
    while tile < 8 {
        bytes[16 + 2 * tile] = LINE as u8;
        bytes[48 + tile] = SIDE as u8;
        tile += 1;
    }
    Shapes(bytes)
};

/// Tiles of this thread, given back when dropped.
pub(super) struct Tiles;

impl Tiles {
    /// Shapes this thread's tiles. Only where [`available`] says so.
    pub(super) fn load() -> Self {
        // SAFETY: reads 64 bytes; the level was chosen because this processor has tiles.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const SHAPES, options(nostack, readonly)) };
        Self
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: gives up the tiles that `load` shaped.
        unsafe { asm!("tilerelease", options(nomem, nostack)) };
    }
}

/// Loads the 32 x 32 sums, or begins them with 0; the loop over depths follows at label 3.
macro_rules! begin {
    () => {
        concat!(
            "test {add}, {add}\n",
            "jz 2f\n",
            "tileloadd tmm0, [{top} + {pitch}*1]\n",
            "tileloadd tmm1, [{top} + {pitch}*1 + 64]\n",
            "tileloadd tmm2, [{low} + {pitch}*1]\n",
            "tileloadd tmm3, [{low} + {pitch}*1 + 64]\n",
            "jmp 3f\n",
            "2:\n",
            "tilezero tmm0\n",
            "tilezero tmm1\n",
            "tilezero tmm2\n",
            "tilezero tmm3\n",
            "3:\n"
        )
    };
}

/// Stores the sums.
macro_rules! end {
    () => {
        concat!(
            "tilestored [{top} + {pitch}*1], tmm0\n",
            "tilestored [{top} + {pitch}*1 + 64], tmm1\n",
            "tilestored [{low} + {pitch}*1], tmm2\n",
            "tilestored [{low} + {pitch}*1 + 64], tmm3\n"
        )
    };
}

/// 32 x 32 elements of a product of two packed pairs of block rows.
///
/// The caller goes through many columns with the same rows, so b is loaded with the hint that it will not be needed soon:
/// a then stays in the first cache.
///
/// # Safety
/// This thread holds [`Tiles`]; a and b hold whole pairs of equally many blocks, at least one; y holds 32 rows of 32
/// elements, `y_row` apart.
pub(super) unsafe fn square(a: &[u16], b: &[u16], y: &mut [f32], y_row: usize, add: bool) {
    let half = a.len() / 2;
    // SAFETY: the loop reads the blocks of a and b once each, the rest the 32 x 32 elements of y; no other code uses
    // tiles.
    unsafe {
        let (a, b, top) = (a.as_ptr(), b.as_ptr(), y.as_mut_ptr());
        asm!(
            begin!(),
            "tileloadd tmm4, [{a0} + {line}*1]",
            "tileloaddt1 tmm6, [{b0} + {line}*1]",
            "tileloadd tmm5, [{a1} + {line}*1]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tileloaddt1 tmm7, [{b1} + {line}*1]",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "add {a0}, 1024",
            "add {a1}, 1024",
            "add {b0}, 1024",
            "add {b1}, 1024",
            "dec {steps}",
            "jnz 3b",
            end!(),
            a0 = inout(reg) a => _,
            a1 = inout(reg) a.add(half) => _,
            b0 = inout(reg) b => _,
            b1 = inout(reg) b.add(half) => _,
            steps = inout(reg) half / BLOCK => _,
            line = in(reg) LINE,
            pitch = in(reg) y_row * size_of::<f32>(),
            top = in(reg) top,
            low = in(reg) top.add(SIDE * y_row),
            add = in(reg) usize::from(add),
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack)
        );
    }
}

const _: () = assert!(BLOCK * size_of::<u16>() == 1024, "the bytes of a part, as the macros below have them");

/// Loads one part of two blocks of a: 0, 1024 or 2048 bytes from their first.
macro_rules! rows {
    ($part:literal) => {
        concat!("tileloadd tmm4, [{a0} + {line}*1 + ", $part, "]\ntileloadd tmm5, [{a1} + {line}*1 + ", $part, "]")
    };
}

/// As `rows` of two blocks of b.
macro_rules! columns {
    ($part:literal) => {
        concat!("tileloadd tmm6, [{b0} + {line}*1 + ", $part, "]\ntileloadd tmm7, [{b1} + {line}*1 + ", $part, "]")
    };
}

/// Adds the four products of what is loaded.
macro_rules! squares {
    () => {
        "tdpbf16ps tmm0, tmm4, tmm6\ntdpbf16ps tmm2, tmm5, tmm6\ntdpbf16ps tmm1, tmm4, tmm7\ntdpbf16ps tmm3, tmm5, tmm7"
    };
}

/// As [`square`] of elements in three parts each, 1024 bytes a part: the six products that an f32 sum can tell from 0, in
/// an order in which most loads serve two of them.
///
/// # Safety
/// As for [`square`], of blocks in parts.
pub(super) unsafe fn square_split(a: &[u16], b: &[u16], y: &mut [f32], y_row: usize, add: bool) {
    let half = a.len() / 2;
    // SAFETY: the loop reads the blocks of a and b, the rest the 32 x 32 elements of y; no other code uses tiles.
    unsafe {
        let (a, b, top) = (a.as_ptr(), b.as_ptr(), y.as_mut_ptr());
        asm!(
            begin!(),
            rows!(2048),
            columns!(0),
            squares!(),
            rows!(1024),
            squares!(),
            columns!(1024),
            squares!(),
            rows!(0),
            squares!(),
            columns!(0),
            squares!(),
            columns!(2048),
            squares!(),
            "add {a0}, {step}",
            "add {a1}, {step}",
            "add {b0}, {step}",
            "add {b1}, {step}",
            "dec {steps}",
            "jnz 3b",
            end!(),
            a0 = inout(reg) a => _,
            a1 = inout(reg) a.add(half) => _,
            b0 = inout(reg) b => _,
            b1 = inout(reg) b.add(half) => _,
            steps = inout(reg) half / (PARTS * BLOCK) => _,
            line = in(reg) LINE,
            pitch = in(reg) y_row * size_of::<f32>(),
            top = in(reg) top,
            low = in(reg) top.add(SIDE * y_row),
            add = in(reg) usize::from(add),
            step = const PARTS * BLOCK * size_of::<u16>(),
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack)
        );
    }
}

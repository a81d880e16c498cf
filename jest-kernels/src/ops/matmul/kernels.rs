//! The matrix product's kernels: what becomes of a sum, which operand is transposed, and the tile.

use crate::catalog::{Kernel, Sent, Variant};
use crate::ops::gelu::Gelu;

use super::{Form, Parameters, Sizes};

const BODY: &str = include_str!("matmul.wgsl");
const REGISTERS: &str = include_str!("registers.wgsl");
const WIDE: &str = include_str!("wide.wgsl");
const PLACES: &[(&str, u32)] = &[("TA", 0), ("TB", 0)];
const PLACES_GELU: &[(&str, u32)] = &[("TA", 0), ("TB", 0), ("GELU", 0)];
const OWN: &[(&str, u32)] = &[("TA", 0), ("TN", 8)];
const OWN_GELU: &[(&str, u32)] = &[("TA", 0), ("TN", 8), ("GELU", 0)];
const TILE: &[(&str, u32)] = &[("TA", 0), ("TB", 0), ("BM", 32), ("BN", 32), ("BK", 16), ("TM", 4), ("TN", 4)];
const TILE_GELU: &[(&str, u32)] =
    &[("TA", 0), ("TB", 0), ("BM", 32), ("BN", 32), ("BK", 16), ("TM", 4), ("TN", 4), ("GELU", 0)];

/// Kernels that end in the same way: through workgroup memory, through twice as much of it, and in registers alone.
struct Family {
    tiled: Kernel,
    wide: Kernel,
    registers: Kernel,
}

macro_rules! family {
    ($store:literal, [$($part:expr),+], $tile:ident, $places:ident, $own:ident) => {
        Family {
            tiled: kernel(concat!("matmul/", $store), &[$($part,)+ BODY], $tile),
            wide: kernel(concat!("matmul/wide_", $store), &[$($part,)+ WIDE], $places),
            registers: kernel(concat!("matmul/registers_", $store), &[$($part,)+ REGISTERS], $own),
        }
    };
}

const fn kernel(
    name: &'static str,
    parts: &'static [&'static str],
    constants: &'static [(&'static str, u32)],
) -> Kernel {
    Kernel { name, entry: "product", parts, constants, parameters: Parameters::FIELDS }
}

static WRITE: Family = family!("write", [include_str!("store_write.wgsl")], TILE, PLACES, OWN);
static ADD: Family = family!("add", [include_str!("store_add.wgsl")], TILE, PLACES, OWN);
static BIAS: Family = family!("bias", [include_str!("store_bias.wgsl")], TILE, PLACES, OWN);
static BIAS_GELU: Family = family!(
    "bias_gelu",
    [include_str!("../../wgsl/gelu.wgsl"), include_str!("store_bias_gelu.wgsl")],
    TILE_GELU,
    PLACES_GELU,
    OWN_GELU
);
static TRANSPOSE: Kernel = Kernel {
    name: "matmul/transpose",
    entry: "transpose",
    parts: &[include_str!("transpose.wgsl")],
    constants: &[("WG", 64)],
    parameters: Parameters::FIELDS,
};

/// What becomes of a sum.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Store {
    Write,
    Add,
    Bias,
    BiasGelu(Gelu),
}

impl Store {
    fn family(self) -> &'static Family {
        match self {
            Store::Write => &WRITE,
            Store::Add => &ADD,
            Store::Bias => &BIAS,
            Store::BiasGelu(_) => &BIAS_GELU,
        }
    }

    /// What a profile calls a product that ends so.
    pub(super) fn name(self) -> &'static str {
        self.family().tiled.name
    }
}

/// How a workgroup computes its part of the output.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Tile {
    /// 32 x 32 by 64 invocations: small products.
    Small,
    /// 64 x 64 by 256 invocations.
    Large,
    /// 128 x 128 by 256 invocations, four elements a read: where the contiguous axes are multiples of 4.
    Wide,
    /// 32 x 64 by a subgroup of 8 invocations in registers alone: for adapters that are emulated, where workgroup memory
    /// and barriers cost more than they save. Not for a transposed b.
    Registers,
}

impl Tile {
    /// Products below which a tile in registers does not pay for its compilation.
    const WORTH: usize = 1 << 22;
    /// Workgroups that keep most GPUs busy.
    const FILLING: usize = 64;
    /// Lanes that a tile in registers takes of a subgroup.
    pub(super) const LANES: u32 = 8;

    /// Rows and columns of the output that one workgroup computes.
    pub(super) fn sides(self) -> (usize, usize) {
        match self {
            Tile::Small => (32, 32),
            Tile::Large => (64, 64),
            Tile::Wide => (128, 128),
            Tile::Registers => (32, 64),
        }
    }

    /// Depths of k that one dispatch sums; a deeper product takes several. Keeps each dispatch short, and below the
    /// 65,535 rounds of all its loops after which llvmpipe silently leaves a kernel: up to 99 a depth in registers.
    pub(super) fn depth(self) -> usize {
        match self {
            Tile::Small | Tile::Large | Tile::Wide => 16_384,
            Tile::Registers => 640,
        }
    }

    /// By shape and kind of adapter.
    pub(super) fn choose(software: bool, form: Form, sizes: Sizes) -> Self {
        let Sizes { m, n, k, .. } = sizes;
        if software {
            let worth = n.is_multiple_of(4) && m >= 16 && n >= 64 && m * n * k >= Self::WORTH;
            return if worth { Tile::Registers } else { Tile::Small };
        }
        if Self::fits_wide(form, sizes) {
            Tile::Wide
        } else if m < 64 || n < 64 {
            Tile::Small
        } else {
            Tile::Large
        }
    }

    /// Whether wide tiles can be read, fill a GPU, and lie on the output without much waste.
    fn fits_wide(form: Form, Sizes { z, m, n, k }: Sizes) -> bool {
        let contiguous = match form {
            Form::AB => [k, n],
            Form::ABt => [k, k],
            Form::AtB => [m, n],
        };
        let tiles = m.div_ceil(128) * n.div_ceil(128);
        contiguous.iter().all(|axis| axis.is_multiple_of(4))
            && tiles * z >= Self::FILLING
            && tiles * 128 * 128 <= m * n / 4 * 5
    }
}

pub(super) fn variant(form: Form, store: Store, tile: Tile) -> Variant {
    let (ta, tb) = (u32::from(form == Form::AtB), u32::from(form == Form::ABt));
    let Family { tiled, wide, registers } = store.family();
    let mut constants = vec![("TA", ta)];
    if let Store::BiasGelu(gelu) = store {
        constants.push(("GELU", gelu.code()));
    }
    if tile == Tile::Registers {
        return registers.with(&constants);
    }
    constants.push(("TB", tb));
    if tile == Tile::Wide {
        return wide.with(&constants);
    }
    let (rows, cols) = tile.sides();
    constants.extend([("BM", rows as u32), ("BN", cols as u32)]);
    tiled.with(&constants)
}

/// The transpose of a matrix.
pub(super) fn transpose() -> Variant {
    TRANSPOSE.default_variant()
}

pub(super) fn variants() -> Vec<Variant> {
    let mut all = vec![transpose()];
    for tile in [Tile::Small, Tile::Large, Tile::Wide, Tile::Registers] {
        let plain: &[Form] = if tile == Tile::Registers { &[Form::AB, Form::AtB] } else { &Form::ALL };
        for form in plain {
            all.extend([Store::Write, Store::Add].map(|store| variant(*form, store, tile)));
        }
        let layer = if tile == Tile::Registers { Form::AB } else { Form::ABt };
        all.push(variant(layer, Store::Bias, tile));
        all.extend(Gelu::ALL.map(|gelu| variant(layer, Store::BiasGelu(gelu), tile)));
    }
    all
}

//! The matrix product's kernels: what becomes of a sum, which operand is transposed, and the tile.

use crate::Precision;
use crate::catalog::{Kernel, Sent, Variant};
use crate::device::Abilities;
use crate::ops::gelu::Gelu;

use super::{Form, Parameters, Sizes};

const BODY: &str = include_str!("matmul.wgsl");
const REGISTERS: &str = include_str!("registers.wgsl");
const SUBGROUP: &str = include_str!("subgroup.wgsl");
const WIDE: &str = include_str!("wide.wgsl");
const MATRIX: &str = include_str!("matrix.wgsl");
const F32: &str = include_str!("operands_f32.wgsl");
const F16: &str = include_str!("operands_f16.wgsl");
const PLACES: &[(&str, u32)] = &[("TA", 0), ("TB", 0)];
const PLACES_GELU: &[(&str, u32)] = &[("TA", 0), ("TB", 0), ("GELU", 0)];
const UNITS: &[(&str, u32)] = &[("TA", 0), ("TB", 0), ("OWN", 4), ("BK", 16), ("BUFFERS", 1), ("TOGETHER", 1)];
const UNITS_GELU: &[(&str, u32)] =
    &[("TA", 0), ("TB", 0), ("OWN", 4), ("BK", 16), ("BUFFERS", 1), ("TOGETHER", 1), ("GELU", 0)];
const OWN: &[(&str, u32)] = &[("TA", 0), ("TN", 8)];
const OWN_GELU: &[(&str, u32)] = &[("TA", 0), ("TN", 8), ("GELU", 0)];
const SHARED: &[(&str, u32)] = &[("TA", 0), ("TM", 16), ("WG", 64)];
const SHARED_GELU: &[(&str, u32)] = &[("TA", 0), ("TM", 16), ("WG", 64), ("GELU", 0)];
const TILE: &[(&str, u32)] = &[("TA", 0), ("TB", 0), ("BM", 32), ("BN", 32), ("BK", 16), ("TM", 4), ("TN", 4)];
const TILE_GELU: &[(&str, u32)] =
    &[("TA", 0), ("TB", 0), ("BM", 32), ("BN", 32), ("BK", 16), ("TM", 4), ("TN", 4), ("GELU", 0)];

/// Kernels that end in the same way; in pairs for operands in f32 and in f16.
struct Family {
    tiled: [Kernel; 2],
    wide: [Kernel; 2],
    registers: [Kernel; 2],
    subgroup: [Kernel; 2],
    matrix: Kernel,
    #[cfg(test)]
    emulated: Kernel,
}

macro_rules! pair {
    ($name:literal, $store:literal, [$($part:expr),+], $body:ident, $constants:ident) => {
        [
            kernel(concat!("matmul/", $name, $store), &[$($part,)+ F32, $body], $constants),
            kernel(concat!("matmul/f16_", $name, $store), &[$($part,)+ F16, $body], $constants),
        ]
    };
}

macro_rules! family {
    ($store:literal, [$($part:expr),+], $tile:ident, $places:ident, $own:ident, $shared:ident, $units:ident) => {
        Family {
            tiled: pair!("", $store, [$($part),+], BODY, $tile),
            wide: pair!("wide_", $store, [$($part),+], WIDE, $places),
            registers: pair!("registers_", $store, [$($part),+], REGISTERS, $own),
            subgroup: pair!("subgroup_", $store, [$($part),+], SUBGROUP, $shared),
            matrix: on_units(
                concat!("matmul/matrix_", $store),
                &[
                    include_str!("../../wgsl/enable_matrix.wgsl"),
                    $($part,)+ MATRIX, include_str!("../../wgsl/matrix_unit.wgsl"),
                ],
                $units,
            ),
            #[cfg(test)]
            emulated: on_units(
                concat!("matmul/emulated_", $store),
                &[
                    include_str!("../../wgsl/enable_f16.wgsl"),
                    $($part,)+ MATRIX, include_str!("../../wgsl/matrix_emulated.wgsl"),
                ],
                $units,
            ),
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

const fn on_units(
    name: &'static str,
    parts: &'static [&'static str],
    constants: &'static [(&'static str, u32)],
) -> Kernel {
    Kernel { entry: "on_units", ..kernel(name, parts, constants) }
}

static WRITE: Family = family!("write", [include_str!("store_write.wgsl")], TILE, PLACES, OWN, SHARED, UNITS);
static ADD: Family = family!("add", [include_str!("store_add.wgsl")], TILE, PLACES, OWN, SHARED, UNITS);
static BIAS: Family = family!("bias", [include_str!("store_bias.wgsl")], TILE, PLACES, OWN, SHARED, UNITS);
static BIAS_GELU: Family = family!(
    "bias_gelu",
    [include_str!("../../wgsl/gelu.wgsl"), include_str!("store_bias_gelu.wgsl")],
    TILE_GELU,
    PLACES_GELU,
    OWN_GELU,
    SHARED_GELU,
    UNITS_GELU
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
        self.family().tiled[0].name
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
    /// 16 x 256 by 64 invocations in registers, elements of a handed round in each subgroup. Not for a transposed b.
    Subgroup,
    /// By four matrix units, operands in f16.
    Matrix(Units),
    /// The same without matrix units.
    #[cfg(test)]
    Emulated(Units),
}

/// What four matrix units compute together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Units {
    /// 128 x 128, 16 of the depth at a time: where the contiguous axes are multiples of 4.
    Fours,
    /// 128 x 128, 32 of the depth at a time through doubled tiles: where the contiguous axes are multiples of 8, and
    /// an adapter grants 48 KiB of workgroup memory.
    Deep,
    /// 64 x 64 in the same way in 28 KiB: for outputs of which larger tiles would not fill a GPU.
    Narrow,
}

impl Units {
    pub(super) const ALL: [Units; 3] = [Units::Fours, Units::Deep, Units::Narrow];
    /// Workgroups that keep the GPUs busy that have matrix units: one to each of their processors.
    const FILLING: usize = 128;

    /// Workgroup memory that an adapter must grant.
    pub(super) fn bytes(self) -> u32 {
        match self {
            Units::Fours => 16 << 10,
            Units::Deep => 48 << 10,
            Units::Narrow => 32 << 10,
        }
    }

    /// By shape and what the adapter can do.
    fn choose(abilities: Abilities, form: Form, sizes: Sizes) -> Self {
        let best = if Tile::fills(sizes, Self::FILLING) { Units::Deep } else { Units::Narrow };
        let eights = Tile::contiguous(form, sizes).iter().all(|axis| axis.is_multiple_of(8));
        if eights && best.bytes() <= abilities.workgroup_bytes { best } else { Units::Fours }
    }

    /// Blocks of a unit along each side, depths of a step, tiles of an operand, and fours that are read together.
    fn constants(self) -> [(&'static str, u32); 4] {
        let [own, bk, buffers, together] = match self {
            Units::Fours => [4, 16, 1, 1],
            Units::Deep => [4, 32, 2, 2],
            Units::Narrow => [2, 32, 2, 2],
        };
        [("OWN", own), ("BK", bk), ("BUFFERS", buffers), ("TOGETHER", together)]
    }
}

impl Tile {
    /// All but those of matrix units, which have no form for operands in f32.
    pub(super) const PLAIN: [Tile; 5] = [Tile::Small, Tile::Large, Tile::Wide, Tile::Registers, Tile::Subgroup];
    /// Products below which a tile in registers does not pay for its compilation.
    const WORTH: usize = 1 << 22;
    /// Workgroups that keep most GPUs busy.
    const FILLING: usize = 64;
    /// Lanes that a tile in registers takes of a subgroup.
    pub(super) const LANES: u32 = 8;
    /// Depths between which a sum may be cut: whole steps of every tile.
    pub(super) const STEP: usize = 64;

    /// Its word in files.
    pub(super) fn name(self) -> &'static str {
        match self {
            Tile::Small => "small",
            Tile::Large => "large",
            Tile::Wide => "wide",
            Tile::Registers => "registers",
            Tile::Subgroup => "subgroup",
            Tile::Matrix(_) => "matrix",
            #[cfg(test)]
            Tile::Emulated(_) => "emulated",
        }
    }

    /// Rows and columns of the output that one workgroup computes.
    pub(super) fn sides(self) -> (usize, usize) {
        match self {
            Tile::Small => (32, 32),
            Tile::Large => (64, 64),
            Tile::Registers => (32, 64),
            Tile::Subgroup => (16, 256),
            Tile::Matrix(Units::Narrow) => (64, 64),
            #[cfg(test)]
            Tile::Emulated(Units::Narrow) => (64, 64),
            _ => (128, 128),
        }
    }

    /// Depths of k that one dispatch sums; a deeper product takes several. Keeps each dispatch short, and below the
    /// 65,535 rounds of all its loops after which llvmpipe silently leaves a kernel: up to 99 a depth in registers.
    pub(super) fn depth(self) -> usize {
        match self {
            Tile::Registers => 640,
            Tile::Subgroup => 2048,
            _ => 16_384,
        }
    }

    /// Whether b must have contiguous rows.
    pub(super) fn wants_rows_of_b(self) -> bool {
        matches!(self, Tile::Registers | Tile::Subgroup)
    }

    /// Whether the contiguous axes must be multiples of 8.
    pub(super) fn wants_eights(self) -> bool {
        matches!(self, Tile::Matrix(units) if units != Units::Fours)
    }

    /// By shape and what the adapter can do.
    pub(super) fn choose(abilities: Abilities, precision: Precision, form: Form, sizes: Sizes) -> Self {
        let Sizes { m, n, k, .. } = sizes;
        if abilities.software {
            let worth = n.is_multiple_of(4) && m >= 16 && n >= 64 && m * n * k >= Self::WORTH;
            return if worth && abilities.lanes >= Self::LANES { Tile::Registers } else { Tile::Small };
        }
        let in_fours = Self::in_fours(form, sizes);
        if precision == Precision::F16 && abilities.matrices && in_fours && m >= 64 && n >= 64 {
            Tile::Matrix(Units::choose(abilities, form, sizes))
        } else if in_fours && Self::fills(sizes, Self::FILLING) {
            Tile::Wide
        } else if m < 64 || n < 64 {
            Tile::Small
        } else {
            Tile::Large
        }
    }

    /// Whether both operands can be read four elements at a time.
    pub(super) fn in_fours(form: Form, sizes: Sizes) -> bool {
        Self::contiguous(form, sizes).iter().all(|axis| axis.is_multiple_of(4))
    }

    /// The axes along which the operands lie in memory.
    fn contiguous(form: Form, Sizes { m, n, k, .. }: Sizes) -> [usize; 2] {
        match form {
            Form::AB => [k, n],
            Form::ABt => [k, k],
            Form::AtB => [m, n],
        }
    }

    /// Whether tiles of 128 x 128 are so many, and lie on the output without much waste.
    fn fills(Sizes { z, m, n, .. }: Sizes, workgroups: usize) -> bool {
        let tiles = m.div_ceil(128) * n.div_ceil(128);
        tiles * z >= workgroups && tiles * 128 * 128 <= m * n / 4 * 5
    }
}

/// The kernel of a product whose operands are stored in f16 where `halves`.
pub(super) fn variant(form: Form, store: Store, tile: Tile, halves: bool) -> Variant {
    let (ta, tb) = (u32::from(form == Form::AtB), u32::from(form == Form::ABt));
    let (family, stored) = (store.family(), usize::from(halves));
    let mut constants = vec![("TA", ta)];
    if let Store::BiasGelu(gelu) = store {
        constants.push(("GELU", gelu.code()));
    }
    if !tile.wants_rows_of_b() {
        constants.push(("TB", tb));
    }
    let kernel = match tile {
        Tile::Small | Tile::Large => {
            let (rows, cols) = tile.sides();
            constants.extend([("BM", rows as u32), ("BN", cols as u32)]);
            &family.tiled[stored]
        }
        Tile::Wide => &family.wide[stored],
        Tile::Registers => &family.registers[stored],
        Tile::Subgroup => &family.subgroup[stored],
        Tile::Matrix(units) => {
            constants.extend(units.constants());
            &family.matrix
        }
        #[cfg(test)]
        Tile::Emulated(units) => {
            constants.extend(units.constants());
            &family.emulated
        }
    };
    kernel.with(&constants)
}

/// The transpose of a matrix.
pub(super) fn transpose() -> Variant {
    TRANSPOSE.default_variant()
}

/// Every form and end of products by one tile.
pub(super) fn ends(tile: Tile) -> Vec<(Form, Store)> {
    let plain: &[Form] = if tile.wants_rows_of_b() { &[Form::AB, Form::AtB] } else { &Form::ALL };
    let layer = if tile.wants_rows_of_b() { Form::AB } else { Form::ABt };
    let ends = plain.iter().flat_map(|form| [Store::Write, Store::Add].map(|store| (*form, store)));
    let layers = [Store::Bias].into_iter().chain(Gelu::ALL.map(Store::BiasGelu)).map(|store| (layer, store));
    ends.chain(layers).collect()
}

fn of_tile(tile: Tile, halves: bool) -> Vec<Variant> {
    ends(tile).into_iter().map(|(form, store)| variant(form, store, tile, halves)).collect()
}

pub(super) fn variants() -> Vec<Variant> {
    let stored = Tile::PLAIN.into_iter().flat_map(|tile| [false, true].map(|halves| of_tile(tile, halves)));
    let on_units = Units::ALL.map(|units| of_tile(Tile::Matrix(units), true));
    [vec![transpose()]].into_iter().chain(on_units).chain(stored).flatten().collect()
}

//! The matrix product's kernels: what becomes of a sum, which operand is transposed, and the tile.

use crate::catalog::{Kernel, Sent, Variant};
use crate::ops::gelu::Gelu;

use super::{Form, Parameters};

const BODY: &str = include_str!("matmul.wgsl");
const TILE: &[(&str, u32)] = &[("TA", 0), ("TB", 0), ("BM", 32), ("BN", 32), ("BK", 16), ("TM", 4), ("TN", 4)];
const TILE_GELU: &[(&str, u32)] =
    &[("TA", 0), ("TB", 0), ("BM", 32), ("BN", 32), ("BK", 16), ("TM", 4), ("TN", 4), ("GELU", 0)];

static WRITE: Kernel = Kernel {
    name: "matmul/write",
    entry: "product",
    parts: &[include_str!("store_write.wgsl"), BODY],
    constants: TILE,
    parameters: Parameters::FIELDS,
};
static ADD: Kernel = Kernel {
    name: "matmul/add",
    entry: "product",
    parts: &[include_str!("store_add.wgsl"), BODY],
    constants: TILE,
    parameters: Parameters::FIELDS,
};
static BIAS: Kernel = Kernel {
    name: "matmul/bias",
    entry: "product",
    parts: &[include_str!("store_bias.wgsl"), BODY],
    constants: TILE,
    parameters: Parameters::FIELDS,
};
static BIAS_GELU: Kernel = Kernel {
    name: "matmul/bias_gelu",
    entry: "product",
    parts: &[include_str!("../../wgsl/gelu.wgsl"), include_str!("store_bias_gelu.wgsl"), BODY],
    constants: TILE_GELU,
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
    fn kernel(self) -> &'static Kernel {
        match self {
            Store::Write => &WRITE,
            Store::Add => &ADD,
            Store::Bias => &BIAS,
            Store::BiasGelu(_) => &BIAS_GELU,
        }
    }

    /// What a profile calls a product that ends so.
    pub(super) fn name(self) -> &'static str {
        self.kernel().name
    }
}

/// Rows and columns of the output that one workgroup computes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Tile {
    /// 32 x 32 by 64 invocations: small products, and adapters that are emulated.
    Small,
    /// 64 x 64 by 256 invocations.
    Large,
}

impl Tile {
    pub(super) fn side(self) -> usize {
        match self {
            Tile::Small => 32,
            Tile::Large => 64,
        }
    }

    /// By shape and kind of adapter.
    pub(super) fn choose(software: bool, m: usize, n: usize) -> Self {
        if software || m < 64 || n < 64 { Tile::Small } else { Tile::Large }
    }
}

pub(super) fn variant(form: Form, store: Store, tile: Tile) -> Variant {
    let side = tile.side() as u32;
    let (ta, tb) = (u32::from(form == Form::AtB), u32::from(form == Form::ABt));
    let mut constants = vec![("TA", ta), ("TB", tb), ("BM", side), ("BN", side)];
    if let Store::BiasGelu(gelu) = store {
        constants.push(("GELU", gelu.code()));
    }
    store.kernel().with(&constants)
}

pub(super) fn variants() -> Vec<Variant> {
    let mut all = Vec::new();
    for tile in [Tile::Small, Tile::Large] {
        for form in [Form::AB, Form::ABt, Form::AtB] {
            all.extend([Store::Write, Store::Add].map(|store| variant(form, store, tile)));
        }
        all.push(variant(Form::ABt, Store::Bias, tile));
        all.extend(Gelu::ALL.map(|gelu| variant(Form::ABt, Store::BiasGelu(gelu), tile)));
    }
    all
}

//! Attention's kernels, by strips of 32 columns that a head takes, in f32 or by matrix units.

use super::{MAX_HEAD_DIM, Saved};
use crate::catalog::{Kernel, Sent, Variant, parameters};
use crate::ops::{cast, matmul};
use crate::rows::Bound;
use crate::{DType, Grid, Pass, Precision, Result, Tensor};

/// Queries or keys of a workgroup, and columns of a strip.
const SIDE: usize = 32;

const TILE: &[(&str, u32)] = &[("WG", 64), ("STRIPS", 2)];
const SIZES: &str = include_str!("attention.wgsl");
const TILES: &str = include_str!("tiles.wgsl");

/// The kernels that are made for one kind of operands.
struct Family {
    forward: Kernel,
    query: Kernel,
    key: Kernel,
}

const fn kernel(name: &'static str, entry: &'static str, parts: &'static [&'static str]) -> Kernel {
    Kernel { name, entry, parts, constants: TILE, parameters: Parameters::FIELDS }
}

macro_rules! on_units {
    ($prefix:literal, $enable:expr, $unit:expr) => {
        on_units!($prefix, [$enable, SIZES, include_str!("matrix.wgsl")], include_str!("matrix_backward.wgsl"), $unit)
    };
    ($prefix:literal, [$($shared:expr),+], $backward:expr, $unit:expr) => {
        Family {
            forward: kernel(
                concat!($prefix, "forward"),
                "on_units",
                &[$($shared,)+ include_str!("matrix_forward.wgsl"), $unit],
            ),
            query: kernel(
                concat!($prefix, "backward_query"),
                "on_units",
                &[$($shared,)+ $backward, include_str!("matrix_backward_query.wgsl"), $unit],
            ),
            key: kernel(
                concat!($prefix, "backward_key"),
                "on_units",
                &[$($shared,)+ $backward, include_str!("matrix_backward_key.wgsl"), $unit],
            ),
        }
    };
}

const BACKWARD: &[&str] = &[SIZES, TILES, include_str!("backward.wgsl")];
static PLAIN: Family = Family {
    forward: kernel("attention/forward", "forward", &[SIZES, TILES, include_str!("forward.wgsl")]),
    query: kernel("attention/backward_query", "backward_query", BACKWARD),
    key: kernel("attention/backward_key", "backward_key", BACKWARD),
};
static MATRIX: Family = on_units!(
    "attention/matrix_",
    include_str!("../../wgsl/enable_matrix.wgsl"),
    include_str!("../../wgsl/matrix_unit.wgsl")
);
#[cfg(test)]
static EMULATED: Family = on_units!(
    "attention/emulated_",
    include_str!("../../wgsl/enable_f16.wgsl"),
    include_str!("../../wgsl/matrix_emulated.wgsl")
);
static DELTA: Kernel = Kernel {
    name: "attention/delta",
    entry: "delta_rows",
    parts: &[include_str!("delta.wgsl")],
    constants: &[("WG", 64)],
    parameters: DeltaParameters::FIELDS,
};

/// What multiplies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Unit {
    /// Plain arithmetic in f32.
    Plain,
    /// Matrix units, operands in f16: for heads of whole fours.
    Matrix,
    /// The same without matrix units.
    #[cfg(test)]
    Emulated,
}

impl Unit {
    /// Heads that matrix units take.
    pub(super) fn takes(head_dim: usize) -> bool {
        head_dim.is_multiple_of(4)
    }

    fn choose(pass: &mut Pass, head_dim: usize) -> Result<Self> {
        let units = pass.precision() == Precision::F16 && pass.abilities().matrices && Self::takes(head_dim);
        let agree = units && matmul::matrices_agree(pass)? && super::trial::attention_agrees(pass)?;
        Ok(if agree { Unit::Matrix } else { Unit::Plain })
    }

    fn family(self) -> &'static Family {
        match self {
            Unit::Plain => &PLAIN,
            Unit::Matrix => &MATRIX,
            #[cfg(test)]
            Unit::Emulated => &EMULATED,
        }
    }
}

pub(super) fn variants() -> Vec<Variant> {
    let kernels = [&PLAIN, &MATRIX].into_iter().flat_map(|family| [&family.forward, &family.query, &family.key]);
    let of_all_heads = |kernel| (SIDE..=MAX_HEAD_DIM).step_by(SIDE).map(move |head_dim| variant(kernel, head_dim));
    [DELTA.default_variant()].into_iter().chain(kernels.flat_map(of_all_heads)).collect()
}

fn variant(kernel: &'static Kernel, head_dim: usize) -> Variant {
    kernel.with(&[("STRIPS", head_dim.div_ceil(SIDE) as u32)])
}

parameters! {
    struct Parameters {
        n: u32,
        heads: u32,
        head_dim: u32,
        q_len: u32,
        k_len: u32,
        q_rows: u32,
        q_stride: u32,
        q_offset: u32,
        kv_stride: u32,
        k_offset: u32,
        v_offset: u32,
        causal: u32,
        has_lengths: u32,
        out_stride: u32,
        out_offset: u32,
        out_second: u32,
        scale: f32,
        first: u32,
    }
}

parameters! {
    struct DeltaParameters {
        n: u32,
        heads: u32,
        head_dim: u32,
        q_len: u32,
    }
}

impl Saved {
    fn parameters(&self) -> Parameters {
        let (operands, shape) = (self.operands, self.operands.shape);
        Parameters {
            n: shape.n as u32,
            heads: shape.heads as u32,
            head_dim: shape.head_dim as u32,
            q_len: shape.q_len as u32,
            k_len: shape.k_len as u32,
            q_rows: operands.q_rows as u32,
            q_stride: operands.q_stride as u32,
            q_offset: operands.q_offset as u32,
            kv_stride: operands.kv_stride as u32,
            k_offset: operands.k_offset as u32,
            v_offset: operands.v_offset as u32,
            causal: u32::from(operands.causal()),
            has_lengths: u32::from(self.lengths.is_some()),
            out_stride: 0,
            out_offset: 0,
            out_second: 0,
            scale: operands.scale(),
            first: 0,
        }
    }

    /// Floating-point operations of one product over all heads, padding to whole tiles included.
    fn product_flops(&self) -> f64 {
        let shape = self.operands.shape;
        let tile = shape.q_len.next_multiple_of(SIDE) * shape.k_len.next_multiple_of(SIDE);
        2.0 * (shape.n * shape.heads * tile * shape.head_dim.next_multiple_of(16)) as f64
    }

    /// Blocks of queries or keys of all heads.
    fn blocks(&self, len: usize) -> usize {
        let shape = self.operands.shape;
        shape.n * shape.heads * len.div_ceil(SIDE)
    }

    /// Queries, keys and values, lengths; without lengths any other tensor takes their binding, and is not read.
    fn bound(&self) -> [Bound<'_>; 3] {
        let shape = self.operands.shape;
        let q = if shape.shared_query { Bound::Whole(&self.q) } else { by_example(&self.q, shape.n) };
        let lengths = self.lengths.as_ref().unwrap_or(&self.kv);
        [q, by_example(&self.kv, shape.n), by_example(lengths, shape.n)]
    }
}

/// A tensor bound by examples, of which there are n.
fn by_example(tensor: &Tensor, n: usize) -> Bound<'_> {
    Bound::Rows(tensor, tensor.len() / n)
}

/// Dispatches a kernel with one workgroup a block, so many blocks at a time that none takes long; `blocks` and `flops` are of
/// all examples.
fn dispatch(
    pass: &mut Pass,
    variant: &Variant,
    bound: &[Bound<'_>],
    parameters: Parameters,
    blocks: usize,
    flops: f64,
) -> Result<()> {
    let n = parameters.n as usize;
    for examples in pass.slices(n, 1, bound) {
        let share = examples.len() as f64 / n as f64;
        let (blocks, flops) = (blocks / n * examples.len(), flops * share);
        let most = pass.parts_of_a_dispatch(blocks, flops);
        for first in (0..blocks).step_by(most) {
            let count = most.min(blocks - first);
            let share = flops * count as f64 / blocks as f64;
            let parameters = Parameters { n: examples.len() as u32, first: first as u32, ..parameters };
            pass.dispatch_slice(variant, bound, examples.clone(), parameters, Grid::rows(count), share)?;
        }
    }
    Ok(())
}

/// Writes `saved.y` and `saved.lse`; for matrix units it also rounds the operands that it keeps.
pub(super) fn forward(pass: &mut Pass, saved: &mut Saved) -> Result<()> {
    let unit = Unit::choose(pass, saved.operands.shape.head_dim)?;
    forward_by(pass, unit, saved)
}

pub(super) fn forward_by(pass: &mut Pass, unit: Unit, saved: &mut Saved) -> Result<()> {
    let shape = saved.operands.shape;
    if unit != Unit::Plain {
        let kv = cast::to_f16(pass, &saved.kv)?;
        saved.q = if saved.operands.is_packed() { kv.clone() } else { cast::to_f16(pass, &saved.q)? };
        saved.kv = kv;
    }
    let parameters = Parameters { out_stride: saved.y.cols() as u32, ..saved.parameters() };
    let [q, kv, lengths] = saved.bound();
    let bound = [q, kv, lengths, by_example(&saved.y, shape.n), by_example(&saved.lse, shape.n)];
    let (blocks, products) = (saved.blocks(shape.q_len), if unit == Unit::Plain { 2.0 } else { 3.0 });
    let variant = variant(&unit.family().forward, shape.head_dim);
    dispatch(pass, &variant, &bound, parameters, blocks, products * saved.product_flops())
}

/// Writes `dq` [n * q_len, ..] and `dkv`, which may be one packed tensor.
pub(super) fn backward(pass: &mut Pass, saved: &Saved, dy: &Tensor, dq: &Tensor, dkv: &Tensor) -> Result<()> {
    let unit = if saved.q.dtype() == DType::F16 { Unit::Matrix } else { Unit::Plain };
    backward_by(pass, unit, saved, dy, dq, dkv)
}

pub(super) fn backward_by(
    pass: &mut Pass,
    unit: Unit,
    saved: &Saved,
    dy: &Tensor,
    dq: &Tensor,
    dkv: &Tensor,
) -> Result<()> {
    let (operands, shape) = (saved.operands, saved.operands.shape);
    let delta = pass.empty_f32(saved.lse.shape())?;
    let sizes = DeltaParameters {
        n: shape.n as u32,
        heads: shape.heads as u32,
        head_dim: shape.head_dim as u32,
        q_len: shape.q_len as u32,
    };
    let bound = [&saved.y, dy, &delta].map(|tensor| by_example(tensor, shape.n));
    pass.dispatch_rows(&DELTA.default_variant(), shape.n, &bound, 2.0 * dy.len() as f64, |examples| {
        let n = examples.len();
        (DeltaParameters { n: n as u32, ..sizes }, Grid::rows((n * shape.heads * shape.q_len).div_ceil(64)))
    })?;

    let rounded = if unit == Unit::Plain { None } else { Some(cast::to_f16(pass, dy)?) };
    let dy = rounded.as_ref().unwrap_or(dy);
    let family = unit.family();
    let by_query =
        Parameters { out_stride: dq.cols() as u32, out_offset: operands.q_offset as u32, ..saved.parameters() };
    let [q, kv, lengths] = saved.bound();
    let [dy, lse, delta, dq_bound, dkv_bound] =
        [dy, &saved.lse, &delta, dq, dkv].map(|tensor| by_example(tensor, shape.n));
    let bound = [q, kv, lengths, dy, lse, delta, dq_bound];
    let (blocks, flops) = (saved.blocks(shape.q_len), 3.0 * saved.product_flops());
    dispatch(pass, &variant(&family.query, shape.head_dim), &bound, by_query, blocks, flops)?;

    let by_key = Parameters {
        out_stride: dkv.cols() as u32,
        out_offset: operands.k_offset as u32,
        out_second: operands.v_offset as u32,
        ..saved.parameters()
    };
    let bound = [q, kv, lengths, dy, lse, delta, dkv_bound];
    let (blocks, flops) = (saved.blocks(shape.k_len), 4.0 * saved.product_flops());
    dispatch(pass, &variant(&family.key, shape.head_dim), &bound, by_key, blocks, flops)
}

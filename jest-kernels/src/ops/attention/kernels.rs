//! Attention's kernels, by strips of 32 columns that a head takes.

use super::{MAX_HEAD_DIM, Saved};
use crate::catalog::{Kernel, Sent, Variant, parameters};
use crate::{Grid, Pass, Result, Tensor};

/// Queries or keys of a workgroup, and columns of a strip.
const SIDE: usize = 32;

const TILE: &[(&str, u32)] = &[("WG", 64), ("STRIPS", 2)];
const BACKWARD: &[&str] = &[include_str!("attention.wgsl"), include_str!("backward.wgsl")];
static FORWARD: Kernel = Kernel {
    name: "attention/forward",
    entry: "forward",
    parts: &[include_str!("attention.wgsl"), include_str!("forward.wgsl")],
    constants: TILE,
    parameters: Parameters::FIELDS,
};
static DELTA: Kernel = Kernel {
    name: "attention/delta",
    entry: "delta_rows",
    parts: &[include_str!("delta.wgsl")],
    constants: &[("WG", 64)],
    parameters: DeltaParameters::FIELDS,
};
static QUERY: Kernel = Kernel {
    name: "attention/backward_query",
    entry: "backward_query",
    parts: BACKWARD,
    constants: TILE,
    parameters: Parameters::FIELDS,
};
static KEY: Kernel = Kernel {
    name: "attention/backward_key",
    entry: "backward_key",
    parts: BACKWARD,
    constants: TILE,
    parameters: Parameters::FIELDS,
};

pub(super) fn variants() -> Vec<Variant> {
    let mut all = vec![DELTA.default_variant()];
    for head_dim in (SIDE..=MAX_HEAD_DIM).step_by(SIDE) {
        all.extend([&FORWARD, &QUERY, &KEY].map(|kernel| variant(kernel, head_dim)));
    }
    all
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

    /// Without lengths any other tensor takes their binding; it is not read.
    fn lengths(&self) -> &Tensor {
        self.lengths.as_ref().unwrap_or(&self.kv)
    }
}

/// Dispatches a kernel with one workgroup a block, so many blocks at a time that none takes long.
fn dispatch(
    pass: &mut Pass,
    variant: &Variant,
    tensors: &[&Tensor],
    parameters: Parameters,
    blocks: usize,
    flops: f64,
) -> Result<()> {
    let most = pass.parts_of_a_dispatch(blocks, flops);
    for first in (0..blocks).step_by(most) {
        let count = most.min(blocks - first);
        let share = flops * count as f64 / blocks as f64;
        let parameters = Parameters { first: first as u32, ..parameters };
        pass.dispatch(variant, tensors, parameters, Grid::rows(count), share)?;
    }
    Ok(())
}

/// Writes `saved.y` and `saved.lse`.
pub(super) fn forward(pass: &mut Pass, saved: &Saved) -> Result<()> {
    let shape = saved.operands.shape;
    let tensors = [&saved.q, &saved.kv, saved.lengths(), &saved.y, &saved.lse];
    let (blocks, flops) = (saved.blocks(shape.q_len), 2.0 * saved.product_flops());
    dispatch(pass, &variant(&FORWARD, shape.head_dim), &tensors, saved.parameters(), blocks, flops)
}

/// Writes `dq` [n * q_len, ..] and `dkv`, which may be one packed tensor.
pub(super) fn backward(pass: &mut Pass, saved: &Saved, dy: &Tensor, dq: &Tensor, dkv: &Tensor) -> Result<()> {
    let (operands, shape) = (saved.operands, saved.operands.shape);
    let delta = pass.empty_f32(saved.lse.shape())?;
    let sizes = DeltaParameters {
        n: shape.n as u32,
        heads: shape.heads as u32,
        head_dim: shape.head_dim as u32,
        q_len: shape.q_len as u32,
    };
    let grid = Grid::rows(delta.len().div_ceil(64));
    pass.dispatch(&DELTA.default_variant(), &[&saved.y, dy, &delta], sizes, grid, 2.0 * dy.len() as f64)?;

    let by_query =
        Parameters { out_stride: dq.cols() as u32, out_offset: operands.q_offset as u32, ..saved.parameters() };
    let tensors = [&saved.q, &saved.kv, saved.lengths(), dy, &saved.lse, &delta, dq];
    let (blocks, flops) = (saved.blocks(shape.q_len), 3.0 * saved.product_flops());
    dispatch(pass, &variant(&QUERY, shape.head_dim), &tensors, by_query, blocks, flops)?;

    let by_key = Parameters {
        out_stride: dkv.cols() as u32,
        out_offset: operands.k_offset as u32,
        out_second: operands.v_offset as u32,
        ..saved.parameters()
    };
    let tensors = [&saved.q, &saved.kv, saved.lengths(), dy, &saved.lse, &delta, dkv];
    let (blocks, flops) = (saved.blocks(shape.k_len), 4.0 * saved.product_flops());
    dispatch(pass, &variant(&KEY, shape.head_dim), &tensors, by_key, blocks, flops)
}

//! Matrix products: `a · b`, `a · bᵀ`, `aᵀ · b`, one or a batch, with bias, GELU, or added to the output.
//!
//! A device opened with [`Precision::Bf16`] or [`Precision::F16`] rounds the operands; sums are f32 either way. For f16
//! a copy of each operand is made in half the memory: it is made once, and read by every workgroup of its row or column.

pub(crate) mod by_hand;
pub(crate) mod cpu;
mod dispatch;
mod kernels;
mod layers;
mod native;
pub mod oracle;
mod packed;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_cpu;
#[cfg(test)]
mod tests_f16;
#[cfg(test)]
mod tests_tiles;
mod trial;
pub(crate) mod tuning;

pub use layers::{linear, linear_active, linear_backward, linear_gelu, linear_onto, linear_to_product, through_gelu};

use kernels::{Store, Tile};
use native::Ends;
pub(crate) use trial::{matrices_agree, once};

use crate::catalog::{Variant, parameters};
use crate::{Grid, KernelError, Pass, Precision, Result, Tensor};

const OP: &str = "matmul";

pub(crate) fn variants() -> Vec<Variant> {
    kernels::variants()
}

/// `y [m, n]` from (m, n, k, a, b).
pub(crate) type Oracle = fn(usize, usize, usize, &[f64], &[f64]) -> Vec<f64>;

/// Which operand lies transposed in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `a [m, k] · b [k, n]`.
    AB,
    /// `a [m, k] · bᵀ`, b [n, k]: a linear layer, forward.
    ABt,
    /// `aᵀ · b`, a [k, m], b [k, n]: the gradient of a weight.
    AtB,
}

impl Form {
    /// All forms.
    pub const ALL: [Form; 3] = [Form::AB, Form::ABt, Form::AtB];

    /// What reports call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Form::AB => "a · b",
            Form::ABt => "a · bᵀ",
            Form::AtB => "aᵀ · b",
        }
    }

    /// How the operands of an [m, n] product over k lie in memory.
    pub(crate) fn shapes(self, m: usize, n: usize, k: usize) -> ([usize; 2], [usize; 2]) {
        match self {
            Form::AB => ([m, k], [k, n]),
            Form::ABt => ([m, k], [n, k]),
            Form::AtB => ([k, m], [k, n]),
        }
    }

    /// The oracle of the form.
    pub(crate) fn oracle(self) -> Oracle {
        match self {
            Form::AB => oracle::ab,
            Form::ABt => oracle::abt,
            Form::AtB => oracle::atb,
        }
    }
}

parameters! {
    struct Parameters {
        m: u32,
        n: u32,
        k: u32,
        first: u32,
        last: u32,
        layer: u32,
    }
}

impl Parameters {
    fn new(sizes: Sizes, depths: std::ops::Range<usize>, layer: usize) -> Self {
        let [m, n, k, first, last, layer] =
            [sizes.m, sizes.n, sizes.k, depths.start, depths.end, layer].map(|size| size as u32);
        Self { m, n, k, first, last, layer }
    }
}

/// Sizes of a batch of products.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    z: usize,
    m: usize,
    n: usize,
    k: usize,
}

impl Sizes {
    /// Of two matrices given as (rows, cols).
    fn new(form: Form, z: usize, a: (usize, usize), b: (usize, usize)) -> Result<Self> {
        let (m, k) = if form == Form::AtB { (a.1, a.0) } else { a };
        let (n, depth) = if form == Form::ABt { b } else { (b.1, b.0) };
        if depth != k {
            let (expected, got) = (vec![k], vec![depth]);
            return Err(KernelError::Shape { op: OP, what: "inner length of b", expected, got });
        }
        Ok(Self { z, m, n, k })
    }

    fn flops(self) -> f64 {
        2.0 * (self.z * self.m) as f64 * (self.n * self.k) as f64
    }
}

/// The product of two matrices.
///
/// # Shapes
/// By [`Form`]; all axes of an operand but the last count as rows. y: [m, n], or with the leading axes of a unless it
/// is transposed.
///
/// # Errors
/// `Shape` when the inner lengths differ.
pub fn forward(pass: &mut Pass, form: Form, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let sizes = Sizes::new(form, 1, (a.rows(), a.cols()), (b.rows(), b.cols()))?;
    let shape = output_shape(form, a, sizes);
    let mut y = pass.empty_f32(&shape)?;
    run(pass, form, Store::Write, sizes, [a, b], Ends::default(), &mut y, None)?;
    Ok(y)
}

/// One product for each index of the first axis.
///
/// # Shapes
/// a: [z, m, k], b: [z, k, n] or as [`Form`] says; y: [z, m, n].
///
/// # Errors
/// `Shape` when the operands are not rank 3, or the batches or inner lengths differ.
pub fn batched(pass: &mut Pass, form: Form, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let (&[z, a_rows, a_cols], &[z_b, b_rows, b_cols]) = (a.shape(), b.shape()) else {
        let (expected, got) = (vec![3, 3], vec![a.shape().len(), b.shape().len()]);
        return Err(KernelError::Shape { op: OP, what: "ranks of a and b", expected, got });
    };
    if z != z_b {
        return Err(KernelError::Shape { op: OP, what: "batch of b", expected: vec![z], got: vec![z_b] });
    }
    let sizes = Sizes::new(form, z, (a_rows, a_cols), (b_rows, b_cols))?;
    let mut y = pass.empty_f32(&[z, sizes.m, sizes.n])?;
    run(pass, form, Store::Write, sizes, [a, b], Ends::default(), &mut y, None)?;
    Ok(y)
}

/// `out += a · b`.
///
/// # Shapes
/// As [`forward`]; out: [m, n] in any shape of as many elements.
///
/// # Errors
/// `Shape` when the sizes do not fit.
pub fn accumulate(pass: &mut Pass, form: Form, a: &Tensor, b: &Tensor, out: &mut Tensor) -> Result<()> {
    let sizes = Sizes::new(form, 1, (a.rows(), a.cols()), (b.rows(), b.cols()))?;
    if out.len() != sizes.m * sizes.n {
        let (expected, got) = (vec![sizes.m, sizes.n], out.shape().to_vec());
        return Err(KernelError::Shape { op: OP, what: "out", expected, got });
    }
    out.expect_f32(OP, "out", out.shape())?;
    pass.admit(OP, &[("out", out)])?;
    if let Some(parts) = dispatch::split(pass, form, sizes) {
        pass.admit(OP, &[("a", a), ("b", b)])?;
        check_operands(pass, [("a", a), ("b", b)])?;
        return dispatch::in_parts(pass, parts, sizes, [a, b], out);
    }
    out.gpu_unique(pass)?;
    run(pass, form, Store::Add, sizes, [a, b], Ends::default(), out, None)
}

fn output_shape(form: Form, a: &Tensor, sizes: Sizes) -> Vec<usize> {
    let mut shape = if form == Form::AtB { vec![sizes.m] } else { a.shape()[..a.shape().len() - 1].to_vec() };
    shape.push(sizes.n);
    shape
}

/// Refuses elements that a product does not read.
fn check_operands(pass: &Pass, operands: [(&'static str, &Tensor); 2]) -> Result<()> {
    let rounded = pass.product_operand();
    operands
        .into_iter()
        .filter(|(_, x)| x.dtype() != rounded)
        .try_for_each(|(what, x)| x.expect_f32(OP, what, x.shape()))
}

#[expect(clippy::too_many_arguments, reason = "the one place where all forms of the product meet")]
fn run(
    pass: &mut Pass,
    form: Form,
    store: Store,
    sizes: Sizes,
    [a, b]: [&Tensor; 2],
    ends: Ends<'_>,
    y: &mut Tensor,
    slope: Option<&mut Tensor>,
) -> Result<()> {
    pass.admit(OP, &[("a", a), ("b", b), ("out", y)])?;
    check_operands(pass, [("a", a), ("b", b)])?;
    if let Some(bias) = ends.bias {
        pass.admit(OP, &[("bias", bias)])?;
    }
    let tile = tuning::choose(pass, form, sizes)?;
    run_with(pass, tile, form, store, sizes, [a, b], ends, y, slope)
}

#[expect(clippy::too_many_arguments, reason = "as `run`")]
fn run_with(
    pass: &mut Pass,
    tile: Tile,
    form: Form,
    store: Store,
    sizes: Sizes,
    [a, b]: [&Tensor; 2],
    ends: Ends<'_>,
    y: &mut Tensor,
    slope: Option<&mut Tensor>,
) -> Result<()> {
    let by_rows = pass.cpu().is_none() && tile.wants_rows_of_b() && form == Form::ABt;
    let transposed;
    let (form, b) = if by_rows && sizes.z == 1 {
        transposed = transpose(pass, b)?;
        (Form::AB, &transposed)
    } else {
        (form, b)
    };
    let halves = rounded(pass, [a, b])?;
    let [a, b] = halves.as_ref().map_or([a, b], |halves| halves.each_ref());
    if pass.cpu().is_some() {
        return native::run(pass, form, store, sizes, [a, b], ends, y, slope);
    }
    debug_assert!(ends.residual.is_none(), "no shader adds one");
    let tile = if form == Form::ABt && tile.wants_rows_of_b() { Tile::Small } else { tile };
    let mut tensors: Vec<&Tensor> = vec![a, b, y];
    tensors.extend(ends.bias);
    tensors.extend(slope.as_deref());
    dispatch::all(pass, form, store, sizes, tile, &tensors)
}

/// Both operands rounded, where the precision is one that rounds in a kernel of its own.
fn rounded(pass: &mut Pass, [a, b]: [&Tensor; 2]) -> Result<Option<[Tensor; 2]>> {
    if pass.precision() == Precision::F16 { Ok(Some([round(pass, a)?, round(pass, b)?])) } else { Ok(None) }
}

/// The operand in f16; on the CPU device, which multiplies in f32, the f32 values of that.
fn round(pass: &mut Pass, x: &Tensor) -> Result<Tensor> {
    let stored = super::cast::to_f16(pass, x)?;
    if pass.cpu().is_some() { super::cast::to_f32(pass, &stored) } else { Ok(stored) }
}

/// A matrix's transpose, on a GPU.
fn transpose(pass: &mut Pass, x: &Tensor) -> Result<Tensor> {
    let (m, n) = (x.rows(), x.cols());
    let out = pass.empty_f32(&[n, m])?;
    let parameters = Parameters::new(Sizes { z: 1, m, n, k: 0 }, 0..0, 0);
    let grid = Grid::rows(m.div_ceil(16) * n.div_ceil(16));
    pass.dispatch(&kernels::transpose(), &[x, &out], parameters, grid, x.len() as f64)?;
    Ok(out)
}

//! Rows of a matrix as a tensor of their own, and back, on a GPU.

use crate::catalog::{Kernel, Sent, Variant, parameters};
use crate::{Grid, Pass, Result, Tensor};

/// Images whose products are in memory at once: enough rows to fill a GPU.
const STRIPE: usize = 1024;

/// Rows of a stripe of an [n, n] matrix: never more than half of them, so that the matrix is never stored.
pub(crate) fn rows(n: usize) -> usize {
    STRIPE.min(n.div_ceil(2))
}
const WG: usize = 64;

static ROWS: Kernel = Kernel {
    name: "stripes/rows",
    entry: "rows",
    parts: &[include_str!("rows.wgsl")],
    constants: &[("WG", WG as u32)],
    parameters: Parameters::FIELDS,
};

pub(crate) fn variants() -> Vec<Variant> {
    vec![ROWS.default_variant()]
}

parameters! {
    struct Parameters {
        source: u32,
        goal: u32,
        len: u32,
    }
}

/// Rows `first..first + rows` of x.
pub(crate) fn take(pass: &mut Pass, x: &Tensor, first: usize, rows: usize) -> Result<Tensor> {
    if rows == x.rows() {
        return Ok(x.clone());
    }
    let out = pass.empty_f32(&[rows, x.cols()])?;
    copy(pass, x, first, &out, 0, rows)?;
    Ok(out)
}

/// Overwrites the rows of y from `first` on with those of x; every row of y is written by some call.
pub(crate) fn put(pass: &mut Pass, x: Tensor, y: &mut Tensor, first: usize) -> Result<()> {
    if x.rows() == y.rows() {
        *y = x;
        return Ok(());
    }
    copy(pass, &x, 0, y, first, x.rows())
}

fn copy(pass: &mut Pass, x: &Tensor, from: usize, y: &Tensor, to: usize, rows: usize) -> Result<()> {
    let cols = x.cols();
    let parameters = Parameters { source: (from * cols) as u32, goal: (to * cols) as u32, len: (rows * cols) as u32 };
    let grid = Grid::rows((rows * cols).div_ceil(WG));
    pass.dispatch(&ROWS.default_variant(), &[x, y], parameters, grid, (rows * cols) as f64)
}

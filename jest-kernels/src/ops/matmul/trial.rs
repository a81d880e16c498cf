//! Whether an adapter's matrix units multiply as they should, tried once before they are used.

use super::kernels::{self, Store, Tile};
use super::{Form, Parameters, Sizes};
use crate::catalog::Variant;
use crate::device::Backend;
use crate::{Grid, Pass, Result};

/// Sizes of the trial: beyond one tile in rows and columns, and not a whole step of depths.
const SIZES: Sizes = Sizes { z: 1, m: 132, n: 148, k: 40 };

/// True when the products of every form are exact where they are whole numbers. A driver that refuses the kernel, or
/// computes something else, is left to plainer kernels.
pub(crate) fn matrices_agree(pass: &mut Pass) -> bool {
    let device = pass.device().clone();
    let Backend::Gpu(gpu) = device.backend() else { return false };
    let units = |form| kernels::variant(form, Store::Write, Tile::Matrix, true);
    *gpu.matrices_agree.get_or_init(|| Form::ALL.iter().all(|form| agrees(pass, *form, &units(*form)).unwrap_or(false)))
}

/// Multiplies small whole numbers, whose products and sums are exact in f16 and f32.
pub(super) fn agrees(pass: &mut Pass, form: Form, variant: &Variant) -> Result<bool> {
    let Sizes { m, n, k, .. } = SIZES;
    let left = |row: usize, depth: usize| ((3 * row + 5 * depth) % 17) as f32 - 8.0;
    let right = |depth: usize, col: usize| ((7 * depth + 2 * col) % 13) as f32 - 6.0;
    let fill = |rows: usize, cols: usize, at: &dyn Fn(usize, usize) -> f32| -> Vec<f32> {
        (0..rows * cols).map(|i| at(i / cols, i % cols)).collect()
    };
    let a = match form {
        Form::AtB => pass.upload(&fill(k, m, &|depth, row| left(row, depth)), &[k, m])?,
        _ => pass.upload(&fill(m, k, &left), &[m, k])?,
    };
    let b = match form {
        Form::ABt => pass.upload(&fill(n, k, &|col, depth| right(depth, col)), &[n, k])?,
        _ => pass.upload(&fill(k, n, &right), &[k, n])?,
    };
    let [a, b] = [super::round(pass, &a)?, super::round(pass, &b)?];
    let y = pass.zeros(&[m, n])?;
    let (rows, cols) = Tile::Matrix.sides();
    let grid = Grid::rows(m.div_ceil(rows) * n.div_ceil(cols));
    pass.dispatch(variant, &[&a, &b, &y], Parameters::new(SIZES, 0..k, 0), grid, 0.0)?;
    let y = pass.read(&y)?;
    let want = |row: usize, col: usize| (0..k).map(|depth| left(row, depth) * right(depth, col)).sum::<f32>();
    Ok((0..m * n).all(|i| y[i] == want(i / n, i % n)))
}

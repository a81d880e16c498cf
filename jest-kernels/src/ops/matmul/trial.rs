//! Whether an adapter's matrix units multiply as they should, tried once before they are used.

use std::sync::OnceLock;

use super::kernels::{self, Store, Tile, Units};
use super::{Form, Parameters, Sizes};
use crate::catalog::Variant;
use crate::device::Backend;
use crate::device::gpu::Gpu;
use crate::{Grid, KernelError, Pass, Result};

/// Sizes of the trial: beyond one tile in rows and columns, and several steps of depths, the last not whole.
const SIZES: Sizes = Sizes { z: 1, m: 136, n: 152, k: 104 };

/// True when the products of every form are exact where they are whole numbers. A driver that refuses the kernel, or
/// computes something else, is left to plainer kernels.
///
/// # Errors
/// What says nothing of the units, as `OutOfMemory` and `Lost`: they are tried again at the next call.
pub(crate) fn matrices_agree(pass: &mut Pass) -> Result<bool> {
    agree(pass, &[Units::Fours], |gpu| &gpu.matrices_agree)
}

/// The same of the doubled tiles that the adapter has the memory for.
pub(super) fn doubled_tiles_agree(pass: &mut Pass) -> Result<bool> {
    agree(pass, &[Units::Deep, Units::Narrow], |gpu| &gpu.doubled_tiles_agree)
}

fn agree(pass: &mut Pass, tried: &[Units], told: fn(&Gpu) -> &OnceLock<bool>) -> Result<bool> {
    let (device, granted) = (pass.device().clone(), pass.abilities().workgroup_bytes);
    let Backend::Gpu(gpu) = device.backend() else { return Ok(false) };
    once(told(gpu), || {
        let mut all = true;
        for tile in tried.iter().filter(|units| units.bytes() <= granted).map(|units| Tile::Matrix(*units)) {
            for form in Form::ALL {
                all = all && agrees(pass, form, tile, &kernels::variant(form, Store::Write, tile, true))?;
            }
        }
        Ok(all)
    })
}

/// What a trial told before, or tells now; a kernel that the driver refuses is none that agrees.
pub(crate) fn once(told: &OnceLock<bool>, trial: impl FnOnce() -> Result<bool>) -> Result<bool> {
    if let Some(told) = told.get() {
        return Ok(*told);
    }
    let tells = match trial() {
        Err(KernelError::Shader { .. }) => false,
        tells => tells?,
    };
    Ok(*told.get_or_init(|| tells))
}

/// Multiplies small whole numbers, whose products and sums are exact in f16 and f32.
pub(super) fn agrees(pass: &mut Pass, form: Form, tile: Tile, variant: &Variant) -> Result<bool> {
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
    let (rows, cols) = tile.sides();
    let grid = Grid::rows(m.div_ceil(rows) * n.div_ceil(cols));
    pass.dispatch(variant, &[&a, &b, &y], Parameters::new(SIZES, 0..k, 0), grid, 0.0)?;
    let y = pass.read(&y)?;
    let want = |row: usize, col: usize| (0..k).map(|depth| left(row, depth) * right(depth, col)).sum::<f32>();
    Ok((0..m * n).all(|i| y[i] == want(i / n, i % n)))
}

//! How a product is dispatched on a GPU: in slices within every limit, and a deep one in parts side by side.

use std::ops::Range;

use super::kernels::{self, Store, Tile};
use super::{Form, Parameters, Sizes, rounded, tuning};
use crate::ops::column_sum;
use crate::rows::Bound;
use crate::{DType, Grid, Pass, Result, Tensor};

/// Layers and depths of k that one dispatch takes.
pub(super) fn slice(pass: &Pass, tile: Tile, sizes: Sizes) -> (usize, usize) {
    let layers = pass.parts_of_a_dispatch(sizes.z, sizes.flops()).min(pass.group_limit() as usize);
    let steps = sizes.k.div_ceil(Tile::STEP);
    let depth = pass.parts_of_a_dispatch(steps, sizes.flops() / sizes.z as f64 * layers as f64) * Tile::STEP;
    (layers, depth.min(tile.depth()))
}

/// Along what a product is cut where its tensors are larger than a binding.
#[derive(Clone, Copy)]
enum Cut {
    Layers,
    /// Of a and y.
    Rows,
    /// Whose sums are added up.
    Depths,
}

impl Cut {
    fn of(form: Form, sizes: Sizes) -> Self {
        match form {
            _ if sizes.z > 1 => Cut::Layers,
            Form::AB | Form::ABt => Cut::Rows,
            Form::AtB => Cut::Depths,
        }
    }

    /// How a, b, y, bias and pre are bound: those that there are.
    fn bind<'a>(self, sizes: Sizes, tensors: &[&'a Tensor]) -> Vec<Bound<'a>> {
        let Sizes { m, n, k, .. } = sizes;
        let each = match self {
            Cut::Layers => [m * k, k * n, m * n, 0, 0],
            Cut::Rows => [k, 0, n, 0, n],
            Cut::Depths => [m, n, 0, 0, 0],
        };
        let bind = |(tensor, each): (&&'a Tensor, usize)| match each {
            0 => Bound::Whole(tensor),
            each => Bound::Rows(tensor, each),
        };
        tensors.iter().zip(each).map(bind).collect()
    }

    /// The product with another number of what is cut.
    fn with(self, count: usize, sizes: Sizes) -> Sizes {
        match self {
            Cut::Layers => Sizes { z: count, ..sizes },
            Cut::Rows => Sizes { m: count, ..sizes },
            Cut::Depths => Sizes { k: count, ..sizes },
        }
    }
}

/// Dispatches a product of all depths.
pub(super) fn all(
    pass: &mut Pass,
    form: Form,
    store: Store,
    sizes: Sizes,
    tile: Tile,
    tensors: &[&Tensor],
) -> Result<()> {
    depths(pass, form, store, sizes, 0..sizes.k, tile, tensors)
}

/// Dispatches a product of some depths in slices that its tensors' bindings take, and these in slices of their batch and
/// their depth, each within the limits of every adapter.
fn depths(
    pass: &mut Pass,
    form: Form,
    store: Store,
    sizes: Sizes,
    depths: Range<usize>,
    tile: Tile,
    tensors: &[&Tensor],
) -> Result<()> {
    let (most, depth) = slice(pass, tile, sizes);
    let cut = Cut::of(form, sizes);
    let bound = cut.bind(sizes, tensors);
    let (count, steps) = match cut {
        Cut::Layers => (sizes.z, 1),
        Cut::Rows => (sizes.m, 1),
        // So that sums are cut where they are without a limit, if such long ones fit.
        Cut::Depths => (sizes.k, depth),
    };
    for part in pass.slices(count, steps, &bound) {
        let sizes = cut.with(part.len(), sizes);
        let (rows, cols) = tile.sides();
        let tiles = sizes.m.div_ceil(rows) * sizes.n.div_ceil(cols);
        // Depths of this slice, counted from where it begins.
        let before = if matches!(cut, Cut::Depths) { part.start } else { 0 };
        let own = depths.start.saturating_sub(before)..depths.end.saturating_sub(before).min(sizes.k);
        for first in own.clone().step_by(depth) {
            let last = (first + depth).min(own.end);
            let adds = before + first > depths.start;
            let (store, bound) = if adds { (Store::Add, &bound[..3]) } else { (store, &bound[..]) };
            let variant = kernels::variant(form, store, tile, tensors[0].dtype() == DType::F16);
            for layer in (0..sizes.z).step_by(most) {
                let layers = (sizes.z - layer).min(most);
                let flops = 2.0 * (layers * sizes.m * sizes.n) as f64 * (last - first) as f64;
                let (parameters, grid) = (Parameters::new(sizes, first..last, layer), Grid::layers(tiles, layers));
                pass.dispatch_slice(&variant, bound, part.clone(), parameters, grid, flops)?;
            }
        }
    }
    Ok(())
}

/// Equal parts of a deep product with a small output, the gradient of a weight, that fill a GPU only when they run side
/// by side; by shape, and where tensors are larger than a binding, by that.
pub(super) fn split(pass: &Pass, form: Form, sizes: Sizes) -> Option<usize> {
    const DEPTH: usize = 512;
    const OUTPUTS: usize = 1 << 20;
    let Sizes { m, n, k, .. } = sizes;
    let deep = pass.cpu().is_none() && form == Form::AtB && m * n <= OUTPUTS;
    let binds = |elements: usize| elements as u64 * 4 <= pass.binding_limit();
    let fits = |chunk: usize| {
        // Layers that a binding may begin at, on every adapter.
        let begins = [chunk * m, chunk * n, m * n].iter().all(|layer| layer.is_multiple_of(128));
        binds(k * m.max(n)) || begins && binds(chunk * m.max(n))
    };
    [8, 4, 2].into_iter().find(|parts| deep && k / parts >= DEPTH && fits(k / parts))
}

/// `out += aᵀ · b` in equal parts of the depth, side by side; then what they leave over, fewer depths than there are parts.
pub(super) fn in_parts(
    pass: &mut Pass,
    parts: usize,
    sizes: Sizes,
    [a, b]: [&Tensor; 2],
    out: &mut Tensor,
) -> Result<()> {
    let chunk = Sizes { z: parts, k: sizes.k / parts, ..sizes };
    let tile = tuning::choose(pass, Form::AtB, chunk)?;
    let halves = rounded(pass, [a, b])?;
    let [a, b] = halves.as_ref().map_or([a, b], |halves| halves.each_ref());
    let partial = pass.empty_f32(&[parts, sizes.m * sizes.n])?;
    all(pass, Form::AtB, Store::Write, chunk, tile, &[a, b, &partial])?;
    column_sum::accumulate_columns(pass, &partial, 0, out)?;
    depths(pass, Form::AtB, Store::Add, sizes, parts * chunk.k..sizes.k, tile, &[a, b, out])
}

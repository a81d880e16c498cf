//! Products by a given tile, whatever the adapter would be given: for tests, and for the report of errors.

use super::kernels::{self, Store, Tile, Units};
use super::{Form, Parameters, Sizes, round};
use crate::ops::gelu;
use crate::testing::{random, wide};
use crate::{Grid, Pass, Result, Tensor};

/// What came of a kernel, and what should have.
pub(crate) struct Product {
    pub(crate) name: String,
    pub(crate) y: Tensor,
    pub(crate) want: Vec<f64>,
    /// GELU's slopes and theirs, where it is the end.
    #[cfg(test)]
    pub(crate) slope: Option<(Tensor, Vec<f64>)>,
}

/// One kernel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Choice {
    pub(super) tile: Tile,
    /// Whether operands are stored in f16.
    pub(super) halves: bool,
    pub(super) form: Form,
    pub(super) store: Store,
}

/// By every tile that the adapter has, in every form and with every end; also of operands in f16 where `halves`.
/// Operands are drawn within the magnitude.
pub(crate) fn every_tile(
    pass: &mut Pass,
    sizes: (usize, usize, usize),
    magnitude: f32,
    halves: bool,
) -> Result<Vec<Product>> {
    let matrices = pass.abilities().matrices && halves;
    let mut products = Vec::new();
    let granted = pass.abilities().workgroup_bytes;
    let on_units = Units::ALL.into_iter().filter(|units| matrices && units.bytes() <= granted).map(Tile::Matrix);
    for tile in Tile::PLAIN.into_iter().chain(on_units) {
        let (m, n, k) = sizes;
        // Theirs are whole eights.
        let whole = |of: usize| if tile.wants_eights() { of.next_multiple_of(8) } else { of };
        let sizes = (whole(m), whole(n), whole(k));
        let stored = |of: &bool| (halves || !of) && (*of || !matches!(tile, Tile::Matrix(_)));
        for halves in [false, true].into_iter().filter(stored) {
            for (form, store) in kernels::ends(tile) {
                products.push(product(pass, Choice { tile, halves, form, store }, sizes, 0, magnitude)?);
            }
        }
    }
    Ok(products)
}

/// The depths before `first` are left to a dispatch that adds.
pub(super) fn product(
    pass: &mut Pass,
    choice: Choice,
    (m, n, k): (usize, usize, usize),
    first: usize,
    magnitude: f32,
) -> Result<Product> {
    let Choice { tile, halves, form, store } = choice;
    let [mut a, mut b, before, bias] =
        [m * k, k * n, m * n, n].map(|len| random(len, len as u64).iter().map(|x| x * magnitude).collect::<Vec<_>>());
    if halves {
        a.iter_mut().chain(&mut b).for_each(|x| *x = half::f16::from_f32(*x).to_f32());
    }
    let (a_shape, b_shape) = form.shapes(m, n, k);
    let sums = form.oracle()(m, n, k, &wide(&a), &wide(&b));
    let want = stored(store, &sums, &wide(&before), &wide(&bias));
    #[cfg(test)]
    let slopes = slopes(store, &sums, &wide(&bias));
    let (mut a, mut b) = (pass.upload(&a, &a_shape)?, pass.upload(&b, &b_shape)?);
    if halves {
        (a, b) = (round(pass, &a)?, round(pass, &b)?);
    }
    let (y, bias, slope) = (pass.upload(&before, &[m, n])?, pass.upload(&bias, &[n])?, pass.empty_f32(&[m, n])?);
    let all = [&a, &b, &y, &bias, &slope];
    let used = |store| match store {
        Store::Write | Store::Add => 3,
        Store::Bias => 4,
        Store::BiasGelu(_) => 5,
    };
    let (rows, cols) = tile.sides();
    let grid = Grid::rows(m.div_ceil(rows) * n.div_ceil(cols));
    // What several dispatches sum is complete only after the last: GELU is for one.
    let split = if used(store) == 5 { k } else { first };
    let rest = if split == 0 { store } else { Store::Add };
    for (store, depths) in [(store, 0..split), (rest, split..k)] {
        if !depths.is_empty() {
            let parameters = Parameters::new(Sizes { z: 1, m, n, k }, depths, 0);
            let variant = kernels::variant(form, store, tile, halves);
            pass.dispatch(&variant, &all[..used(store)], parameters, grid, 0.0)?;
        }
    }
    let operands = if halves { "f16" } else { "f32" };
    let name = format!("{tile:?}").to_lowercase();
    Ok(Product {
        name: format!("matmul by {name} tiles of {operands}: every form and end"),
        y,
        want,
        #[cfg(test)]
        slope: slopes.map(|want| (slope, want)),
    })
}

/// What a store makes of sums, given what was there before.
fn stored(store: Store, sums: &[f64], before: &[f64], bias: &[f64]) -> Vec<f64> {
    match store {
        Store::Write => sums.to_vec(),
        Store::Add => sums.iter().zip(before).map(|(sum, before)| sum + before).collect(),
        Store::Bias => with_bias(sums, bias),
        Store::BiasGelu(kind) => gelu::oracle::forward(kind, &with_bias(sums, bias)),
    }
}

/// What GELU stores beside its output.
#[cfg(test)]
fn slopes(store: Store, sums: &[f64], bias: &[f64]) -> Option<Vec<f64>> {
    let Store::BiasGelu(kind) = store else { return None };
    Some(gelu::oracle::slope(kind, &with_bias(sums, bias)))
}

fn with_bias(sums: &[f64], bias: &[f64]) -> Vec<f64> {
    sums.iter().enumerate().map(|(i, sum)| sum + bias[i % bias.len()]).collect()
}

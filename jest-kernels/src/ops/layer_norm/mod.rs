//! Layer normalisation: `y = (x - mean) * rstd * gamma + beta` over the last axis.

mod cpu;
pub mod oracle;

use crate::catalog::{Kernel, Sent, Variant, parameters};
use crate::profile::Work;
use crate::rows::Bound;
use crate::{DType, Grid, Pass, Result, Tensor};

const OP: &str = "layer_norm";
/// Rows whose `dgamma` and `dbeta` one workgroup sums before they are added up: fixed, so sums repeat.
const ROWS_PER_PART: usize = 256;

const SOURCE: &[&str] = &[include_str!("../../wgsl/reduce.wgsl"), include_str!("layer_norm.wgsl")];
static FORWARD: Kernel = Kernel {
    name: "layer_norm/forward",
    entry: "forward",
    parts: SOURCE,
    constants: &[("WG", 64)],
    parameters: Parameters::FIELDS,
};
static BACKWARD: Kernel = Kernel {
    name: "layer_norm/backward",
    entry: "backward",
    parts: SOURCE,
    constants: &[("WG", 64)],
    parameters: Parameters::FIELDS,
};
static PARTS: Kernel = Kernel {
    name: "layer_norm/gradient_parts",
    entry: "gradient_parts",
    parts: SOURCE,
    constants: &[("WG", 64)],
    parameters: Parameters::FIELDS,
};

pub(crate) fn variants() -> Vec<Variant> {
    [&FORWARD, &BACKWARD, &PARTS].map(Kernel::default_variant).to_vec()
}

parameters! {
    struct Parameters {
        rows: u32,
        cols: u32,
        rows_per_part: u32,
        eps: f32,
    }
}

/// What the backward pass needs; made by [`forward`], consumed by [`backward`].
#[derive(Debug)]
pub struct Saved {
    x: Tensor,
    /// Mean and reciprocal standard deviation of each row: [rows, 2].
    stats: Tensor,
}

/// `y = (x - mean(x)) * rstd(x) * gamma + beta`, with `rstd = 1 / sqrt(variance + eps)`.
///
/// # Shapes
/// x: [.., d]; gamma, beta: `[d]`; y as x.
///
/// # Errors
/// `Shape` when gamma or beta is not as long as a row.
pub fn forward(pass: &mut Pass, x: &Tensor, gamma: &Tensor, beta: &Tensor, eps: f32) -> Result<(Tensor, Saved)> {
    forward_as(pass, DType::F32, x, gamma, beta, eps)
}

/// [`forward`] where y feeds products alone: stored in bf16 where they would round it.
///
/// # Shapes
/// As [`forward`].
///
/// # Errors
/// As [`forward`].
pub fn forward_to_product(
    pass: &mut Pass,
    x: &Tensor,
    gamma: &Tensor,
    beta: &Tensor,
    eps: f32,
) -> Result<(Tensor, Saved)> {
    let stored = pass.product_operand();
    forward_as(pass, stored, x, gamma, beta, eps)
}

fn forward_as(
    pass: &mut Pass,
    stored: DType,
    x: &Tensor,
    gamma: &Tensor,
    beta: &Tensor,
    eps: f32,
) -> Result<(Tensor, Saved)> {
    let (rows, cols) = (x.rows(), x.cols());
    pass.admit(OP, &[("x", x), ("gamma", gamma), ("beta", beta)])?;
    x.expect_f32(OP, "x", x.shape())?;
    gamma.expect_f32(OP, "gamma", &[cols])?;
    beta.expect_f32(OP, "beta", &[cols])?;
    let mut y = pass.empty(stored, x.shape())?;
    let mut stats = pass.empty_f32(&[rows, 2])?;
    if let Some(cpu) = pass.cpu() {
        let affine = cpu::Affine { gamma: gamma.f32(), beta: beta.f32(), eps };
        cpu.run(Work::words("layer_norm/forward", 2 * x.len()), || match stored {
            DType::Bf16 => cpu::forward_rounded(x.f32(), affine, y.bf16_mut(), stats.f32_mut()),
            _ => cpu::forward(x.f32(), affine, y.f32_mut(), stats.f32_mut()),
        });
    } else {
        let affine = [gamma, beta].map(Bound::Whole);
        let bound = [Bound::Rows(x, cols), affine[0], affine[1], Bound::Rows(&y, cols), Bound::Rows(&stats, 2)];
        pass.dispatch_rows(&FORWARD.default_variant(), rows, &bound, 8.0 * x.len() as f64, |rows| {
            let n = rows.len();
            (Parameters { rows: n as u32, cols: cols as u32, rows_per_part: 0, eps }, Grid::rows(n))
        })?;
    }
    Ok((y, Saved { x: x.clone(), stats }))
}

/// Gradient by x; adds to `dgamma` and `dbeta`.
///
/// # Shapes
/// dy, dx as x of the forward pass; gamma, dgamma, dbeta: `[d]`.
///
/// # Errors
/// `Shape` when an operand does not fit the forward pass.
pub fn backward(
    pass: &mut Pass,
    saved: Saved,
    gamma: &Tensor,
    dy: &Tensor,
    dgamma: &mut Tensor,
    dbeta: &mut Tensor,
) -> Result<Tensor> {
    gradients(pass, saved, gamma, dy, None, [dgamma, dbeta])
}

/// [`backward`] on top of the gradient that goes past the norm: gives `past` plus the gradient by x.
///
/// # Shapes
/// As [`backward`]; past: as x.
///
/// # Errors
/// As [`backward`].
pub fn backward_onto(
    pass: &mut Pass,
    saved: Saved,
    gamma: &Tensor,
    dy: &Tensor,
    past: &Tensor,
    [dgamma, dbeta]: [&mut Tensor; 2],
) -> Result<Tensor> {
    pass.admit(OP, &[("past", past)])?;
    past.expect_f32(OP, "past", saved.x.shape())?;
    if pass.cpu().is_some() {
        return gradients(pass, saved, gamma, dy, Some(past), [dgamma, dbeta]);
    }
    let mut dx = backward(pass, saved, gamma, dy, dgamma, dbeta)?;
    super::add::accumulate(pass, past, &mut dx)?;
    Ok(dx)
}

/// Only the CPU form adds what goes past.
fn gradients(
    pass: &mut Pass,
    saved: Saved,
    gamma: &Tensor,
    dy: &Tensor,
    past: Option<&Tensor>,
    [dgamma, dbeta]: [&mut Tensor; 2],
) -> Result<Tensor> {
    let Saved { x, stats } = saved;
    let (rows, cols) = (x.rows(), x.cols());
    pass.admit(OP, &[("saved x", &x), ("gamma", gamma), ("dy", dy), ("dgamma", dgamma), ("dbeta", dbeta)])?;
    dy.expect_f32(OP, "dy", x.shape())?;
    gamma.expect_f32(OP, "gamma", &[cols])?;
    dgamma.expect_f32(OP, "dgamma", &[cols])?;
    dbeta.expect_f32(OP, "dbeta", &[cols])?;
    let mut dx = pass.empty_f32(x.shape())?;
    let parts = rows.div_ceil(ROWS_PER_PART);
    let mut partial = pass.empty_f32(&[parts, 2 * cols])?;
    if let Some(cpu) = pass.cpu() {
        let past = past.map_or(&[][..], Tensor::f32);
        let saved = cpu::Inputs { x: x.f32(), stats: stats.f32(), gamma: gamma.f32(), dy: dy.f32(), past };
        cpu.run(Work::words("layer_norm/backward", 3 * dy.len() + past.len()), || {
            cpu::backward(&saved, dx.f32_mut(), partial.f32_mut())
        });
    } else {
        backward_on_gpu(pass, [&x, gamma, dy, &stats], &dx, &partial)?;
    }
    super::column_sum::accumulate_columns(pass, &partial, 0, dgamma)?;
    super::column_sum::accumulate_columns(pass, &partial, cols, dbeta)?;
    Ok(dx)
}

/// Writes dx, and the sums of each part of the rows that make dgamma and dbeta.
fn backward_on_gpu(pass: &mut Pass, [x, gamma, dy, stats]: [&Tensor; 4], dx: &Tensor, partial: &Tensor) -> Result<()> {
    let (rows, cols, parts) = (x.rows(), x.cols(), partial.rows());
    let parameters = |rows: usize| Parameters {
        rows: rows as u32,
        cols: cols as u32,
        rows_per_part: ROWS_PER_PART as u32,
        eps: 0.0,
    };
    let [x_rows, dy_rows, dx_rows] = [x, dy, dx].map(|tensor| Bound::Rows(tensor, cols));
    let bound = [x_rows, Bound::Whole(gamma), dy_rows, Bound::Rows(stats, 2), dx_rows];
    pass.dispatch_rows(&BACKWARD.default_variant(), rows, &bound, 12.0 * x.len() as f64, |rows| {
        (parameters(rows.len()), Grid::rows(rows.len()))
    })?;
    let [x_parts, dy_parts] = [x, dy].map(|tensor| Bound::Rows(tensor, ROWS_PER_PART * cols));
    let bound = [x_parts, dy_parts, Bound::Rows(stats, ROWS_PER_PART * 2), Bound::Rows(partial, 2 * cols)];
    pass.dispatch_rows(&PARTS.default_variant(), parts, &bound, 4.0 * x.len() as f64, |parts| {
        let rows = (parts.end * ROWS_PER_PART).min(rows) - parts.start * ROWS_PER_PART;
        (parameters(rows), Grid::layers(parts.len(), cols.div_ceil(64)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;

    const EPSILON: f64 = 1e-6;

    fn parts_of(rows: usize) -> usize {
        rows.div_ceil(ROWS_PER_PART)
    }

    fn check(rows: usize, cols: usize) {
        let (x, gamma, beta) = (random(rows * cols, 1), random(cols, 2), random(cols, 3));
        let dy = random(rows * cols, 4);
        let (x64, gamma64, beta64, dy64) = (wide(&x), wide(&gamma), wide(&beta), wide(&dy));
        let want = oracle::forward(&x64, &gamma64, &beta64, EPSILON);
        let gradients = oracle::backward(&x64, &gamma64, &dy64, EPSILON);
        // Mean, centred value and variance each lose up to a row's length of roundings of values below one, which rstd
        // scales; a variance near zero makes rstd itself uncertain by rstd² times that.
        let rstd = oracle::rstd(&x64, cols, EPSILON);
        let row_tolerance = |row: usize| sum_tolerance(cols + 8, 2.0 * rstd[row] * (1.0 + rstd[row]));
        let column_tolerance = |j: usize, weight: &dyn Fn(usize) -> f64| {
            (0..rows).map(|row| dy64[row * cols + j].abs() * weight(row)).sum::<f64>()
        };
        on_every_kernel(|pass| {
            let [x, dy] = [&x, &dy].map(|v| pass.upload(v, &[rows, cols]).unwrap());
            let [gamma, beta] = [&gamma, &beta].map(|v| pass.upload(v, &[cols]).unwrap());
            let [mut dgamma, mut dbeta] = [0; 2].map(|_| pass.upload(&vec![1.0; cols], &[cols]).unwrap());
            let (y, saved) = forward(pass, &x, &gamma, &beta, EPSILON as f32).unwrap();
            assert_within("y", &checked_read(pass, "y", &y), &want, |i| row_tolerance(i / cols));
            let dx = backward(pass, saved, &gamma, &dy, &mut dgamma, &mut dbeta).unwrap();
            let dx_tolerance = |i: usize| 4.0 * row_tolerance(i / cols) * rstd[i / cols].max(1.0);
            assert_within("dx", &checked_read(pass, "dx", &dx), &gradients.dx, dx_tolerance);
            let plus_one = |v: &[f64]| v.iter().map(|v| v + 1.0).collect::<Vec<_>>();
            // Partial sums of 256 rows, then the parts: so many roundings in a row.
            let depth = ROWS_PER_PART.min(rows) + parts_of(rows);
            let dgamma_tolerance = |j: usize| {
                column_tolerance(j, &row_tolerance)
                    + sum_tolerance(depth, 1.0 + column_tolerance(j, &|row| 1.0 + rstd[row].min(cols as f64)))
            };
            let dbeta_tolerance = |j: usize| sum_tolerance(depth, 1.0 + column_tolerance(j, &|_| 1.0));
            let (dgamma, dbeta) = (checked_read(pass, "dgamma", &dgamma), checked_read(pass, "dbeta", &dbeta));
            assert_within("dgamma", &dgamma, &plus_one(&gradients.dgamma), dgamma_tolerance);
            assert_within("dbeta", &dbeta, &plus_one(&gradients.dbeta), dbeta_tolerance);
        });
    }

    #[test]
    fn what_goes_past_is_added_with_the_same_bits() {
        let (rows, cols) = (2 * ROWS_PER_PART + 3, 37);
        let [x, dy, past] = [1, 2, 3].map(|seed| random(rows * cols, seed));
        on_every_kernel(|pass| {
            let [x, dy, past] = [&x, &dy, &past].map(|v| pass.upload(v, &[rows, cols]).unwrap());
            let gamma = pass.upload(&random(cols, 4), &[cols]).unwrap();
            let [mut dgamma, mut dbeta, mut again, mut and_again] = [0; 4].map(|_| pass.zeros(&[cols]).unwrap());
            let saved = forward(pass, &x, &gamma, &gamma, 1e-6).unwrap().1;
            let mut apart = backward(pass, saved, &gamma, &dy, &mut dgamma, &mut dbeta).unwrap();
            crate::ops::add::accumulate(pass, &past, &mut apart).unwrap();
            let saved = forward(pass, &x, &gamma, &gamma, 1e-6).unwrap().1;
            let dx = backward_onto(pass, saved, &gamma, &dy, &past, [&mut again, &mut and_again]).unwrap();
            for (name, got, want) in [("dx", dx, apart), ("dgamma", again, dgamma), ("dbeta", and_again, dbeta)] {
                assert_eq!(checked_read(pass, name, &got), pass.read(&want).unwrap(), "{name}");
            }
            let saved = forward(pass, &x, &gamma, &gamma, 1e-6).unwrap().1;
            let sums = [&mut pass.zeros(&[cols]).unwrap(), &mut pass.zeros(&[cols]).unwrap()];
            let error = backward_onto(pass, saved, &gamma, &dy, &gamma, sums).unwrap_err().to_string();
            assert!(error.contains("past"), "{error}");
        });
    }

    #[test]
    fn what_feeds_products_is_the_same_rounded() {
        let precision = crate::Precision::Bf16;
        let options = crate::DeviceOptions { threads: 2, checked: true, precision, ..Default::default() };
        let mut pass = crate::Device::open(&crate::DeviceRequest::Cpu, options).unwrap().pass();
        for (rows, cols) in [(3, 1), (33, 31), (300, 257)] {
            let x = pass.upload(&random(rows * cols, 1), &[rows, cols]).unwrap();
            let gamma = pass.upload(&random(cols, 2), &[cols]).unwrap();
            let beta = pass.upload(&random(cols, 3), &[cols]).unwrap();
            let (y, _) = forward(&mut pass, &x, &gamma, &beta, 1e-6).unwrap();
            let (stored, _) = forward_to_product(&mut pass, &x, &gamma, &beta, 1e-6).unwrap();
            assert_guarded(&mut pass, "stored", &stored);
            let stored = crate::ops::cast::to_f32(&mut pass, &stored).unwrap();
            let rounded = pass.read(&y).unwrap().iter().map(|y| half::bf16::from_f32(*y).to_f32()).collect::<Vec<_>>();
            assert_eq!(pass.read(&stored).unwrap(), rounded, "{rows} x {cols}");
            let (plain, _) = pass.in_f32(|pass| forward_to_product(pass, &x, &gamma, &beta, 1e-6)).unwrap();
            assert_eq!(pass.read(&plain).unwrap(), pass.read(&y).unwrap());
        }
    }

    #[test]
    fn matches_oracle_on_ragged_shapes() {
        for cols in RAGGED {
            check(5, cols);
        }
        check(515, 33);
    }

    #[test]
    fn matches_oracle_beyond_one_dispatch_dimension() {
        check(65_537, 3);
    }

    #[test]
    fn oracle_backward_is_the_derivative() {
        let (rows, cols) = (3, 5);
        let [x, dy] = [7, 8].map(|seed| wide(&random(rows * cols, seed)));
        let [gamma, beta] = [9, 10].map(|seed| wide(&random(cols, seed)));
        let gradients = oracle::backward(&x, &gamma, &dy, EPSILON);
        assert_is_gradient("dx", &x, &dy, |x| oracle::forward(x, &gamma, &beta, EPSILON), &gradients.dx);
        assert_is_gradient("dgamma", &gamma, &dy, |g| oracle::forward(&x, g, &beta, EPSILON), &gradients.dgamma);
        assert_is_gradient("dbeta", &beta, &dy, |b| oracle::forward(&x, &gamma, b, EPSILON), &gradients.dbeta);
    }

    #[test]
    fn nan_in_one_row_stays_in_that_row() {
        on_every_kernel(|pass| {
            let mut values = random(3 * 40, 1);
            values[45] = f32::NAN;
            let x = pass.upload(&values, &[3, 40]).unwrap();
            let gamma = pass.upload(&random(40, 2), &[40]).unwrap();
            let (y, _) = forward(pass, &x, &gamma, &gamma, 1e-6).unwrap();
            let y = pass.read(&y).unwrap();
            assert!(y[..40].iter().chain(&y[80..]).all(|v| v.is_finite()));
            assert!(y[40..80].iter().any(|v| v.is_nan()), "NaN must not be hidden");
        });
    }

    #[test]
    fn wrong_shapes_are_named() {
        on_every_kernel(|pass| {
            let x = pass.zeros(&[2, 4]).unwrap();
            let gamma = pass.zeros(&[3]).unwrap();
            let error = forward(pass, &x, &gamma, &gamma, 1e-6).unwrap_err().to_string();
            assert_eq!(error, "layer_norm: gamma has shape [3], expected [4]");
        });
    }
}

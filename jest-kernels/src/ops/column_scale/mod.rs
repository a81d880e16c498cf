//! Columns scaled: `y[i, j] = x[i, j] * scale[j]` (LayerScale).

mod cpu;
pub mod oracle;

use super::column_sum;
use crate::catalog::{Kernel, Sent, Variant, parameters};
use crate::profile::Work;
use crate::rows::Bound;
use crate::{Grid, Pass, Result, Tensor};

const OP: &str = "column_scale";
const WG: usize = 64;

const SOURCE: &[&str] = &[include_str!("column_scale.wgsl")];
const CONSTANTS: &[(&str, u32)] = &[("WG", WG as u32)];
static FORWARD: Kernel = Kernel {
    name: "column_scale/forward",
    entry: "forward",
    parts: SOURCE,
    constants: CONSTANTS,
    parameters: Parameters::FIELDS,
};
static BACKWARD: Kernel = Kernel {
    name: "column_scale/backward",
    entry: "backward",
    parts: SOURCE,
    constants: CONSTANTS,
    parameters: Parameters::FIELDS,
};

pub(crate) fn variants() -> Vec<Variant> {
    [&FORWARD, &BACKWARD].map(Kernel::default_variant).to_vec()
}

parameters! {
    struct Parameters {
        n: u32,
        cols: u32,
    }
}

/// `y[i, j] = x[i, j] * scale[j]`.
///
/// # Shapes
/// x: [.., d]; scale: `[d]`; y as x.
///
/// # Errors
/// `Shape` when scale is not as long as a row.
pub fn forward(pass: &mut Pass, x: &Tensor, scale: &Tensor) -> Result<Tensor> {
    pass.admit(OP, &[("x", x), ("scale", scale)])?;
    x.expect_f32(OP, "x", x.shape())?;
    scale.expect_f32(OP, "scale", &[x.cols()])?;
    let mut y = pass.empty_f32(x.shape())?;
    if let Some(cpu) = pass.cpu() {
        cpu.run(Work::words("column_scale/forward", 2 * x.len()), || {
            cpu::forward(x.f32(), scale.f32(), y.f32_mut());
        });
        return Ok(y);
    }
    let d = x.cols();
    let bound = [Bound::Rows(x, d), Bound::Whole(scale), Bound::Rows(&y, d)];
    dispatch(pass, &FORWARD, x, &bound, x.len() as f64)?;
    Ok(y)
}

/// `dx[i, j] = dy[i, j] * scale[j]`, and `dscale[j] += sum_i dy[i, j] * x[i, j]`.
///
/// # Shapes
/// x, dy, dx alike: [.., d]; scale, dscale: `[d]`.
///
/// # Errors
/// As [`forward`].
pub fn backward(pass: &mut Pass, x: &Tensor, scale: &Tensor, dy: &Tensor, dscale: &mut Tensor) -> Result<Tensor> {
    pass.admit(OP, &[("x", x), ("scale", scale), ("dy", dy), ("dscale", dscale)])?;
    x.expect_f32(OP, "x", x.shape())?;
    dy.expect_f32(OP, "dy", x.shape())?;
    scale.expect_f32(OP, "scale", &[x.cols()])?;
    dscale.expect_f32(OP, "dscale", &[x.cols()])?;
    let (mut dx, mut terms) = (pass.empty_f32(x.shape())?, pass.empty_f32(x.shape())?);
    if let Some(cpu) = pass.cpu() {
        cpu.run(Work::words("column_scale/backward", 4 * x.len()), || {
            cpu::backward(x.f32(), scale.f32(), dy.f32(), dx.f32_mut(), terms.f32_mut());
        });
    } else {
        let [rows, dy, dx, terms] = [x, dy, &dx, &terms].map(|tensor| Bound::Rows(tensor, x.cols()));
        let bound = [rows, Bound::Whole(scale), dy, dx, terms];
        dispatch(pass, &BACKWARD, x, &bound, 2.0 * x.len() as f64)?;
    }
    column_sum::accumulate(pass, &terms, dscale)?;
    Ok(dx)
}

/// One invocation an element of x.
fn dispatch(pass: &mut Pass, kernel: &'static Kernel, x: &Tensor, bound: &[Bound<'_>], work: f64) -> Result<()> {
    let cols = x.cols();
    pass.dispatch_rows(&kernel.default_variant(), x.rows(), bound, work, |rows| {
        let n = rows.len() * cols;
        (Parameters { n: n as u32, cols: cols as u32 }, Grid::rows(n.div_ceil(WG)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;

    fn check(rows: usize, d: usize) {
        let (x, scale, dy) = (random(rows * d, 1), random(d, 2), random(rows * d, 3));
        let start = random(d, 4);
        let (wide_x, wide_scale, wide_dy) = (wide(&x), wide(&scale), wide(&dy));
        let want = oracle::forward(&wide_x, &wide_scale);
        let (dx_want, summed) = oracle::backward(&wide_x, &wide_scale, &wide_dy);
        let (_, sizes) = oracle::backward(&magnitudes(&wide_x), &wide_scale, &magnitudes(&wide_dy));
        let dscale_want: Vec<f64> = summed.iter().zip(&start).map(|(sum, start)| sum + f64::from(*start)).collect();
        on_each_device(|pass| {
            let upload = |pass: &mut Pass, values: &[f32]| pass.upload(values, &[rows, d]).unwrap();
            let (x, dy) = (upload(pass, &x), upload(pass, &dy));
            let (scale, mut dscale) = (pass.upload(&scale, &[d]).unwrap(), pass.upload(&start, &[d]).unwrap());
            let untouched = dscale.clone();
            let y = forward(pass, &x, &scale).unwrap();
            assert_within("y", &checked_read(pass, "y", &y), &want, |_| EPS);
            let dx = backward(pass, &x, &scale, &dy, &mut dscale).unwrap();
            assert_within("dx", &checked_read(pass, "dx", &dx), &dx_want, |_| EPS);
            let got = checked_read(pass, "dscale", &dscale);
            assert_within("dscale", &got, &dscale_want, |j| sum_tolerance(rows + 1, sizes[j] + 1.0));
            assert_eq!(pass.read(&untouched).unwrap(), start, "a clone keeps its own value");
        });
    }

    #[test]
    fn matches_oracle_on_ragged_shapes() {
        for n in RAGGED {
            check(n, 5);
            check(3, n);
        }
    }

    #[test]
    fn matches_oracle_beyond_one_dispatch_dimension() {
        check(65_537, WG + 1);
    }

    #[test]
    fn oracle_backward_is_the_derivative() {
        let (x, scale, dy) = (wide(&random(12, 1)), wide(&random(4, 2)), wide(&random(12, 3)));
        let (dx, dscale) = oracle::backward(&x, &scale, &dy);
        assert_is_gradient("dx", &x, &dy, |x| oracle::forward(x, &scale), &dx);
        assert_is_gradient("dscale", &scale, &dy, |scale| oracle::forward(&x, scale), &dscale);
    }

    #[test]
    fn nan_stays_in_its_element_and_its_column() {
        on_each_device(|pass| {
            let x = pass.upload(&[1.0, f32::NAN, 3.0, 4.0], &[2, 2]).unwrap();
            let (scale, mut dscale) = (pass.upload(&[2.0, 3.0], &[2]).unwrap(), pass.zeros(&[2]).unwrap());
            let y = forward(pass, &x, &scale).unwrap();
            let y = pass.read(&y).unwrap();
            assert!(y[1].is_nan() && (y[0], y[2], y[3]) == (2.0, 6.0, 12.0), "{y:?}");
            let dy = pass.upload(&[1.0; 4], &[2, 2]).unwrap();
            let dx = backward(pass, &x, &scale, &dy, &mut dscale).unwrap();
            assert_eq!(pass.read(&dx).unwrap(), [2.0, 3.0, 2.0, 3.0]);
            let dscale = pass.read(&dscale).unwrap();
            assert!(dscale[0] == 4.0 && dscale[1].is_nan(), "{dscale:?}");
        });
    }

    #[test]
    fn wrong_shapes_are_named() {
        on_each_device(|pass| {
            let (x, wrong) = (pass.zeros(&[4, 2]).unwrap(), pass.zeros(&[3]).unwrap());
            let error = forward(pass, &x, &wrong).unwrap_err().to_string();
            assert_eq!(error, "column_scale: scale has shape [3], expected [2]");
            let scale = pass.zeros(&[2]).unwrap();
            let (mut dscale, mut long) = (scale.clone(), wrong.clone());
            assert!(backward(pass, &x, &scale, &x, &mut long).is_err());
            assert!(backward(pass, &x, &scale, &wrong, &mut dscale).is_err());
        });
    }
}

//! Rows of length 1: `z = x / max(|x|, 1e-12)`.

mod cpu;
pub mod oracle;

use crate::catalog::{Kernel, Sent, Variant, parameters};
use crate::profile::Work;
use crate::rows::Bound;
use crate::{Grid, Pass, Result, Tensor};

const OP: &str = "l2_normalize";
/// Length below which a row is divided by this instead, so that a row of zeros stays one.
pub const EPSILON: f32 = 1e-12;

const SOURCE: &[&str] = &[include_str!("../../wgsl/reduce.wgsl"), include_str!("l2_normalize.wgsl")];
static FORWARD: Kernel = Kernel {
    name: "l2_normalize/forward",
    entry: "forward",
    parts: SOURCE,
    constants: &[("WG", 64)],
    parameters: Parameters::FIELDS,
};
static BACKWARD: Kernel = Kernel {
    name: "l2_normalize/backward",
    entry: "backward",
    parts: SOURCE,
    constants: &[("WG", 64)],
    parameters: Parameters::FIELDS,
};

pub(crate) fn variants() -> Vec<Variant> {
    [&FORWARD, &BACKWARD].map(Kernel::default_variant).to_vec()
}

parameters! {
    struct Parameters {
        rows: u32,
        cols: u32,
        eps: f32,
    }
}

/// What the backward pass needs; made by [`forward`], consumed by [`backward`].
#[derive(Debug)]
pub struct Saved {
    z: Tensor,
    /// Length of each row of x: [rows].
    norms: Tensor,
}

/// `z = x / max(|x|, EPSILON)` for each row; a row of zeros gives zeros.
///
/// # Shapes
/// x: [.., d]; z as x.
///
/// # Errors
/// `DType` unless x is f32.
///
/// # Source
/// torch's `functional.normalize`, which open_clip calls; `x / x.norm()` of transformers differs in rows of zeros only,
/// where it gives NaN.
pub fn forward(pass: &mut Pass, x: &Tensor) -> Result<(Tensor, Saved)> {
    let (rows, d) = (x.rows(), x.cols());
    pass.admit(OP, &[("x", x)])?;
    x.expect_f32(OP, "x", x.shape())?;
    let (mut z, mut norms) = (pass.empty_f32(x.shape())?, pass.empty_f32(&[rows])?);
    if let Some(cpu) = pass.cpu() {
        cpu.run(Work::words("l2_normalize/forward", 2 * x.len()), || {
            cpu::forward(x.f32(), d, z.f32_mut(), norms.f32_mut())
        });
    } else {
        let bound = [Bound::Rows(x, d), Bound::Rows(&z, d), Bound::Rows(&norms, 1)];
        dispatch(pass, &FORWARD, x, &bound, 3.0)?;
    }
    Ok((z.clone(), Saved { z, norms }))
}

/// `dx = (dz - z (z · dz)) / |x|` for each row; of a row shorter than [`EPSILON`], `dx = dz / EPSILON`.
///
/// # Shapes
/// dz, dx as x of the forward pass.
///
/// # Errors
/// `Shape` when dz does not fit the forward pass.
pub fn backward(pass: &mut Pass, saved: Saved, dz: &Tensor) -> Result<Tensor> {
    let Saved { z, norms } = saved;
    let d = z.cols();
    pass.admit(OP, &[("saved", &z), ("dz", dz)])?;
    dz.expect_f32(OP, "dz", z.shape())?;
    let mut dx = pass.empty_f32(z.shape())?;
    if let Some(cpu) = pass.cpu() {
        cpu.run(Work::words("l2_normalize/backward", 3 * z.len()), || {
            cpu::backward(z.f32(), norms.f32(), dz.f32(), d, dx.f32_mut())
        });
        return Ok(dx);
    }
    let bound = [Bound::Rows(&z, d), Bound::Rows(&norms, 1), Bound::Rows(dz, d), Bound::Rows(&dx, d)];
    dispatch(pass, &BACKWARD, &z, &bound, 5.0)?;
    Ok(dx)
}

/// One workgroup a row of x, and `work` for each element.
fn dispatch(pass: &mut Pass, kernel: &'static Kernel, x: &Tensor, bound: &[Bound<'_>], work: f64) -> Result<()> {
    let cols = x.cols() as u32;
    pass.dispatch_rows(&kernel.default_variant(), x.rows(), bound, work * x.len() as f64, |rows| {
        (Parameters { rows: rows.len() as u32, cols, eps: EPSILON }, Grid::rows(rows.len()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;

    const EPSILON: f64 = super::EPSILON as f64;

    fn check(rows: usize, d: usize, scale: f32) {
        let x: Vec<f32> = random(rows * d, 1).iter().map(|x| (x + 1.5) * scale).collect();
        let dz = random(rows * d, 2);
        let want = oracle::forward(&wide(&x), d, EPSILON);
        let dx_want = oracle::backward(&wide(&x), &wide(&dz), d, EPSILON);
        let shortest = wide(&x).chunks(d).map(|row| row.iter().map(|x| x * x).sum::<f64>().sqrt()).fold(1e30, f64::min);
        on_every_kernel(|pass| {
            let (x, dz) = (pass.upload(&x, &[rows, d]).unwrap(), pass.upload(&dz, &[rows, d]).unwrap());
            let (z, saved) = forward(pass, &x).unwrap();
            // The sum of squares has d terms of one sign; the root halves its relative error.
            let relative = (0.5 * d as f64 + 8.0) * EPS;
            assert_within("z", &checked_read(pass, "z", &z), &want, |i| relative * want[i].abs());
            let dx = backward(pass, saved, &dz).unwrap();
            // z · dz has d terms of magnitude up to |z_j|, whose sum is at most sqrt(d).
            let tolerance = 4.0 * relative * (1.0 + (d as f64).sqrt()) / shortest.max(EPSILON);
            assert_within("dx", &checked_read(pass, "dx", &dx), &dx_want, |_| tolerance);
        });
    }

    #[test]
    fn matches_oracle_on_ragged_shapes() {
        for d in RAGGED {
            check(5, d, 1.0);
        }
        check(259, 33, 1e3);
        check(3, 70, 1e-6);
        // Shorter than the epsilon, by far and by little.
        check(3, 70, 1e-15);
        check(3, 70, 5e-14);
    }

    #[test]
    fn matches_oracle_beyond_one_dispatch_dimension() {
        check(65_537, 3, 1.0);
    }

    #[test]
    fn oracle_backward_is_the_derivative() {
        let (x, dz) = (wide(&random(15, 1)), wide(&random(15, 2)));
        let dx = oracle::backward(&x, &dz, 5, EPSILON);
        assert_is_gradient("dx", &x, &dz, |x| oracle::forward(x, 5, EPSILON), &dx);
        // All rows shorter than the epsilon.
        let dx = oracle::backward(&x, &dz, 5, 10.0);
        assert_is_gradient("dx", &x, &dz, |x| oracle::forward(x, 5, 10.0), &dx);
    }

    #[test]
    fn zeros_stay_zeros_and_nan_stays_nan() {
        on_every_kernel(|pass| {
            let x = pass.upload(&[0.0, 0.0, 1.0, f32::NAN, 3.0, 4.0], &[3, 2]).unwrap();
            let (z, saved) = forward(pass, &x).unwrap();
            let values = pass.read(&z).unwrap();
            assert_eq!(values[..2], [0.0, 0.0]);
            assert!(values[2].is_nan() && values[3].is_nan());
            assert!((values[4] - 0.6).abs() < 1e-6 && (values[5] - 0.8).abs() < 1e-6);
            let dx = backward(pass, saved, &x).unwrap();
            let dx = pass.read(&dx).unwrap();
            assert!(dx[0] == 0.0 && dx[1] == 0.0 && dx[2].is_nan() && dx[3].is_nan());
            assert!(dx[4].abs() < 1e-6 && dx[5].abs() < 1e-6);
        });
    }

    #[test]
    fn wrong_shapes_are_named() {
        on_every_kernel(|pass| {
            let (x, dz) = (pass.zeros(&[2, 4]).unwrap(), pass.zeros(&[2, 3]).unwrap());
            let (_, saved) = forward(pass, &x).unwrap();
            let error = backward(pass, saved, &dz).unwrap_err().to_string();
            assert_eq!(error, "l2_normalize: dz has shape [2, 3], expected [2, 4]");
        });
    }
}

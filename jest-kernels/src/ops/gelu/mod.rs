//! GELU in its three forms, `y = gelu(x)`, with `slope = gelu'(x)` for the backward, `dx = slope * dy`.

pub(crate) mod cpu;
pub mod oracle;

use crate::catalog::{Kernel, Sent, Variant, parameters};
use crate::profile::Work;
use crate::rows::Bound;
use crate::{DType, Grid, Pass, Result, Tensor};

const OP: &str = "gelu";
const WG: usize = 64;

/// Error of the f32 forms relative to `1 + |x|`: a handful of roundings and 2e-7 of the erf formula.
pub const TOLERANCE: f64 = 6e-7;
/// Error of slopes: a few times as many roundings.
#[cfg(test)]
pub(crate) const SLOPE_TOLERANCE: f64 = 4.0 * TOLERANCE;
/// The largest slope, 1.13 at x = 1.4, with some room: an error of x makes at most so many times it of y.
#[cfg(test)]
pub(crate) const STEEPEST: f64 = 1.2;
/// The largest second derivative, 0.85 at x = 0, with some room: an error of x makes at most so many times it of slope.
#[cfg(test)]
pub(crate) const BEND: f64 = 0.9;

const SOURCE: &[&str] = &[include_str!("../../wgsl/gelu.wgsl"), include_str!("gelu.wgsl")];
const CONSTANTS: &[(&str, u32)] = &[("WG", WG as u32), ("GELU", 0)];
static FORWARD: Kernel = Kernel {
    name: "gelu/forward",
    entry: "forward",
    parts: SOURCE,
    constants: CONSTANTS,
    parameters: Parameters::FIELDS,
};
static FORWARD_WITH_SLOPE: Kernel = Kernel {
    name: "gelu/forward_with_slope",
    entry: "forward_with_slope",
    parts: SOURCE,
    constants: CONSTANTS,
    parameters: Parameters::FIELDS,
};
static BACKWARD: Kernel = Kernel {
    name: "gelu/backward",
    entry: "backward",
    parts: SOURCE,
    constants: CONSTANTS,
    parameters: Parameters::FIELDS,
};

/// Which GELU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Gelu {
    /// `0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x³)))`: SigLIP's.
    Tanh,
    /// `0.5 x (1 + erf(x / sqrt 2))`: the exact form.
    Erf,
    /// `x sigmoid(1.702 x)`: OpenAI's CLIP.
    Quick,
}

impl Gelu {
    /// All forms.
    pub const ALL: [Gelu; 3] = [Gelu::Tanh, Gelu::Erf, Gelu::Quick];

    /// What reports call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Gelu::Tanh => "tanh",
            Gelu::Erf => "erf",
            Gelu::Quick => "quick",
        }
    }

    pub(crate) fn code(self) -> u32 {
        match self {
            Gelu::Tanh => 0,
            Gelu::Erf => 1,
            Gelu::Quick => 2,
        }
    }
}

pub(crate) fn variants() -> Vec<Variant> {
    let forward = |kind| [&FORWARD, &FORWARD_WITH_SLOPE].map(|kernel| of_kind(kernel, kind));
    Gelu::ALL.into_iter().flat_map(forward).chain([BACKWARD.default_variant()]).collect()
}

fn of_kind(kernel: &'static Kernel, kind: Gelu) -> Variant {
    kernel.with(&[("GELU", kind.code())])
}

parameters! {
    struct Parameters {
        n: u32,
    }
}

/// `y = gelu(x)`.
///
/// # Shapes
/// Any; y as x.
///
/// # Errors
/// `DType` unless x is f32.
pub fn forward(pass: &mut Pass, kind: Gelu, x: &Tensor) -> Result<Tensor> {
    pass.admit(OP, &[("x", x)])?;
    x.expect_f32(OP, "x", x.shape())?;
    let mut y = pass.empty_f32(x.shape())?;
    if let Some(cpu) = pass.cpu() {
        cpu.run(Work::words("gelu/forward", 2 * x.len()), || cpu::forward(kind, x.f32(), y.f32_mut()));
        return Ok(y);
    }
    dispatch(pass, &of_kind(&FORWARD, kind), [x, &y], 10.0)?;
    Ok(y)
}

/// `y = gelu(x)` and `slope = gelu'(x)`; gives (y, slope).
///
/// # Shapes
/// Any; y and slope as x.
///
/// # Errors
/// `DType` unless x is f32.
pub fn forward_with_slope(pass: &mut Pass, kind: Gelu, x: &Tensor) -> Result<(Tensor, Tensor)> {
    pass.admit(OP, &[("x", x)])?;
    x.expect_f32(OP, "x", x.shape())?;
    let (mut y, mut slope) = (pass.empty_f32(x.shape())?, pass.empty_f32(x.shape())?);
    if let Some(cpu) = pass.cpu() {
        let (y_values, slopes) = (y.f32_mut(), slope.f32_mut());
        let work = Work::words("gelu/forward_with_slope", 3 * x.len());
        cpu.run(work, || cpu::forward_with_slope(kind, x.f32(), y_values, slopes));
        return Ok((y, slope));
    }
    dispatch(pass, &of_kind(&FORWARD_WITH_SLOPE, kind), [x, &y, &slope], 16.0)?;
    Ok((y, slope))
}

/// `dx = slope * dy`; slope may be bf16, as [`super::matmul::linear_gelu`] stores it.
///
/// # Shapes
/// slope, dy, dx alike.
///
/// # Errors
/// `Shape` when slope and dy differ.
pub fn backward(pass: &mut Pass, slope: &Tensor, dy: &Tensor) -> Result<Tensor> {
    pass.admit(OP, &[("slope", slope), ("dy", dy)])?;
    if pass.cpu().is_none() || slope.dtype() != DType::Bf16 {
        slope.expect_f32(OP, "slope", slope.shape())?;
    }
    dy.expect_f32(OP, "dy", slope.shape())?;
    let mut dx = pass.empty_f32(slope.shape())?;
    if let Some(cpu) = pass.cpu() {
        let dx_values = dx.f32_mut();
        cpu.run(Work::words("gelu/backward", 3 * slope.len()), || match slope.dtype() {
            DType::Bf16 => cpu::backward_rounded(slope.bf16(), dy.f32(), dx_values),
            _ => cpu::backward(slope.f32(), dy.f32(), dx_values),
        });
        return Ok(dx);
    }
    dispatch(pass, &BACKWARD.default_variant(), [slope, dy, &dx], 1.0)?;
    Ok(dx)
}

/// One invocation an element, and `work` for each.
fn dispatch<const N: usize>(pass: &mut Pass, variant: &Variant, tensors: [&Tensor; N], work: f64) -> Result<()> {
    let len = tensors[0].len();
    let bound = tensors.map(|tensor| Bound::Rows(tensor, 1));
    pass.dispatch_rows(variant, len, &bound, work * len as f64, |elements| {
        let n = elements.len();
        (Parameters { n: n as u32 }, Grid::rows(n.div_ceil(WG)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;

    fn inputs(n: usize) -> Vec<f32> {
        let mut x: Vec<f32> = random(n, 1).iter().map(|v| v * 12.0).collect();
        // Where a careless tanh or exp overflows.
        let extremes = [0.0, -0.0, 90.0, -90.0, 1e4, -1e4, 1e-20];
        x.iter_mut().zip(extremes).for_each(|(x, extreme)| *x = extreme);
        x
    }

    #[test]
    fn matches_oracle() {
        for n in [1, 63, 65, 4097] {
            let (x, dy) = (inputs(n), random(n, 2));
            on_each_device(|pass| {
                let (x_in, dy_in) = (pass.upload(&x, &[n]).unwrap(), pass.upload(&dy, &[n]).unwrap());
                for kind in Gelu::ALL {
                    let (x64, dy64) = (wide(&x), wide(&dy));
                    let y = forward(pass, kind, &x_in).unwrap();
                    let tolerance = |i: usize| TOLERANCE * (1.0 + x64[i].abs());
                    let want = oracle::forward(kind, &x64);
                    assert_within("y", &checked_read(pass, "y", &y), &want, tolerance);
                    let (y, slope) = forward_with_slope(pass, kind, &x_in).unwrap();
                    assert_within("y beside slope", &checked_read(pass, "y", &y), &want, tolerance);
                    let want = oracle::slope(kind, &x64);
                    assert_within("slope", &checked_read(pass, "slope", &slope), &want, |_| SLOPE_TOLERANCE);
                    let dx = backward(pass, &slope, &dy_in).unwrap();
                    let want = oracle::backward(&want, &dy64);
                    assert_within("dx", &checked_read(pass, "dx", &dx), &want, |i| {
                        SLOPE_TOLERANCE * dy64[i].abs() + EPS * want[i].abs() + 1e-30
                    });
                }
            });
        }
    }

    #[test]
    fn oracle_backward_is_the_derivative() {
        for kind in Gelu::ALL {
            let (x, dy) = (wide(&random(40, 3)), wide(&random(40, 4)));
            let x: Vec<f64> = x.iter().map(|x| x * 4.0).collect();
            let dx = oracle::backward(&oracle::slope(kind, &x), &dy);
            assert_is_gradient("dx", &x, &dy, |x| oracle::forward(kind, x), &dx);
        }
    }

    #[test]
    fn slopes_bend_no_more_than_is_said() {
        let (steps, h) = (4001, 0.005);
        let x: Vec<f64> = (0..steps).map(|i| f64::from(i - steps / 2) * h).collect();
        for kind in Gelu::ALL {
            let slope = oracle::slope(kind, &x);
            assert!(largest(&slope) <= STEEPEST, "{kind:?}");
            let bends: Vec<f64> = slope.windows(2).map(|pair| (pair[1] - pair[0]) / h).collect();
            assert!(largest(&bends) <= BEND, "{kind:?}");
        }
    }

    #[test]
    fn nan_stays_where_it_was_put() {
        let x = [1.0, f32::NAN, -2.0];
        on_each_device(|pass| {
            let x = pass.upload(&x, &[3]).unwrap();
            for kind in Gelu::ALL {
                let (y, slope) = forward_with_slope(pass, kind, &x).unwrap();
                let dx = backward(pass, &slope, &y).unwrap();
                for got in [y, slope, dx] {
                    let nan: Vec<_> = checked_read(pass, "got", &got).iter().map(|got| got.is_nan()).collect();
                    assert_eq!(nan, [false, true, false], "{kind:?}");
                }
            }
        });
    }

    #[test]
    fn shapes_that_differ_are_named() {
        on_each_device(|pass| {
            let (slope, dy) = (pass.zeros(&[2, 3]).unwrap(), pass.zeros(&[3, 2]).unwrap());
            let error = backward(pass, &slope, &dy).unwrap_err().to_string();
            assert_eq!(error, "gelu: dy has shape [3, 2], expected [2, 3]");
        });
    }

    #[test]
    fn backward_by_slopes_stored_in_bf16_matches_the_oracle() {
        let precision = crate::Precision::Bf16;
        let options = crate::DeviceOptions { threads: 2, checked: true, precision, ..Default::default() };
        let mut pass = crate::Device::open(&crate::DeviceRequest::Cpu, options).unwrap().pass();
        for n in [3, 33, 1025] {
            // Times 1, plus 0: the slopes as bf16 has them.
            let (slope, dy) = (random(n, 1), random(n, 2));
            let slope: Vec<f32> = slope.iter().map(|slope| half::bf16::from_f32(*slope).to_f32()).collect();
            let (given, upstream) = (pass.upload(&slope, &[n, 1]).unwrap(), pass.upload(&dy, &[n, 1]).unwrap());
            let (one, zero) = (pass.upload(&[1.0], &[1, 1]).unwrap(), pass.zeros(&[1]).unwrap());
            let stored = crate::ops::matmul::linear_to_product(&mut pass, &given, &one, &zero).unwrap();
            assert_eq!(stored.dtype(), DType::Bf16);
            let dx = backward(&mut pass, &stored, &upstream).unwrap();
            let want = oracle::backward(&wide(&slope), &wide(&dy));
            assert_within("dx", &checked_read(&mut pass, "dx", &dx), &want, |i| EPS * want[i].abs() + 1e-30);
        }
    }

    #[test]
    fn more_than_65535_workgroups_are_covered() {
        let n = 65_536 * WG + 1;
        on_each_device(|pass| {
            let x = pass.upload(&vec![1.0; n], &[n]).unwrap();
            let y = forward(pass, Gelu::Tanh, &x).unwrap();
            let y = checked_read(pass, "y", &y);
            assert!(y.iter().all(|y| (y - 0.841_192).abs() < 1e-5));
        });
    }
}

//! GELU in its three forms, and its derivative.

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

const SOURCE: &[&str] = &[include_str!("../../wgsl/gelu.wgsl"), include_str!("gelu.wgsl")];
const CONSTANTS: &[(&str, u32)] = &[("WG", WG as u32), ("GELU", 0)];
static FORWARD: Kernel = Kernel {
    name: "gelu/forward",
    entry: "forward",
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
    Gelu::ALL
        .iter()
        .flat_map(|gelu| [&FORWARD, &BACKWARD].map(|kernel| kernel.with(&[("GELU", gelu.code())])))
        .collect()
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
    let variant = FORWARD.with(&[("GELU", kind.code())]);
    dispatch(pass, &variant, [x, &y], 10.0)?;
    Ok(y)
}

/// `dx = dy * gelu'(x)`; x may be bf16, as [`super::matmul::linear_gelu`] stores it.
///
/// # Shapes
/// x, dy, dx alike.
///
/// # Errors
/// `Shape` when x and dy differ.
pub fn backward(pass: &mut Pass, kind: Gelu, x: &Tensor, dy: &Tensor) -> Result<Tensor> {
    pass.admit(OP, &[("x", x), ("dy", dy)])?;
    if pass.cpu().is_none() || x.dtype() != DType::Bf16 {
        x.expect_f32(OP, "x", x.shape())?;
    }
    dy.expect_f32(OP, "dy", x.shape())?;
    let mut dx = pass.empty_f32(x.shape())?;
    if let Some(cpu) = pass.cpu() {
        let dx_values = dx.f32_mut();
        cpu.run(Work::words("gelu/backward", 3 * x.len()), || match x.dtype() {
            DType::Bf16 => cpu::backward_rounded(kind, x.bf16(), dy.f32(), dx_values),
            _ => cpu::backward(kind, x.f32(), dy.f32(), dx_values),
        });
        return Ok(dx);
    }
    let variant = BACKWARD.with(&[("GELU", kind.code())]);
    dispatch(pass, &variant, [x, dy, &dx], 14.0)?;
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
                    assert_within("y", &checked_read(pass, "y", &y), &oracle::forward(kind, &x64), tolerance);
                    let dx = backward(pass, kind, &x_in, &dy_in).unwrap();
                    let want = oracle::backward(kind, &x64, &dy64);
                    assert_within("dx", &checked_read(pass, "dx", &dx), &want, |_| 4.0 * TOLERANCE);
                }
            });
        }
    }

    #[test]
    fn oracle_backward_is_the_derivative() {
        for kind in Gelu::ALL {
            let (x, dy) = (wide(&random(40, 3)), wide(&random(40, 4)));
            let x: Vec<f64> = x.iter().map(|x| x * 4.0).collect();
            assert_is_gradient("dx", &x, &dy, |x| oracle::forward(kind, x), &oracle::backward(kind, &x, &dy));
        }
    }

    #[test]
    fn backward_of_inputs_stored_in_bf16_matches_the_oracle() {
        let precision = crate::Precision::Bf16;
        let options = crate::DeviceOptions { threads: 2, checked: true, precision, ..Default::default() };
        let mut pass = crate::Device::open(&crate::DeviceRequest::Cpu, options).unwrap().pass();
        for n in [3, 33, 1025] {
            // Times 1, plus 0: the inputs as bf16 has them.
            let (x, dy) = (random(n, 1), random(n, 2));
            let x: Vec<f32> = x.iter().map(|x| half::bf16::from_f32(6.0 * x).to_f32()).collect();
            let (given, upstream) = (pass.upload(&x, &[n, 1]).unwrap(), pass.upload(&dy, &[n, 1]).unwrap());
            let (one, zero) = (pass.upload(&[1.0], &[1, 1]).unwrap(), pass.zeros(&[1]).unwrap());
            for kind in Gelu::ALL {
                let (_, stored) = crate::ops::matmul::linear_gelu(&mut pass, kind, &given, &one, &zero).unwrap();
                let dx = backward(&mut pass, kind, &stored, &upstream).unwrap();
                let want = oracle::backward(kind, &wide(&x), &wide(&dy));
                assert_within("dx", &checked_read(&mut pass, "dx", &dx), &want, |i| {
                    TOLERANCE * 2.0 * (1.0 + x[i].abs() as f64)
                });
            }
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

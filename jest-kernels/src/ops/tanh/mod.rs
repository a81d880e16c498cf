//! `y = tanh(x)`: what BERT's pooler ends with.

mod cpu;
pub mod oracle;

use crate::catalog::{Kernel, Sent, Variant, parameters};
use crate::profile::Work;
use crate::rows::Bound;
use crate::{Grid, Pass, Result, Tensor};

const OP: &str = "tanh";
const WG: usize = 64;

const SOURCE: &[&str] = &[include_str!("tanh.wgsl")];
const CONSTANTS: &[(&str, u32)] = &[("WG", WG as u32)];
static FORWARD: Kernel = Kernel {
    name: "tanh/forward",
    entry: "forward",
    parts: SOURCE,
    constants: CONSTANTS,
    parameters: Parameters::FIELDS,
};
static BACKWARD: Kernel = Kernel {
    name: "tanh/backward",
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
    }
}

/// `y = tanh(x)`.
///
/// # Shapes
/// Any; y as x.
///
/// # Errors
/// `DType` unless x is f32.
pub fn forward(pass: &mut Pass, x: &Tensor) -> Result<Tensor> {
    pass.admit(OP, &[("x", x)])?;
    x.expect_f32(OP, "x", x.shape())?;
    let mut y = pass.empty_f32(x.shape())?;
    if let Some(cpu) = pass.cpu() {
        cpu.run(Work::words("tanh/forward", 2 * x.len()), || cpu::forward(x.f32(), y.f32_mut()));
        return Ok(y);
    }
    dispatch(pass, &FORWARD, [x, &y])?;
    Ok(y)
}

/// `dx = dy (1 - y²)`, from what [`forward`] gave.
///
/// # Shapes
/// y, dy, dx alike.
///
/// # Errors
/// `Shape` when y and dy differ.
pub fn backward(pass: &mut Pass, y: &Tensor, dy: &Tensor) -> Result<Tensor> {
    pass.admit(OP, &[("y", y), ("dy", dy)])?;
    y.expect_f32(OP, "y", y.shape())?;
    dy.expect_f32(OP, "dy", y.shape())?;
    let mut dx = pass.empty_f32(y.shape())?;
    if let Some(cpu) = pass.cpu() {
        cpu.run(Work::words("tanh/backward", 3 * y.len()), || cpu::backward(y.f32(), dy.f32(), dx.f32_mut()));
        return Ok(dx);
    }
    dispatch(pass, &BACKWARD, [y, dy, &dx])?;
    Ok(dx)
}

/// One invocation an element.
fn dispatch<const N: usize>(pass: &mut Pass, kernel: &'static Kernel, tensors: [&Tensor; N]) -> Result<()> {
    let len = tensors[0].len();
    let bound = tensors.map(|tensor| Bound::Rows(tensor, 1));
    pass.dispatch_rows(&kernel.default_variant(), len, &bound, len as f64, |elements| {
        let n = elements.len();
        (Parameters { n: n as u32 }, Grid::rows(n.div_ceil(WG)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;

    /// Error of WGSL's tanh relative to 1, by its definition through exponentials.
    const TOLERANCE: f64 = 1e-6;

    fn check(n: usize) {
        let x: Vec<f32> = random(n, 1).iter().map(|x| 6.0 * x).collect();
        let dy = random(n, 2);
        let want = oracle::forward(&wide(&x));
        let y: Vec<f32> = want.iter().map(|y| *y as f32).collect();
        let dx_want = oracle::backward(&wide(&y), &wide(&dy));
        on_each_device(|pass| {
            let upload = |pass: &mut Pass, values: &[f32]| pass.upload(values, &[n]).unwrap();
            let (x, y, dy) = (upload(pass, &x), upload(pass, &y), upload(pass, &dy));
            let got = forward(pass, &x).unwrap();
            assert_within("y", &checked_read(pass, "y", &got), &want, |_| TOLERANCE);
            let dx = backward(pass, &y, &dy).unwrap();
            assert_within("dx", &checked_read(pass, "dx", &dx), &dx_want, |_| 4.0 * EPS);
        });
    }

    #[test]
    fn matches_oracle_on_ragged_shapes() {
        RAGGED.into_iter().for_each(check);
        check(65_537 * WG + 1);
    }

    #[test]
    fn oracle_backward_is_the_derivative() {
        let (x, dy) = (wide(&random(9, 1)), wide(&random(9, 2)));
        assert_is_gradient("dx", &x, &dy, oracle::forward, &oracle::backward(&oracle::forward(&x), &dy));
    }

    #[test]
    fn large_numbers_are_1_and_nan_is_not_hidden() {
        on_each_device(|pass| {
            let x = pass.upload(&[1e30, -1e30, 90.0, f32::NAN, 0.0], &[5]).unwrap();
            let y = forward(pass, &x).unwrap();
            let y = pass.read(&y).unwrap();
            assert!(y[3].is_nan() && (y[0], y[1], y[2], y[4]) == (1.0, -1.0, 1.0, 0.0), "{y:?}");
        });
    }

    #[test]
    fn wrong_shapes_are_named() {
        on_each_device(|pass| {
            let (y, dy) = (pass.zeros(&[2]).unwrap(), pass.zeros(&[3]).unwrap());
            let error = backward(pass, &y, &dy).unwrap_err().to_string();
            assert_eq!(error, "tanh: dy has shape [3], expected [2]");
        });
    }
}

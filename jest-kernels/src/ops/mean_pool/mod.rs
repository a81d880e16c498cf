//! The mean of an example's first rows: `y[i] = sum over j < lengths[i] of x[i * l + j] / lengths[i]` (a text without its
//! padding).

mod cpu;
pub mod oracle;

use crate::catalog::{Kernel, Sent, Variant, parameters};
use crate::profile::Work;
use crate::rows::Bound;
use crate::{Grid, KernelError, Pass, Result, Tensor};

const OP: &str = "mean_pool";
const WG: usize = 64;

const SOURCE: &[&str] = &[include_str!("mean_pool.wgsl")];
const CONSTANTS: &[(&str, u32)] = &[("WG", WG as u32)];
static FORWARD: Kernel = Kernel {
    name: "mean_pool/forward",
    entry: "forward",
    parts: SOURCE,
    constants: CONSTANTS,
    parameters: Parameters::FIELDS,
};
static BACKWARD: Kernel = Kernel {
    name: "mean_pool/backward",
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
        length: u32,
    }
}

/// How many of the l rows of each of n examples count.
#[derive(Clone, Debug)]
pub struct Counted {
    /// u32 `[n]`
    lengths: Tensor,
    n: usize,
    l: usize,
}

impl Counted {
    /// Puts lengths of 1 to l on the device.
    ///
    /// # Errors
    /// `Size` for a length outside of that, with its example.
    pub fn upload(pass: &mut Pass, lengths: &[u32], l: usize) -> Result<Self> {
        if let Some(example) = lengths.iter().position(|length| !(1..=l).contains(&(*length as usize))) {
            let (got, rule) = (lengths[example] as usize, format!("within 1..={l} (example {example})"));
            return Err(KernelError::Size { op: OP, what: "length", got, rule });
        }
        Ok(Self { lengths: pass.upload_u32(lengths, &[lengths.len()])?, n: lengths.len(), l })
    }
}

/// `y[i] = sum over j < lengths[i] of x[i * l + j] / lengths[i]`, in the order of j.
///
/// # Shapes
/// x: [n * l, d]; y: [n, d].
///
/// # Errors
/// `Shape` when x has another number of rows.
pub fn forward(pass: &mut Pass, x: &Tensor, counted: &Counted) -> Result<Tensor> {
    pass.admit(OP, &[("x", x), ("lengths", &counted.lengths)])?;
    let Counted { n, l, .. } = *counted;
    let d = x.cols();
    x.expect_f32(OP, "x", &[n * l, d])?;
    let mut y = pass.empty_f32(&[n, d])?;
    if let Some(cpu) = pass.cpu() {
        cpu.run(Work::words("mean_pool/forward", x.len()), || {
            cpu::forward(x.f32(), counted.lengths.u32(), l, d, y.f32_mut());
        });
        return Ok(y);
    }
    dispatch(pass, &FORWARD, counted, [x, &y])?;
    Ok(y)
}

/// `dx[i * l + j] = dy[i] / lengths[i]` where `j < lengths[i]`, else 0.
///
/// # Shapes
/// dy: [n, d]; dx: [n * l, d].
///
/// # Errors
/// `Shape` when dy has another number of rows.
pub fn backward(pass: &mut Pass, dy: &Tensor, counted: &Counted) -> Result<Tensor> {
    pass.admit(OP, &[("dy", dy), ("lengths", &counted.lengths)])?;
    let Counted { n, l, .. } = *counted;
    let d = dy.cols();
    dy.expect_f32(OP, "dy", &[n, d])?;
    let mut dx = pass.empty_f32(&[n * l, d])?;
    if let Some(cpu) = pass.cpu() {
        cpu.run(Work::words("mean_pool/backward", n * l * d), || {
            cpu::backward(dy.f32(), counted.lengths.u32(), l, d, dx.f32_mut());
        });
        return Ok(dx);
    }
    dispatch(pass, &BACKWARD, counted, [dy, &dx])?;
    Ok(dx)
}

/// One invocation for each element of the second tensor.
fn dispatch(pass: &mut Pass, kernel: &'static Kernel, counted: &Counted, [from, to]: [&Tensor; 2]) -> Result<()> {
    let [source, goal] = [from.len(), to.len()].map(|len| len / counted.n);
    let bound = [Bound::Rows(from, source), Bound::Rows(&counted.lengths, 1), Bound::Rows(to, goal)];
    let work = from.len().max(to.len()) as f64;
    pass.dispatch_rows(&kernel.default_variant(), counted.n, &bound, work, |examples| {
        let n = examples.len() * goal;
        let parameters = Parameters { n: n as u32, cols: to.cols() as u32, length: counted.l as u32 };
        (parameters, Grid::rows(n.div_ceil(WG)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;

    fn check(n: usize, l: usize, d: usize) {
        let lengths: Vec<u32> = (0..n).map(|i| ((7 * i + 2) % l) as u32 + 1).collect();
        let (x, dy) = (random(n * l * d, 1), random(n * d, 2));
        let want = oracle::forward(&wide(&x), &lengths, l, d);
        let dx_want = oracle::backward(&wide(&dy), &lengths, l, d);
        on_each_device(|pass| {
            let counted = Counted::upload(pass, &lengths, l).unwrap();
            let (x, dy) = (pass.upload(&x, &[n * l, d]).unwrap(), pass.upload(&dy, &[n, d]).unwrap());
            let y = forward(pass, &x, &counted).unwrap();
            assert_within("y", &checked_read(pass, "y", &y), &want, |_| sum_tolerance(l + 1, 1.0));
            let dx = backward(pass, &dy, &counted).unwrap();
            // WGSL grants a division 2.5 units in the last place.
            assert_within("dx", &checked_read(pass, "dx", &dx), &dx_want, |_| 5.0 * EPS);
        });
    }

    #[test]
    fn matches_oracle_on_ragged_shapes() {
        for n in RAGGED {
            check(n, 4, 3);
            check(2, n, 5);
            check(3, 2, n);
        }
    }

    #[test]
    fn matches_oracle_beyond_one_dispatch_dimension() {
        check(65_537, 2, 65);
    }

    #[test]
    fn oracle_backward_is_the_derivative() {
        let (l, d, lengths) = (3, 2, [3, 1]);
        let (x, dy) = (wide(&random(2 * l * d, 1)), wide(&random(2 * d, 2)));
        let dx = oracle::backward(&dy, &lengths, l, d);
        assert_is_gradient("dx", &x, &dy, |x| oracle::forward(x, &lengths, l, d), &dx);
    }

    #[test]
    fn nan_of_padding_is_not_seen_and_of_a_token_not_hidden() {
        on_each_device(|pass| {
            let counted = Counted::upload(pass, &[2, 2], 3).unwrap();
            let x = pass.upload(&[1.0, 3.0, f32::NAN, f32::NAN, 1.0, 1.0], &[6, 1]).unwrap();
            let y = forward(pass, &x, &counted).unwrap();
            let y = pass.read(&y).unwrap();
            assert!(y[0] == 2.0 && y[1].is_nan(), "{y:?}");
            let dy = pass.upload(&[f32::NAN, 1.0], &[2, 1]).unwrap();
            let dx = backward(pass, &dy, &counted).unwrap();
            let dx = pass.read(&dx).unwrap();
            assert!(dx[0].is_nan() && dx[2..] == [0.0, 0.5, 0.5, 0.0], "{dx:?}");
        });
    }

    #[test]
    fn wrong_lengths_and_shapes_are_named() {
        on_each_device(|pass| {
            let error = Counted::upload(pass, &[1, 0], 3).unwrap_err().to_string();
            assert_eq!(error, "mean_pool: length is 0, but must be within 1..=3 (example 1)");
            assert!(Counted::upload(pass, &[4], 3).is_err());
            let counted = Counted::upload(pass, &[1, 3], 3).unwrap();
            let x = pass.zeros(&[5, 2]).unwrap();
            let error = forward(pass, &x, &counted).unwrap_err().to_string();
            assert_eq!(error, "mean_pool: x has shape [5, 2], expected [6, 2]");
            assert!(backward(pass, &x, &counted).is_err());
        });
    }
}

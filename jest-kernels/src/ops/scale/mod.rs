//! A tensor times a number: `x *= factor`.

mod cpu;
pub mod oracle;

use crate::catalog::{Kernel, Sent, Variant, parameters};
use crate::profile::Work;
use crate::rows::Bound;
use crate::{Grid, Pass, Result, Tensor};

const OP: &str = "scale";
const WG: usize = 64;

static SCALE: Kernel = Kernel {
    name: "scale/in_place",
    entry: "scale",
    parts: &[include_str!("scale.wgsl")],
    constants: &[("WG", WG as u32)],
    parameters: Parameters::FIELDS,
};

pub(crate) fn variants() -> Vec<Variant> {
    vec![SCALE.default_variant()]
}

parameters! {
    struct Parameters {
        n: u32,
        factor: f32,
    }
}

/// `x *= factor`. It scales gradients, which have none of their own: there is no backward.
///
/// # Shapes
/// Any.
///
/// # Errors
/// `DType` unless x is f32; `OtherDevice`.
pub fn in_place(pass: &mut Pass, x: &mut Tensor, factor: f32) -> Result<()> {
    pass.admit(OP, &[("x", x)])?;
    x.expect_f32(OP, "x", x.shape())?;
    if let Some(cpu) = pass.cpu() {
        cpu.run(Work::words(OP, 2 * x.len()), || cpu::in_place(x.f32_mut(), factor));
        return Ok(());
    }
    x.gpu_unique(pass)?;
    pass.dispatch_rows(&SCALE.default_variant(), x.len(), &[Bound::Rows(x, 1)], x.len() as f64, |elements| {
        let n = elements.len();
        (Parameters { n: n as u32, factor }, Grid::rows(n.div_ceil(WG)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;

    #[test]
    fn matches_oracle_on_ragged_shapes_and_clones_stay() {
        for n in RAGGED.into_iter().chain([65_537 * WG]) {
            let x = random(n, 1);
            let want = oracle::in_place(&wide(&x), 0.3f32.into());
            on_each_device(|pass| {
                let mut y = pass.upload(&x, &[n]).unwrap();
                let before = y.clone();
                in_place(pass, &mut y, 0.3).unwrap();
                assert_within("y", &checked_read(pass, "y", &y), &want, |_| EPS);
                assert_eq!(pass.read(&before).unwrap(), x);
            });
        }
    }

    #[test]
    fn nan_stays_where_it_is() {
        on_each_device(|pass| {
            let mut x = pass.upload(&[1.0, f32::NAN, 2.0], &[3]).unwrap();
            in_place(pass, &mut x, 2.0).unwrap();
            let y = pass.read(&x).unwrap();
            assert!(y[1].is_nan() && [y[0], y[2]] == [2.0, 4.0]);
        });
    }
}

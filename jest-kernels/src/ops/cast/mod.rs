//! f32 to f16, rounded to nearest with ties to even, and back. The same bits on every device.

mod cpu;
pub mod oracle;
#[cfg(test)]
mod tests;

use crate::catalog::{Kernel, Sent, Variant, parameters};
use crate::profile::Work;
use crate::rows::Bound;
use crate::{DType, Grid, Pass, Result, Tensor};

const OP: &str = "cast";
const WG: usize = 64;

const SOURCE: &[&str] = &[include_str!("cast.wgsl")];
const CONSTANTS: &[(&str, u32)] = &[("WG", WG as u32)];
static TO_F16: Kernel = Kernel {
    name: "cast/to_f16",
    entry: "to_f16",
    parts: SOURCE,
    constants: CONSTANTS,
    parameters: Parameters::FIELDS,
};
static TO_F32: Kernel = Kernel {
    name: "cast/to_f32",
    entry: "to_f32",
    parts: SOURCE,
    constants: CONSTANTS,
    parameters: Parameters::FIELDS,
};

pub(crate) fn variants() -> Vec<Variant> {
    [&TO_F16, &TO_F32].map(Kernel::default_variant).to_vec()
}

parameters! {
    struct Parameters {
        n: u32,
    }
}

/// The nearest f16 of each element, ties to even; 65,520 and more become infinite, NaN stays NaN.
///
/// It stores what is past learning (embeddings of a reference), so it has no backward.
///
/// # Shapes
/// Any; the result as x.
///
/// # Errors
/// `DType` unless x is f32.
pub fn to_f16(pass: &mut Pass, x: &Tensor) -> Result<Tensor> {
    pass.admit(OP, &[("x", x)])?;
    x.expect_f32(OP, "x", x.shape())?;
    let mut y = pass.empty(DType::F16, x.shape())?;
    if let Some(cpu) = pass.cpu() {
        cpu.run(Work::words("cast/to_f16", x.len() * 3 / 2), || cpu::to_f16(x.f32(), y.f16_mut()));
        return Ok(y);
    }
    dispatch(pass, &TO_F16, x, &y)?;
    Ok(y)
}

/// Each element as products read it: a copy in bf16 where they round to it, which spares them the rounding; x itself
/// elsewhere.
///
/// It stands between a parameter and its products, and gradients are those of the parameter: it has no backward.
///
/// # Shapes
/// Any; the result as x.
///
/// # Errors
/// `DType` unless x is f32.
pub fn to_product_operand(pass: &mut Pass, x: &Tensor) -> Result<Tensor> {
    pass.admit(OP, &[("x", x)])?;
    x.expect_f32(OP, "x", x.shape())?;
    if pass.product_operand() == DType::F32 {
        return Ok(x.clone());
    }
    let mut y = pass.empty(DType::Bf16, x.shape())?;
    if let Some(cpu) = pass.cpu() {
        cpu.run(Work::words("cast/to_bf16", x.len() * 3 / 2), || cpu::to_bf16(x.f32(), y.bf16_mut()));
    }
    Ok(y)
}

/// Each element as f32, exactly; NaN stays NaN.
///
/// # Shapes
/// Any; the result as x.
///
/// # Errors
/// `DType` unless x is f16, or, on the CPU device, bf16.
pub fn to_f32(pass: &mut Pass, x: &Tensor) -> Result<Tensor> {
    pass.admit(OP, &[("x", x)])?;
    let brain = pass.cpu().is_some() && x.dtype() == DType::Bf16;
    if !brain {
        x.expect(OP, "x", DType::F16, x.shape())?;
    }
    let mut y = pass.empty_f32(x.shape())?;
    if let Some(cpu) = pass.cpu() {
        let values = y.f32_mut();
        cpu.run(Work::words("cast/to_f32", x.len() * 3 / 2), || {
            if brain { cpu::bf16_to_f32(x.bf16(), values) } else { cpu::to_f32(x.f16(), values) }
        });
        return Ok(y);
    }
    dispatch(pass, &TO_F32, x, &y)?;
    Ok(y)
}

/// One invocation for each word of the f16 tensor.
fn dispatch(pass: &mut Pass, kernel: &'static Kernel, x: &Tensor, y: &Tensor) -> Result<()> {
    let bound = [x, y].map(|tensor| Bound::Rows(tensor, 1));
    pass.dispatch_rows(&kernel.default_variant(), x.len(), &bound, 8.0 * x.len() as f64, |elements| {
        let n = elements.len();
        (Parameters { n: n as u32 }, Grid::rows(DType::F16.words(n).div_ceil(WG)))
    })
}

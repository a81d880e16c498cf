//! Column sums: `out[j] += sum_i x[i, j]`, the gradient of a bias.

mod cpu;
pub mod oracle;

use crate::catalog::{Kernel, Sent, Variant, parameters};
use crate::profile::Work;
use crate::rows::Bound;
use crate::{DType, Grid, KernelError, Pass, Result, Tensor};

const OP: &str = "column_sum";
/// Rows that one workgroup sums: fixed, so sums repeat.
const ROWS_PER_PART: usize = 256;

const SOURCE: &[&str] = &[include_str!("column_sum.wgsl")];
static PARTS: Kernel = Kernel {
    name: "column_sum/parts",
    entry: "parts",
    parts: SOURCE,
    constants: &[("WG", 64)],
    parameters: Parameters::FIELDS,
};
static FINISH: Kernel = Kernel {
    name: "column_sum/finish",
    entry: "finish",
    parts: SOURCE,
    constants: &[("WG", 64)],
    parameters: Parameters::FIELDS,
};

pub(crate) fn variants() -> Vec<Variant> {
    [&PARTS, &FINISH].map(Kernel::default_variant).to_vec()
}

parameters! {
    struct Parameters {
        rows: u32,
        cols: u32,
        stride: u32,
        offset: u32,
        rows_per_part: u32,
    }
}

/// `out[j] += sum_i x[i, j]`; x may be bf16 on the CPU device, as products' gradients are stored there.
///
/// # Shapes
/// x: [.., d]; out: `[d]`.
///
/// # Errors
/// `Shape` when out is not as long as a row.
pub fn accumulate(pass: &mut Pass, x: &Tensor, out: &mut Tensor) -> Result<()> {
    out.expect_f32(OP, "out", &[x.cols()])?;
    accumulate_columns(pass, x, 0, out)
}

/// `out[j] += sum_i x[i, offset + j]`: the sums of some columns.
pub(crate) fn accumulate_columns(pass: &mut Pass, x: &Tensor, offset: usize, out: &mut Tensor) -> Result<()> {
    let (rows, stride, cols) = (x.rows(), x.cols(), out.len());
    pass.admit(OP, &[("x", x), ("out", out)])?;
    if pass.cpu().is_none() || x.dtype() != DType::Bf16 {
        x.expect_f32(OP, "x", x.shape())?;
    }
    out.expect_f32(OP, "out", out.shape())?;
    if offset + cols > stride {
        return Err(KernelError::Size {
            op: OP,
            what: "last column",
            got: offset + cols,
            rule: format!("at most {stride}"),
        });
    }
    let parts = rows.div_ceil(ROWS_PER_PART);
    let mut partial = pass.empty_f32(&[parts, cols])?;
    if let Some(cpu) = pass.cpu() {
        let (partial, out) = (partial.f32_mut(), out.f32_mut());
        cpu.run(Work::words("column_sum", rows * cols), || match x.dtype() {
            DType::Bf16 => cpu::accumulate_rounded(x.bf16(), stride, offset, partial, out),
            _ => cpu::accumulate(x.f32(), stride, offset, partial, out),
        });
        return Ok(());
    }
    let first = Parameters {
        rows: rows as u32,
        cols: cols as u32,
        stride: stride as u32,
        offset: offset as u32,
        rows_per_part: ROWS_PER_PART as u32,
    };
    let bound = [Bound::Rows(x, ROWS_PER_PART * stride), Bound::Rows(&partial, cols)];
    pass.dispatch_rows(&PARTS.default_variant(), parts, &bound, (rows * cols) as f64, |parts| {
        let rows = (parts.end * ROWS_PER_PART).min(rows) - parts.start * ROWS_PER_PART;
        (Parameters { rows: rows as u32, ..first }, Grid::layers(parts.len(), cols.div_ceil(64)))
    })?;
    out.gpu_unique(pass)?;
    let second = Parameters { rows: parts as u32, stride: cols as u32, offset: 0, ..first };
    let work = (parts * cols) as f64;
    pass.dispatch(&FINISH.default_variant(), &[&partial, out], second, Grid::rows(cols.div_ceil(64)), work)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;

    fn check(rows: usize, cols: usize) {
        let x = random(rows * cols, 1);
        let start = random(cols, 2);
        let want = oracle::accumulate(&wide(&x), &wide(&start));
        let magnitude = oracle::accumulate(&magnitudes(&wide(&x)), &magnitudes(&wide(&start)));
        on_each_device(|pass| {
            let x = pass.upload(&x, &[rows, cols]).unwrap();
            let mut out = pass.upload(&start, &[cols]).unwrap();
            let untouched = out.clone();
            accumulate(pass, &x, &mut out).unwrap();
            let got = checked_read(pass, "out", &out);
            assert_within("out", &got, &want, |j| sum_tolerance(rows, magnitude[j]));
            assert_eq!(pass.read(&untouched).unwrap(), start, "a clone keeps its own value");
        });
    }

    #[test]
    fn rows_stored_in_bf16_give_the_sums_of_their_values() {
        let precision = crate::Precision::Bf16;
        let options = crate::DeviceOptions { threads: 2, checked: true, precision, ..Default::default() };
        let mut pass = crate::Device::open(&crate::DeviceRequest::Cpu, options).unwrap().pass();
        for (rows, cols) in [(1, 3), (257, 33), (600, 64)] {
            let one: Vec<f32> = (0..cols * cols).map(|i| f32::from(u8::from(i / cols == i % cols))).collect();
            let (one, zero) = (pass.upload(&one, &[cols, cols]).unwrap(), pass.zeros(&[cols]).unwrap());
            let x = pass.upload(&random(rows * cols, 1), &[rows, cols]).unwrap();
            let stored = crate::ops::matmul::linear_to_product(&mut pass, &x, &one, &zero).unwrap();
            assert_eq!(stored.dtype(), DType::Bf16);
            let values = crate::ops::cast::to_f32(&mut pass, &stored).unwrap();
            let [got, want] = [&stored, &values].map(|x| {
                let mut out = pass.upload(&random(cols, 2), &[cols]).unwrap();
                accumulate(&mut pass, x, &mut out).unwrap();
                checked_read(&mut pass, "out", &out)
            });
            assert_eq!(got, want, "{rows}x{cols}");
        }
    }

    #[test]
    fn matches_oracle_on_ragged_shapes() {
        for n in RAGGED {
            check(n, 33);
            check(3, n);
        }
        check(65_537, 2);
    }
}

//! Norm of all gradients together: `sqrt(sum over tensors, elements of g²)`.

mod cpu;
pub mod oracle;

use crate::catalog::{Kernel, Sent, Variant, parameters};
use crate::profile::Work;
use crate::rows::Bound;
use crate::{Grid, KernelError, Pass, Result, Tensor};

const OP: &str = "global_norm";
/// Elements whose squares one workgroup sums: fixed, so sums repeat.
const BLOCK: usize = 4096;

const SOURCE: &[&str] = &[include_str!("../../wgsl/reduce.wgsl"), include_str!("global_norm.wgsl")];
const CONSTANTS: &[(&str, u32)] = &[("WG", 64), ("BLOCK", BLOCK as u32)];
static SQUARES: Kernel = Kernel {
    name: "global_norm/squares",
    entry: "squares",
    parts: SOURCE,
    constants: CONSTANTS,
    parameters: Parameters::FIELDS,
};
static FINISH: Kernel = Kernel {
    name: "global_norm/finish",
    entry: "finish",
    parts: SOURCE,
    constants: CONSTANTS,
    parameters: Parameters::FIELDS,
};

pub(crate) fn variants() -> Vec<Variant> {
    [&SQUARES, &FINISH].map(Kernel::default_variant).to_vec()
}

parameters! {
    struct Parameters {
        n: u32,
        offset: u32,
    }
}

/// `sqrt(sum of g²)` over all elements of all tensors; not finite when any element is not.
///
/// # Shapes
/// Any; gives one value `[1]`, on the device.
///
/// # Errors
/// `Size` without any tensor.
pub fn forward(pass: &mut Pass, gradients: &[&Tensor]) -> Result<Tensor> {
    if gradients.is_empty() {
        return Err(KernelError::Size { op: OP, what: "number of tensors", got: 0, rule: "at least 1".to_string() });
    }
    for gradient in gradients {
        pass.admit(OP, &[("gradient", gradient)])?;
        gradient.expect_f32(OP, "gradient", gradient.shape())?;
    }
    let parts: usize = gradients.iter().map(|gradient| gradient.len().div_ceil(BLOCK)).sum();
    let mut partial = pass.empty_f32(&[parts])?;
    let mut norm = pass.empty_f32(&[1])?;
    if let Some(cpu) = pass.cpu() {
        let slices: Vec<&[f32]> = gradients.iter().map(|gradient| gradient.f32()).collect();
        let work = Work::words("global_norm", slices.iter().map(|slice| slice.len()).sum());
        norm.f32_mut()[0] = cpu.run(work, || cpu::norm(&slices, partial.f32_mut()));
        return Ok(norm);
    }
    let mut offset = 0;
    for gradient in gradients {
        let (len, groups) = (gradient.len(), gradient.len().div_ceil(BLOCK));
        let bound = [Bound::Rows(gradient, BLOCK), Bound::Whole(&partial)];
        pass.dispatch_rows(&SQUARES.default_variant(), groups, &bound, 2.0 * len as f64, |blocks| {
            let n = (blocks.end * BLOCK).min(len) - blocks.start * BLOCK;
            (Parameters { n: n as u32, offset: (offset + blocks.start) as u32 }, Grid::rows(blocks.len()))
        })?;
        offset += groups;
    }
    let parameters = Parameters { n: parts as u32, offset: 0 };
    pass.dispatch(&FINISH.default_variant(), &[&partial, &norm], parameters, Grid::rows(1), parts as f64)?;
    Ok(norm)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;

    #[test]
    fn matches_oracle_over_several_tensors() {
        for sizes in [vec![1], vec![3, 4096, 4097], vec![769, 65, 20_000, 1], vec![65 * 4096 + 1]] {
            let values: Vec<Vec<f32>> = (1..).zip(&sizes).map(|(seed, n)| random(*n, seed)).collect();
            let want = oracle::forward(&values.iter().map(|v| wide(v)).collect::<Vec<_>>());
            on_every_kernel(|pass| {
                let tensors: Vec<_> = values.iter().map(|v| pass.upload(v, &[v.len()]).unwrap()).collect();
                let norm = forward(pass, &tensors.iter().collect::<Vec<_>>()).unwrap();
                // The relative error of a sum of squares is at most its depth times eps; a root halves it.
                assert_within("norm", &checked_read(pass, "norm", &norm), &[want], |_| sum_tolerance(64 + 12, want));
            });
        }
    }

    #[test]
    fn one_bad_element_anywhere_shows() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            on_every_kernel(|pass| {
                let mut values = random(5000, 1);
                values[4999] = bad;
                let tensors = [pass.zeros(&[7]).unwrap(), pass.upload(&values, &[5000]).unwrap()];
                let norm = forward(pass, &[&tensors[0], &tensors[1]]).unwrap();
                assert!(!pass.read(&norm).unwrap()[0].is_finite());
            });
        }
    }

    #[test]
    fn no_tensors_is_an_error() {
        on_every_kernel(|pass| assert!(forward(pass, &[]).is_err()));
    }
}

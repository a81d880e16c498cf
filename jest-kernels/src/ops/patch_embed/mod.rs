//! Patch embedding: a convolution whose stride is the kernel's side, as a product with the images cut into patches.

mod cpu;
pub mod oracle;

use super::matmul::{self, Form};
use crate::catalog::{Kernel, Sent, Variant, parameters};
use crate::profile::Work;
use crate::rows::Bound;
use crate::{DType, Grid, KernelError, Pass, Result, Tensor};

const OP: &str = "patch_embed";
const WG: usize = 64;

static PATCHIFY: Kernel = Kernel {
    name: "patch_embed/patchify",
    entry: "patchify",
    parts: &[include_str!("patch_embed.wgsl")],
    constants: &[("WG", WG as u32)],
    parameters: Parameters::FIELDS,
};

pub(crate) fn variants() -> Vec<Variant> {
    vec![PATCHIFY.default_variant()]
}

parameters! {
    struct Parameters {
        n: u32,
        channels: u32,
        side: u32,
        patch_size: u32,
    }
}

/// What the backward pass needs; made by [`forward`], consumed by [`backward`].
#[derive(Debug)]
pub struct Saved {
    /// [n * grid * grid, channels * patch * patch]
    patches: Tensor,
}

/// Images cut into patches, with `grid = side / patch`.
///
/// # Shapes
/// images: [n, channels, side, side]; result: [n * grid * grid, channels * patch * patch]. Rows go left to right, then
/// down, then through the images; columns are (channel, y, x), x fastest: the order of a convolution weight.
///
/// # Errors
/// `Shape` when the images are not square; `Size` when the patch does not divide their side.
pub fn patchify(pass: &mut Pass, images: &Tensor, patch: usize) -> Result<Tensor> {
    pass.admit(OP, &[("images", images)])?;
    let (n, channels, side) = match *images.shape() {
        [n, channels, side, _] => (n, channels, side),
        _ => {
            return Err(KernelError::Size {
                op: OP,
                what: "rank of images",
                got: images.shape().len(),
                rule: "4".into(),
            });
        }
    };
    images.expect_f32(OP, "images", &[n, channels, side, side])?;
    if patch == 0 || !side.is_multiple_of(patch) {
        let rule = format!("a divisor of the image side {side}");
        return Err(KernelError::Size { op: OP, what: "patch", got: patch, rule });
    }
    let grid = side / patch;
    let mut patches = pass.empty_f32(&[n * grid * grid, channels * patch * patch])?;
    if let Some(cpu) = pass.cpu() {
        cpu.run(Work::words("patch_embed/patchify", 2 * images.len()), || {
            cpu::patchify(images.f32(), channels, side, patch, patches.f32_mut())
        });
        return Ok(patches);
    }
    let [channels, side, patch_size, each] = [channels, side, patch, channels * side * side].map(|size| size as u32);
    let bound = [images, &patches].map(|tensor| Bound::Rows(tensor, each as usize));
    pass.dispatch_rows(&PATCHIFY.default_variant(), n, &bound, 8.0 * images.len() as f64, |images| {
        let n = images.len() as u32 * each;
        (Parameters { n, channels, side, patch_size }, Grid::rows((n as usize).div_ceil(WG)))
    })?;
    Ok(patches)
}

/// `y = patchify(images) · weightᵀ + bias`.
///
/// # Shapes
/// images: [n, channels, side, side]; weight: [width, channels, patch, patch]; bias: `[width]`;
/// y: [n * grid * grid, width].
///
/// # Errors
/// As [`patchify`]; `Shape` when weight or bias does not fit.
pub fn forward(
    pass: &mut Pass,
    images: &Tensor,
    patch: usize,
    weight: &Tensor,
    bias: &Tensor,
) -> Result<(Tensor, Saved)> {
    let (width, channels) = (bias.len(), images.shape().get(1).copied().unwrap_or(0));
    // In f32 or as products read it.
    let stored = if weight.dtype() == DType::F32 { DType::F32 } else { pass.product_operand() };
    weight.expect(OP, "weight", stored, &[width, channels, patch, patch])?;
    let patches = patchify(pass, images, patch)?;
    let flat = weight.reshape(&[width, patches.cols()])?;
    let y = matmul::linear(pass, &patches, &flat, bias)?;
    Ok((y, Saved { patches }))
}

/// Adds `dyᵀ · patches` to `dweight` and the column sums of dy to `dbias`.
///
/// There is no gradient by the images: they are data, and nothing before them learns.
///
/// # Shapes
/// dy: [n * grid * grid, width]; dweight: [width, channels, patch, patch]; dbias: `[width]`.
///
/// # Errors
/// `Shape` when an operand does not fit the forward pass.
pub fn backward(pass: &mut Pass, saved: Saved, dy: &Tensor, dweight: &mut Tensor, dbias: &mut Tensor) -> Result<()> {
    let Saved { patches } = saved;
    dy.expect_f32(OP, "dy", &[patches.rows(), dbias.len()])?;
    if dweight.shape().first() != Some(&dbias.len()) || dweight.len() != dbias.len() * patches.cols() {
        let (expected, got) = (vec![dbias.len(), patches.cols()], dweight.shape().to_vec());
        return Err(KernelError::Shape { op: OP, what: "dweight", expected, got });
    }
    matmul::accumulate(pass, Form::AtB, dy, &patches, dweight)?;
    super::column_sum::accumulate(pass, dy, dbias)
}

#[cfg(test)]
mod tests {
    use super::oracle::Sizes;
    use super::*;
    use crate::testing::*;

    fn check(sizes: Sizes) {
        let Sizes { n, channels, side, patch, width } = sizes;
        let (rows, depth) = (n * (side / patch) * (side / patch), channels * patch * patch);
        let images = random(n * channels * side * side, 1);
        let (weight, bias, dy) = (random(width * depth, 2), random(width, 3), random(rows * width, 4));
        let want = oracle::forward(sizes, &wide(&images), &wide(&weight), &wide(&bias));
        let (dweight, dbias) = oracle::backward(sizes, &wide(&images), &wide(&dy));
        on_each_device(|pass| {
            let images = pass.upload(&images, &[n, channels, side, side]).unwrap();
            let weight = pass.upload(&weight, &[width, channels, patch, patch]).unwrap();
            let (bias, dy) = (pass.upload(&bias, &[width]).unwrap(), pass.upload(&dy, &[rows, width]).unwrap());
            let (y, saved) = forward(pass, &images, patch, &weight, &bias).unwrap();
            let tolerance = sum_tolerance(depth + 1, (depth + 1) as f64);
            assert_within("y", &checked_read(pass, "y", &y), &want, |_| tolerance);
            let (mut dw, mut db) = (weight.clone(), bias.clone());
            backward(pass, saved, &dy, &mut dw, &mut db).unwrap();
            let (weight, bias) = (pass.read(&weight).unwrap(), pass.read(&bias).unwrap());
            let added = |start: &[f32], by: &[f64]| -> Vec<f64> {
                start.iter().zip(by).map(|(start, by)| f64::from(*start) + by).collect()
            };
            let tolerance = sum_tolerance(rows + 1, (rows + 1) as f64);
            assert_within("dweight", &checked_read(pass, "dweight", &dw), &added(&weight, &dweight), |_| tolerance);
            assert_within("dbias", &checked_read(pass, "dbias", &db), &added(&bias, &dbias), |_| tolerance);
        });
    }

    #[test]
    fn matches_oracle_on_ragged_shapes() {
        check(Sizes { n: 1, channels: 1, side: 1, patch: 1, width: 1 });
        check(Sizes { n: 3, channels: 3, side: 9, patch: 3, width: 5 });
        check(Sizes { n: 2, channels: 3, side: 32, patch: 8, width: 33 });
        check(Sizes { n: 1, channels: 2, side: 31, patch: 31, width: 3 });
        check(Sizes { n: 5, channels: 3, side: 34, patch: 2, width: 1 });
    }

    #[test]
    fn patches_beyond_one_dispatch_dimension_are_cut() {
        // Every pixel is its own patch, so that the elements keep their order.
        let n = 65_537 * WG + 1;
        let values: Vec<f32> = (0..n).map(|i| i as f32).collect();
        on_each_device(|pass| {
            let images = pass.upload(&values, &[n, 1, 1, 1]).unwrap();
            let patches = patchify(pass, &images, 1).unwrap();
            assert_eq!(patches.shape(), [n, 1]);
            assert_eq!(checked_read(pass, "patches", &patches), values);
        });
    }

    #[test]
    fn rows_and_columns_are_in_the_order_of_the_weight() {
        let values: Vec<f32> = (0..2 * 4 * 4).map(|i| i as f32).collect();
        on_each_device(|pass| {
            let images = pass.upload(&values, &[1, 2, 4, 4]).unwrap();
            let patches = patchify(pass, &images, 2).unwrap();
            assert_eq!(patches.shape(), [4, 8]);
            let patches = checked_read(pass, "patches", &patches);
            assert_eq!(patches[..8], [0.0, 1.0, 4.0, 5.0, 16.0, 17.0, 20.0, 21.0]);
            assert_eq!(patches[8..12], [2.0, 3.0, 6.0, 7.0]);
            assert_eq!(patches[16..20], [8.0, 9.0, 12.0, 13.0]);
        });
    }

    #[test]
    fn oracle_backward_is_the_derivative() {
        let sizes = Sizes { n: 2, channels: 2, side: 4, patch: 2, width: 3 };
        let (images, weight, bias) = (wide(&random(64, 1)), wide(&random(24, 2)), wide(&random(3, 3)));
        let dy = wide(&random(24, 4));
        let (dweight, dbias) = oracle::backward(sizes, &images, &dy);
        assert_is_gradient("dweight", &weight, &dy, |w| oracle::forward(sizes, &images, w, &bias), &dweight);
        assert_is_gradient("dbias", &bias, &dy, |b| oracle::forward(sizes, &images, &weight, b), &dbias);
    }

    #[test]
    fn nan_in_one_patch_stays_in_its_row() {
        on_each_device(|pass| {
            let mut values = random(16, 1);
            values[2] = f32::NAN;
            let images = pass.upload(&values, &[1, 1, 4, 4]).unwrap();
            let (weight, bias) = (pass.zeros(&[1, 1, 2, 2]).unwrap(), pass.zeros(&[1]).unwrap());
            let (y, _) = forward(pass, &images, 2, &weight, &bias).unwrap();
            let nan: Vec<bool> = pass.read(&y).unwrap().iter().map(|y| y.is_nan()).collect();
            assert_eq!(nan, [false, true, false, false]);
        });
    }

    #[test]
    fn wrong_shapes_are_named() {
        on_each_device(|pass| {
            let images = pass.zeros(&[1, 3, 10, 10]).unwrap();
            let error = patchify(pass, &images, 4).unwrap_err().to_string();
            assert_eq!(error, "patch_embed: patch is 4, but must be a divisor of the image side 10");
            assert!(patchify(pass, &images, 0).is_err());
            let oblong = pass.zeros(&[1, 3, 10, 5]).unwrap();
            let error = patchify(pass, &oblong, 5).unwrap_err().to_string();
            assert_eq!(error, "patch_embed: images has shape [1, 3, 10, 5], expected [1, 3, 10, 10]");
            let flat = pass.zeros(&[4, 4]).unwrap();
            let error = patchify(pass, &flat, 2).unwrap_err().to_string();
            assert_eq!(error, "patch_embed: rank of images is 2, but must be 4");
            let (weight, bias) = (pass.zeros(&[2, 1, 5, 5]).unwrap(), pass.zeros(&[2]).unwrap());
            let error = forward(pass, &images, 5, &weight, &bias).unwrap_err().to_string();
            assert_eq!(error, "patch_embed: weight has shape [2, 1, 5, 5], expected [2, 3, 5, 5]");
            let (mut weight, mut bias) = (pass.zeros(&[2, 3, 5, 5]).unwrap(), bias);
            let (y, saved) = forward(pass, &images, 5, &weight, &bias).unwrap();
            assert!(backward(pass, saved, &weight, &mut weight.clone(), &mut bias).is_err());
            let (_, saved) = forward(pass, &images, 5, &weight, &bias).unwrap();
            weight = pass.zeros(&[2, 3, 5, 4]).unwrap();
            let error = backward(pass, saved, &y, &mut weight, &mut bias).unwrap_err().to_string();
            assert_eq!(error, "patch_embed: dweight has shape [2, 3, 5, 4], expected [2, 75]");
        });
    }
}

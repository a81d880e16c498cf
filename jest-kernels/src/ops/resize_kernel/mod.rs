//! Resizing of patch kernels (FlexiViT): `w_new[o, c] = M w[o, c]`, so that one set of weights serves patches of any size.
//!
//! The op is a product with a matrix that the host computes once, so it has no shader and no CPU form of its own: both
//! are those of [`matmul`]. Weights that are read at another size than they were stored at are resized on the host, in f64.

pub mod oracle;
mod tables;
#[cfg(test)]
mod tests;
mod weights;

pub use tables::{resize_grid, resize_kernels, resize_line};
use weights::Matrix;

use super::matmul::{self, Form};
use crate::{KernelError, Pass, Result, Tensor};

const OP: &str = "resize_kernel";

/// How an image of one size becomes one of another; half-pixel centres unless it says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Resize {
    /// Between the four neighbours, without antialias: big_vision's, for training.
    Bilinear,
    /// Keys' cubic with a = -0.5, widened when down-sizing: timm's, for checkpoints.
    BicubicAntialias,
    /// Between the four neighbours, where the corners stay corners: `scipy.ndimage.zoom` of order 1, big_vision's, for the
    /// positions of checkpoints.
    BilinearCorners,
    /// Keys' cubic with a = -0.75, without antialias; a sample beyond the edge is the edge: torch's `interpolate`, DINOv2's, for
    /// its positions.
    Bicubic,
}

/// The matrix M [new * new, old * old] that resizes patch kernels: `M = pinv(Rᵀ)`, where R resizes patches.
///
/// `w_new = M w` minimises the mean of `(<x, w> - <R x, w_new>)²` over patches x; when up-sizing it is 0. Resizes do not
/// chain: always start from the stored kernel. R is the Kronecker product of the resize r along one axis with itself,
/// and so is M of `pinv(rᵀ)`; computed in f64.
///
/// # Panics
/// When a size is 0.
///
/// # Source
/// FlexiViT, equation 7; timm's `resample_patch_embed`.
pub fn matrix(kind: Resize, old: usize, new: usize) -> Vec<f32> {
    kronecker_square(&along_one_axis(kind, old, new))
}

/// `pinv(rᵀ)`: [new, old].
fn along_one_axis(kind: Resize, old: usize, new: usize) -> Matrix {
    weights::pseudo_inverse(&weights::resize(kind, old, new).transposed())
}

/// `m[i, j] * m[k, l]` at row (i, k) and column (j, l).
fn kronecker_square(m: &Matrix) -> Vec<f32> {
    let mut values = Vec::with_capacity(m.values.len() * m.values.len());
    for (y, x) in (0..m.rows).flat_map(|y| (0..m.rows).map(move |x| (y, x))) {
        for (old_y, old_x) in (0..m.cols).flat_map(|y| (0..m.cols).map(move |x| (y, x))) {
            values.push((m.at(y, old_y) * m.at(x, old_x)) as f32);
        }
    }
    values
}

/// `w_new[o, c] = M w[o, c]`.
///
/// # Shapes
/// w: [o, c, p, p]; matrix: [new * new, p * p], of [`matrix`]; w_new: [o, c, new, new].
///
/// # Errors
/// `Shape` when w is not a patch kernel or the matrix does not fit.
pub fn forward(pass: &mut Pass, w: &Tensor, matrix: &Tensor, new: usize) -> Result<Tensor> {
    let [out, channels, patch] = kernel_sizes("w", w)?;
    matrix.expect_f32(OP, "matrix", &[new * new, patch * patch])?;
    let flat = w.reshape(&[out * channels, patch * patch])?;
    matmul::forward(pass, Form::ABt, &flat, matrix)?.reshape(&[out, channels, new, new])
}

/// `dw[o, c] += Mᵀ dw_new[o, c]`.
///
/// # Shapes
/// dw_new: [o, c, new, new]; matrix: [new * new, p * p]; dw: [o, c, p, p].
///
/// # Errors
/// `Shape` when the operands do not fit each other.
pub fn backward(pass: &mut Pass, dw_new: &Tensor, matrix: &Tensor, dw: &mut Tensor) -> Result<()> {
    let [out, channels, new] = kernel_sizes("dw_new", dw_new)?;
    let [_, _, patch] = kernel_sizes("dw", dw)?;
    dw.expect_f32(OP, "dw", &[out, channels, patch, patch])?;
    matrix.expect_f32(OP, "matrix", &[new * new, patch * patch])?;
    let flat = dw_new.reshape(&[out * channels, new * new])?;
    matmul::accumulate(pass, Form::AB, &flat, matrix, dw)
}

/// Output units, channels and side of square kernels.
fn kernel_sizes(what: &'static str, w: &Tensor) -> Result<[usize; 3]> {
    match *w.shape() {
        [out, channels, side, width] if side == width => Ok([out, channels, side]),
        [out, channels, side, _] => {
            let (expected, got) = (vec![out, channels, side, side], w.shape().to_vec());
            Err(KernelError::Shape { op: OP, what, expected, got })
        }
        _ => Err(KernelError::Size { op: OP, what, got: w.shape().len(), rule: "a tensor of rank 4".to_string() }),
    }
}

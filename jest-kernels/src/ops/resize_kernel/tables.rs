//! Tables of weights at another size, on the host in f64: whatever computes with them later, they are the same.

use super::weights::{Matrix, resize};
use super::{OP, Resize, along_one_axis};
use crate::{KernelError, Result};

/// Rows `x [old, d]` interpolated along their order: [new, d].
///
/// # Errors
/// `Shape` when the elements are not `old` whole rows; `Size` when a length is 0.
///
/// # Source
/// open_clip's `resize_text_pos_embed`, with [`Resize::Bilinear`].
pub fn resize_line(kind: Resize, x: &[f32], old: usize, new: usize) -> Result<Vec<f32>> {
    let d = whole("rows", x, old, new)?;
    Ok(narrow(&along(&resize(kind, old, new), &wide(x), d)))
}

/// Position embeddings `pos [old * old, d]` of a grid of patches resized to another: [new * new, d]. Plain
/// interpolation, without pseudo-inverse.
///
/// # Errors
/// `Shape` when the elements are not whole rows of an `old * old` grid; `Size` when a grid is 0.
///
/// # Source
/// timm's `resample_abs_pos_embed`; big_vision's `resample_posemb`, with [`Resize::BilinearCorners`].
pub fn resize_grid(kind: Resize, pos: &[f32], old: usize, new: usize) -> Result<Vec<f32>> {
    let d = whole("pos", pos, old * old, new)?;
    let r = resize(kind, old, new);
    Ok(narrow(&along(&r, &along(&r, &wide(pos), old * d), d)))
}

/// Patch kernels `w [k, old, old]` for patches of another size: [k, new, new], each the product of [`super::matrix`] and
/// the old one.
///
/// # Errors
/// `Shape` when the elements are not whole kernels; `Size` when a side is 0.
pub fn resize_kernels(kind: Resize, w: &[f32], old: usize, new: usize) -> Result<Vec<f32>> {
    whole("w", w, old * old, new)?;
    let m = along_one_axis(kind, old, new);
    Ok(narrow(&along(&m, &along(&m, &wide(w), old), 1)))
}

/// `y[i, j, k] = sum over a of m[j, a] x[i, a, k]`, with `inner` elements k.
fn along(m: &Matrix, x: &[f64], inner: usize) -> Vec<f64> {
    let mut y = Vec::with_capacity(x.len() / m.cols * m.rows);
    for block in x.chunks_exact(m.cols * inner) {
        for j in 0..m.rows {
            y.extend((0..inner).map(|k| (0..m.cols).map(|a| m.at(j, a) * block[a * inner + k]).sum::<f64>()));
        }
    }
    y
}

/// Elements for each of `parts`.
fn whole(what: &'static str, x: &[f32], parts: usize, new: usize) -> Result<usize> {
    if parts == 0 || new == 0 {
        return Err(KernelError::Size { op: OP, what, got: 0, rule: "at least 1".to_string() });
    }
    let each = x.len() / parts;
    if each == 0 || x.len() != parts * each {
        let (expected, got) = (vec![parts, each.max(1)], vec![x.len()]);
        return Err(KernelError::Shape { op: OP, what, expected, got });
    }
    Ok(each)
}

fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|x| f64::from(*x)).collect()
}

fn narrow(x: &[f64]) -> Vec<f32> {
    x.iter().map(|x| *x as f32).collect()
}

//! Images to tokens: patches, positions, and which of them are kept.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use jest_kernels::ops::gather_tokens::{self, KeptTokens};
use jest_kernels::ops::resize_kernel::{self, Resize};
use jest_kernels::ops::{add, matmul, patch_embed};
use jest_kernels::{Pass, Tensor};

use crate::config::ModelConfig;
use crate::grid::resize_matrix;
use crate::init::{Init, stream, uniform};
use crate::param::{Builder, Param, visits};
use crate::{Result, View};

/// `y = conv(images) + positions`: a token for each patch.
#[derive(Clone, Debug)]
pub struct ImageEmbedding {
    /// Patch kernels: `[width, 3, patch, patch]`.
    pub kernel: Param,
    /// `[width]`
    pub bias: Param,
    /// `[grid * grid, width]`
    pub position: Param,
    /// Matrices of other patch sizes, made when first asked for: they depend on sizes only.
    resizes: Arc<Mutex<BTreeMap<usize, Matrices>>>,
}

visits!(ImageEmbedding: kernel, bias, position);

/// How kernels and positions get to another patch size.
#[derive(Clone, Debug)]
struct Matrices {
    /// `[patch², stored patch²]`
    kernel: Tensor,
    /// `[grid², stored grid²]`
    position: Tensor,
}

/// What [`ImageEmbedding::backward`] needs.
#[derive(Debug)]
pub struct ImageEmbeddingSaved {
    patches: patch_embed::Saved,
    resized: Option<Matrices>,
    kept: Option<KeptTokens>,
    patch_size: usize,
}

impl ImageEmbedding {
    pub(crate) fn new(b: &mut Builder, name: &str, config: &ModelConfig) -> Result<Self> {
        let (width, patch, grid) = (config.vision.width, config.vision.patch_size, config.vision.grid());
        let (patches, positions) = (format!("{name}.patch_embedding"), format!("{name}.position_embedding"));
        let kernel = Init::lecun(3 * patch * patch);
        Ok(Self {
            kernel: b.single(&format!("{patches}.weight"), &[width, 3, patch, patch], kernel, true)?,
            bias: b.single(&format!("{patches}.bias"), &[width], Init::Constant(0.0), false)?,
            position: b.single(&format!("{positions}.weight"), &[grid * grid, width], Init::embedding(width), false)?,
            resizes: Arc::default(),
        })
    }

    /// images: `[n, 3, s, s]` -> y: `[n * tokens, width]`
    ///
    /// # Errors
    /// `Kernel` when the sizes do not fit.
    pub fn forward(
        &self,
        pass: &mut Pass,
        images: &Tensor,
        view: &View,
        config: &ModelConfig,
    ) -> Result<(Tensor, ImageEmbeddingSaved)> {
        let (n, patch_size) = (images.shape()[0], view.patch_size(config));
        let resized = self.matrices(pass, view, config)?;
        let (kernel, position) = match &resized {
            None => (self.kernel.value.clone(), self.position.value.clone()),
            Some(matrices) => (
                resize_kernel::forward(pass, &self.kernel.value, &matrices.kernel, patch_size)?,
                matmul::forward(pass, matmul::Form::AB, &matrices.position, &self.position.value)?,
            ),
        };
        let (x, patches) = patch_embed::forward(pass, images, patch_size, &kernel, &self.bias.value)?;
        let x = add::forward_rows(pass, &x, &position)?;
        let Some(k) = view.keep_tokens else {
            return Ok((x, ImageEmbeddingSaved { patches, resized, kept: None, patch_size }));
        };
        let l = view.grid(config).pow(2);
        let kept = KeptTokens::upload(pass, &draw(view.seed, n, k, l), n, k, l)?;
        let y = gather_tokens::forward(pass, &x, &kept)?;
        Ok((y, ImageEmbeddingSaved { patches, resized, kept: Some(kept), patch_size }))
    }

    /// Adds to the gradients; dy: `[n * tokens, width]`. There is no gradient by the images.
    ///
    /// # Errors
    /// `Kernel` when the sizes do not fit.
    pub fn backward(&mut self, pass: &mut Pass, saved: ImageEmbeddingSaved, dy: Tensor) -> Result<()> {
        let ImageEmbeddingSaved { patches, resized, kept, patch_size } = saved;
        let dx = match kept {
            None => dy,
            Some(kept) => gather_tokens::backward(pass, &dy, &kept)?,
        };
        let Some(matrices) = resized else {
            add::backward_rows(pass, &dx, &mut self.position.grad)?;
            patch_embed::backward(pass, patches, &dx, &mut self.kernel.grad, &mut self.bias.grad)?;
            return Ok(());
        };
        let width = dx.cols();
        let mut dposition = pass.zeros(&[matrices.position.rows(), width])?;
        add::backward_rows(pass, &dx, &mut dposition)?;
        let form = matmul::Form::AtB;
        matmul::accumulate(pass, form, &matrices.position, &dposition, &mut self.position.grad)?;
        let mut dkernel = pass.zeros(&[width, 3, patch_size, patch_size])?;
        patch_embed::backward(pass, patches, &dx, &mut dkernel, &mut self.bias.grad)?;
        Ok(resize_kernel::backward(pass, &dkernel, &matrices.kernel, &mut self.kernel.grad)?)
    }

    /// None at the stored patch size.
    fn matrices(&self, pass: &mut Pass, view: &View, config: &ModelConfig) -> Result<Option<Matrices>> {
        let (from, to) = (config.vision.patch_size, view.patch_size(config));
        if from == to {
            return Ok(None);
        }
        let mut known = self.resizes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(matrices) = known.get(&to) {
            return Ok(Some(matrices.clone()));
        }
        let (grid_from, grid_to) = (config.vision.grid(), view.grid(config));
        let kernel = resize_kernel::matrix(Resize::Bilinear, from, to);
        let matrices = Matrices {
            kernel: pass.upload(&kernel, &[to * to, from * from])?,
            position: pass.upload(&resize_matrix(grid_from, grid_to), &[grid_to.pow(2), grid_from.pow(2)])?,
        };
        known.insert(to, matrices.clone());
        Ok(Some(matrices))
    }
}

/// For each of n examples k of l tokens, drawn without replacement, in ascending order.
fn draw(seed: u64, n: usize, k: usize, l: usize) -> Vec<u32> {
    let mut random = stream(seed, "kept tokens", 0);
    let mut all = Vec::with_capacity(n * k);
    for _ in 0..n {
        let mut tokens: Vec<u32> = (0..l as u32).collect();
        for slot in 0..k {
            let other = slot + (uniform(&mut random) * (l - slot) as f64) as usize;
            tokens.swap(slot, other);
        }
        tokens.truncate(k);
        tokens.sort_unstable();
        all.extend(tokens);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_token_is_kept_equally_often() {
        let (n, k, l) = (4000, 3, 10);
        let drawn = draw(7, n, k, l);
        assert!(drawn.chunks(k).all(|row| row.is_sorted_by(|a, b| a < b)), "ascending, none twice");
        for token in 0..l as u32 {
            let share = drawn.iter().filter(|other| **other == token).count() as f64 / n as f64;
            assert!((share - 0.3).abs() < 0.03, "token {token} is kept in {share}");
        }
        assert_eq!(drawn, draw(7, n, k, l));
        assert_ne!(drawn, draw(8, n, k, l));
        assert_eq!(draw(1, 2, 4, 4), [0, 1, 2, 3, 0, 1, 2, 3]);
    }
}

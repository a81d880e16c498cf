//! Images to tokens: patches, positions, and which of them are kept.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use jest_kernels::ops::gather_tokens::{self, KeptTokens};
use jest_kernels::ops::resize_kernel::{self, Resize};
use jest_kernels::ops::{add, matmul, patch_embed};
use jest_kernels::{Pass, Tensor};

use super::{ClassToken, ClassTokenSaved, LayerNorm, LayerNormSaved};
use crate::config::{Family, ModelConfig};
use crate::grid::resize_matrix;
use crate::init::{Init, stream, uniform};
use crate::param::{Builder, Param, visits};
use crate::{Result, View};

/// `y = norm([class, conv(images)] + positions)`: a token for each patch; the norm is CLIP's, the class token CLIP's and
/// DINOv2's.
#[derive(Clone, Debug)]
pub struct ImageEmbedding {
    /// Patch kernels: `[width, 3, patch, patch]`.
    pub kernel: Param,
    /// `[width]`; CLIP has none.
    pub bias: Option<Param>,
    /// In front of the patches.
    pub class: Option<ClassToken>,
    /// `[class tokens + grid * grid, width]`
    pub position: Param,
    /// Before the blocks.
    pub norm: Option<LayerNorm>,
    /// Matrices of other patch sizes, made when first asked for: they depend on sizes only.
    resizes: Arc<Mutex<BTreeMap<usize, Matrices>>>,
}

visits!(ImageEmbedding: kernel, bias, class, position, norm);

/// How kernels and positions get to another patch size.
#[derive(Clone, Debug)]
struct Matrices {
    /// `[patch², stored patch²]`
    kernel: Tensor,
    /// `[tokens, stored tokens]`
    position: Tensor,
}

/// What [`ImageEmbedding::backward`] needs.
#[derive(Debug)]
pub struct ImageEmbeddingSaved {
    patches: patch_embed::Saved,
    class: Option<ClassTokenSaved>,
    norm: Option<LayerNormSaved>,
    resized: Option<Matrices>,
    kept: Option<KeptTokens>,
    patch_size: usize,
}

impl ImageEmbedding {
    pub(crate) fn new(b: &mut Builder, config: &ModelConfig) -> Result<Self> {
        let (v, name) = (&config.vision, "vision_model.embeddings");
        let (width, patch, tokens) = (v.width, v.patch_size, config.class_tokens() + v.grid().pow(2));
        let (patches, positions) = (format!("{name}.patch_embedding"), format!("{name}.position_embedding"));
        let kernel = Init::lecun(3 * patch * patch);
        let kernel = b.single(&format!("{patches}.weight"), &[width, 3, patch, patch], kernel, true)?;
        let (mut bias, mut class, mut norm) = (None, None, None);
        if config.family != Family::Clip {
            bias = Some(b.single(&format!("{patches}.bias"), &[width], Init::Constant(0.0), false)?);
        }
        if config.family != Family::Siglip {
            class = Some(ClassToken::new(b, &format!("{name}.class_embedding"), width)?);
        }
        if config.family == Family::Clip {
            // Their spelling.
            norm = Some(LayerNorm::new(b, "vision_model.pre_layrnorm", width, v.layer_norm_eps)?);
        }
        let position = b.single(&format!("{positions}.weight"), &[tokens, width], Init::embedding(width), false)?;
        Ok(Self { kernel, bias, class, position, norm, resizes: Arc::default() })
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
            None => (self.kernel.operand(pass)?, self.position.value().clone()),
            Some(matrices) => (
                resize_kernel::forward(pass, self.kernel.value(), &matrices.kernel, patch_size)?,
                matmul::forward(pass, matmul::Form::AB, &matrices.position, self.position.value())?,
            ),
        };
        let bias = match &self.bias {
            Some(bias) => bias.value().clone(),
            None => pass.zeros(&[config.vision.width])?,
        };
        let (mut x, patches) = patch_embed::forward(pass, images, patch_size, &kernel, &bias)?;
        let mut saved = ImageEmbeddingSaved { patches, class: None, norm: None, resized, kept: None, patch_size };
        if let Some(class) = &self.class {
            let (y, class) = class.forward(pass, &x, n)?;
            (x, saved.class) = (y, Some(class));
        }
        x = add::forward_rows(pass, &x, &position)?;
        if let Some(k) = view.keep_tokens {
            let (patches, class) = (view.grid(config).pow(2), config.class_tokens());
            let drawn = draw(view.seed, n, k, patches, class);
            let kept = KeptTokens::upload(pass, &drawn, n, class + k, class + patches)?;
            x = gather_tokens::forward(pass, &x, &kept)?;
            saved.kept = Some(kept);
        }
        if let Some(norm) = &self.norm {
            let (y, norm) = norm.forward(pass, &x)?;
            (x, saved.norm) = (y, Some(norm));
        }
        Ok((x, saved))
    }

    /// Adds to the gradients; dy: `[n * tokens, width]`. There is no gradient by the images.
    ///
    /// # Errors
    /// `Kernel` when the sizes do not fit.
    pub fn backward(&mut self, pass: &mut Pass, saved: ImageEmbeddingSaved, dy: Tensor) -> Result<()> {
        let ImageEmbeddingSaved { patches, class, norm, resized, kept, patch_size } = saved;
        let mut dx = dy;
        if let (Some(norm), Some(saved)) = (&mut self.norm, norm) {
            dx = norm.backward(pass, saved, &dx)?;
        }
        if let Some(kept) = kept {
            dx = gather_tokens::backward(pass, &dx, &kept)?;
        }
        match &resized {
            None => add::backward_rows(pass, &dx, &mut self.position.grad)?,
            Some(matrices) => {
                let mut dposition = pass.zeros(&[matrices.position.rows(), dx.cols()])?;
                add::backward_rows(pass, &dx, &mut dposition)?;
                let form = matmul::Form::AtB;
                matmul::accumulate(pass, form, &matrices.position, &dposition, &mut self.position.grad)?;
            }
        }
        if let (Some(class), Some(saved)) = (&mut self.class, class) {
            dx = class.backward(pass, saved, &dx)?;
        }
        let mut unused = pass.zeros(&[dx.cols()])?;
        let dbias = self.bias.as_mut().map_or(&mut unused, |bias| &mut bias.grad);
        let Some(matrices) = resized else {
            return Ok(patch_embed::backward(pass, patches, &dx, &mut self.kernel.grad, dbias)?);
        };
        let mut dkernel = pass.zeros(&[dx.cols(), 3, patch_size, patch_size])?;
        patch_embed::backward(pass, patches, &dx, &mut dkernel, dbias)?;
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
        let class = config.class_tokens();
        let position = resize_matrix(grid_from, grid_to, class);
        let matrices = Matrices {
            kernel: pass.upload(&kernel, &[to * to, from * from])?,
            position: pass.upload(&position, &[class + grid_to.pow(2), class + grid_from.pow(2)])?,
        };
        known.insert(to, matrices.clone());
        Ok(Some(matrices))
    }
}

/// For each of n examples k of l patches, drawn without replacement, in ascending order, behind the class tokens, which
/// are kept.
fn draw(seed: u64, n: usize, k: usize, l: usize, class: usize) -> Vec<u32> {
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
        all.extend(0..class as u32);
        all.extend(tokens.iter().map(|patch| class as u32 + patch));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_token_is_kept_equally_often() {
        let (n, k, l) = (4000, 3, 10);
        let drawn = draw(7, n, k, l, 0);
        assert!(drawn.chunks(k).all(|row| row.is_sorted_by(|a, b| a < b)), "ascending, none twice");
        for token in 0..l as u32 {
            let share = drawn.iter().filter(|other| **other == token).count() as f64 / n as f64;
            assert!((share - 0.3).abs() < 0.03, "token {token} is kept in {share}");
        }
        assert_eq!(drawn, draw(7, n, k, l, 0));
        assert_ne!(drawn, draw(8, n, k, l, 0));
        assert_eq!(draw(1, 2, 4, 4, 0), [0, 1, 2, 3, 0, 1, 2, 3]);
        assert_eq!(draw(1, 2, 2, 2, 1), [0, 1, 2, 0, 1, 2]);
    }
}

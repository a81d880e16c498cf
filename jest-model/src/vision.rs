//! The image tower: patches, blocks, attention pooling, unit length.

use jest_kernels::ops::l2_normalize;
use jest_kernels::{Pass, Tensor};

use crate::config::ModelConfig;
use crate::layers::{
    BlockSizes, Encoder, EncoderSaved, ImageEmbedding, ImageEmbeddingSaved, LayerNorm, LayerNormSaved, MapHead,
    MapHeadSaved, Rows,
};
use crate::param::{Builder, visits};
use crate::{ModelError, Result, View};

/// `z = unit(map_head(norm(blocks(patches + positions))))`.
#[derive(Clone, Debug)]
pub struct VisionTower {
    /// Patches and positions.
    pub embedding: ImageEmbedding,
    /// Blocks.
    pub encoder: Encoder,
    /// After the blocks.
    pub norm: LayerNorm,
    /// Attention pooling.
    pub head: MapHead,
    config: ModelConfig,
}

visits!(VisionTower: embedding, encoder, norm, head);

/// What [`VisionTower::backward`] needs.
#[derive(Debug)]
pub struct VisionSaved {
    embedding: ImageEmbeddingSaved,
    encoder: EncoderSaved,
    norm: LayerNormSaved,
    head: MapHeadSaved,
    unit: l2_normalize::Saved,
}

impl VisionTower {
    pub(crate) fn new(b: &mut Builder, config: &ModelConfig) -> Result<Self> {
        let v = &config.vision;
        let (gelu, eps) = (config.gelu.gelu(), config.layer_norm_eps);
        let sizes = BlockSizes { width: v.width, num_heads: v.num_heads, mlp_dim: v.mlp_dim, gelu, eps };
        Ok(Self {
            embedding: ImageEmbedding::new(b, "vision_model.embeddings", config)?,
            encoder: Encoder::new(b, "vision_model.encoder", v.depth, sizes)?,
            norm: LayerNorm::new(b, "vision_model.post_layernorm", v.width, eps)?,
            head: MapHead::new(b, "vision_model.head", sizes)?,
            config: config.clone(),
        })
    }

    /// images: `[n, 3, s, s]` -> z: `[n, d]`, rows of unit length
    ///
    /// # Errors
    /// `Input` for images of another size; what [`View::validate`] reports; `Kernel`.
    pub fn forward(&self, pass: &mut Pass, images: &Tensor, view: &View) -> Result<(Tensor, VisionSaved)> {
        let rows = self.rows(images, view)?;
        let (x, embedding) = self.embedding.forward(pass, images, view, &self.config)?;
        let (x, encoder) = self.encoder.forward(pass, x, &rows)?;
        let (x, norm) = self.norm.forward(pass, &x)?;
        let (x, head) = self.head.forward(pass, &x, &rows)?;
        let (z, unit) = l2_normalize::forward(pass, &x)?;
        Ok((z, VisionSaved { embedding, encoder, norm, head, unit }))
    }

    /// Adds to the gradients; dz: `[n, d]`.
    ///
    /// # Errors
    /// `Kernel` when dz does not fit the forward pass.
    pub fn backward(&mut self, pass: &mut Pass, saved: VisionSaved, dz: &Tensor) -> Result<()> {
        let VisionSaved { embedding, encoder, norm, head, unit } = saved;
        let dx = l2_normalize::backward(pass, unit, dz)?;
        let dx = self.head.backward(pass, head, &dx)?;
        let dx = self.norm.backward(pass, norm, &dx)?;
        let dx = self.encoder.backward(pass, encoder, dx)?;
        self.embedding.backward(pass, embedding, dx)
    }

    /// As [`VisionTower::forward`] without a backward: activations are freed block by block.
    ///
    /// # Errors
    /// As [`VisionTower::forward`].
    pub fn apply(&self, pass: &mut Pass, images: &Tensor, view: &View) -> Result<Tensor> {
        let rows = self.rows(images, view)?;
        let x = self.embedding.forward(pass, images, view, &self.config)?.0;
        let x = self.encoder.apply(pass, x, &rows)?;
        let x = self.norm.forward(pass, &x)?.0;
        let x = self.head.forward(pass, &x, &rows)?.0;
        Ok(l2_normalize::forward(pass, &x)?.0)
    }

    fn rows(&self, images: &Tensor, view: &View) -> Result<Rows> {
        view.validate(&self.config)?;
        let (n, size) = (images.shape()[0], self.config.vision.image_size);
        if images.shape() != [n, 3, size, size] {
            let (expected, got) = (vec![n, 3, size, size], images.shape().to_vec());
            return Err(ModelError::Input { what: "images", expected, got });
        }
        Ok(Rows { n, l: view.image_tokens(&self.config), lengths: None })
    }
}

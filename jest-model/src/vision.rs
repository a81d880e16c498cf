//! The image tower: patches, blocks, pooling, unit length.

use jest_kernels::ops::attention::Mask;
use jest_kernels::ops::gather_tokens::{self, KeptTokens};
use jest_kernels::ops::l2_normalize;
use jest_kernels::{Pass, Tensor};

use crate::config::{Family, ModelConfig};
use crate::layers::{
    BlockSizes, Encoder, EncoderSaved, ImageEmbedding, ImageEmbeddingSaved, LayerNorm, LayerNormSaved, Linear,
    LinearSaved, MapHead, MapHeadSaved, Rows,
};
use crate::param::{Builder, Param, Parameters, visits};
use crate::{ModelError, Result, View};

/// How the tokens of an image become one vector.
#[derive(Clone, Debug)]
pub enum ImageHead {
    /// `map_head(norm(x))`: SigLIP's.
    Map(Box<MapHead>),
    /// `projection(norm(class token of x))`: CLIP's and DINOv2's.
    Class(Box<Linear>),
}

impl Parameters for ImageHead {
    fn visit<'a>(&'a self, see: &mut dyn FnMut(&'a Param)) {
        match self {
            Self::Map(head) => head.visit(see),
            Self::Class(projection) => projection.visit(see),
        }
    }

    fn visit_mut<'a>(&'a mut self, see: &mut dyn FnMut(&'a mut Param)) {
        match self {
            Self::Map(head) => head.visit_mut(see),
            Self::Class(projection) => projection.visit_mut(see),
        }
    }
}

#[derive(Debug)]
enum ImageHeadSaved {
    Map(Box<MapHeadSaved>),
    Class { kept: KeptTokens, projection: LinearSaved },
}

/// `z = unit(head(norm(blocks(patches + positions))))`.
#[derive(Clone, Debug)]
pub struct VisionTower {
    /// Patches and positions.
    pub embedding: ImageEmbedding,
    /// Blocks.
    pub encoder: Encoder,
    /// After the blocks; of a class token alone where that is pooled.
    pub norm: LayerNorm,
    /// Pooling.
    pub head: ImageHead,
    config: ModelConfig,
}

visits!(VisionTower: embedding, encoder, norm, head);

/// What [`VisionTower::backward`] needs.
#[derive(Debug)]
pub struct VisionSaved {
    /// None where it is not trained.
    embedding: Option<ImageEmbeddingSaved>,
    encoder: EncoderSaved,
    norm: LayerNormSaved,
    head: ImageHeadSaved,
    unit: l2_normalize::Saved,
}

impl VisionTower {
    pub(crate) fn new(b: &mut Builder, config: &ModelConfig) -> Result<Self> {
        let v = &config.vision;
        let (gelu, eps) = (v.gelu.gelu(), v.layer_norm_eps);
        let (width, num_heads, mlp_dim) = (v.width, v.num_heads, v.mlp_dim);
        let layer_scale = config.family == Family::Dual;
        let sizes = BlockSizes { width, num_heads, mlp_dim, gelu, eps, layer_scale, norms_behind: false };
        Ok(Self {
            embedding: ImageEmbedding::new(b, config)?,
            encoder: Encoder::new(b, "vision_model.encoder", v.depth, sizes)?,
            norm: LayerNorm::new(b, "vision_model.post_layernorm", v.width, eps)?,
            head: match config.family {
                Family::Siglip => ImageHead::Map(Box::new(MapHead::new(b, "vision_model.head", sizes)?)),
                Family::Clip | Family::Dual => {
                    let sizes = [config.embedding_dim(), v.width];
                    ImageHead::Class(Box::new(Linear::projection(b, "visual_projection", sizes)?))
                }
            },
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
        let (x, norm, head) = self.pool(pass, x, &rows)?;
        let (z, unit) = l2_normalize::forward(pass, &x)?;
        let embedding = self.encoder.kept.is_none().then_some(embedding);
        Ok((z, VisionSaved { embedding, encoder, norm, head, unit }))
    }

    /// Adds to the gradients; dz: `[n, d]`.
    ///
    /// # Errors
    /// `Kernel` when dz does not fit the forward pass.
    pub fn backward(&mut self, pass: &mut Pass, saved: VisionSaved, dz: &Tensor) -> Result<()> {
        let VisionSaved { embedding, encoder, norm, head, unit } = saved;
        let dx = l2_normalize::backward(pass, unit, dz)?;
        let Some(dx) = self.pool_backward(pass, norm, head, &dx)? else { return Ok(()) };
        let dx = self.encoder.backward(pass, encoder, dx)?;
        embedding.map_or(Ok(()), |saved| self.embedding.backward(pass, saved, dx))
    }

    /// As [`VisionTower::forward`] without a backward: activations are freed block by block.
    ///
    /// # Errors
    /// As [`VisionTower::forward`].
    pub fn apply(&self, pass: &mut Pass, images: &Tensor, view: &View) -> Result<Tensor> {
        let rows = self.rows(images, view)?;
        let x = self.embedding.forward(pass, images, view, &self.config)?.0;
        let x = self.encoder.apply(pass, x, &rows)?;
        let x = self.pool(pass, x, &rows)?.0;
        Ok(l2_normalize::forward(pass, &x)?.0)
    }

    /// x: `[n * l, width]` -> y: `[n, d]`
    fn pool(&self, pass: &mut Pass, x: Tensor, rows: &Rows) -> Result<(Tensor, LayerNormSaved, ImageHeadSaved)> {
        match &self.head {
            ImageHead::Map(head) => {
                let (x, norm) = self.norm.forward(pass, &x)?;
                let (y, saved) = head.forward(pass, &x, rows)?;
                Ok((y, norm, ImageHeadSaved::Map(Box::new(saved))))
            }
            ImageHead::Class(head) => {
                let kept = KeptTokens::upload(pass, &vec![0; rows.n], rows.n, 1, rows.l)?;
                let x = gather_tokens::forward(pass, &x, &kept)?;
                let (x, norm) = self.norm.forward(pass, &x)?;
                let (y, projection) = head.forward(pass, &x)?;
                Ok((y, norm, ImageHeadSaved::Class { kept, projection }))
            }
        }
    }

    /// dy: `[n, d]` -> dx: `[n * l, width]`; each case read from the bottom up against its forward. None where nothing in
    /// front of the head is trained.
    fn pool_backward(
        &mut self,
        pass: &mut Pass,
        norm: LayerNormSaved,
        head: ImageHeadSaved,
        dy: &Tensor,
    ) -> Result<Option<Tensor>> {
        let further = self.encoder.is_trained();
        Ok(match (&mut self.head, head) {
            (ImageHead::Map(head), ImageHeadSaved::Map(saved)) => {
                let dx = head.backward(pass, *saved, dy)?;
                further.then(|| self.norm.backward(pass, norm, &dx)).transpose()?
            }
            (ImageHead::Class(head), ImageHeadSaved::Class { kept, projection }) => {
                let dx = head.backward(pass, projection, dy)?;
                if !further {
                    return Ok(None);
                }
                let dx = self.norm.backward(pass, norm, &dx)?;
                Some(gather_tokens::backward(pass, &dx, &kept)?)
            }
            _ => return Err(ModelError::OtherActivations),
        })
    }

    fn rows(&self, images: &Tensor, view: &View) -> Result<Rows> {
        view.validate(&self.config)?;
        let (n, size) = (images.shape()[0], self.config.vision.image_size);
        if images.shape() != [n, 3, size, size] {
            let (expected, got) = (vec![n, 3, size, size], images.shape().to_vec());
            return Err(ModelError::Input { what: "images", expected, got });
        }
        Ok(Rows { n, l: view.image_tokens(&self.config), lengths: None, mask: Mask::None })
    }
}

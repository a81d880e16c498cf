//! The text tower: token embedding, blocks, pooling of one token, projection, unit length.

use jest_kernels::ops::attention::Mask;
use jest_kernels::ops::gather_tokens::{self, KeptTokens};
use jest_kernels::ops::l2_normalize;
use jest_kernels::ops::token_embedding::{self, TokenIds};
use jest_kernels::{Pass, Tensor};

use crate::config::{Family, ModelConfig, TextPadding, TextPool};
use crate::init::Init;
use crate::layers::{BlockSizes, Encoder, EncoderSaved, LayerNorm, LayerNormSaved, Linear, LinearSaved, Rows};
use crate::packing::{self, Bucket, Scatter};
use crate::param::{Builder, Param, visits};
use crate::{ModelError, Result, View};

/// `z = unit(head(norm(pooled token of blocks(tokens + positions))))`.
#[derive(Clone, Debug)]
pub struct TextTower {
    /// `[vocab_size, width]`
    pub token: Param,
    /// `[tokens, width]`
    pub position: Param,
    /// Blocks.
    pub encoder: Encoder,
    /// After the blocks; computed for the pooled token only.
    pub norm: LayerNorm,
    /// width -> d
    pub head: Linear,
    /// Whether texts are computed without their padding; only where that changes no result.
    pub(crate) packing: bool,
    config: ModelConfig,
}

visits!(TextTower: token, position, encoder, norm, head);

/// What [`TextTower::backward`] needs.
#[derive(Debug)]
pub struct TextSaved {
    scatter: Scatter,
    buckets: Vec<BucketSaved>,
}

/// What the backward of texts of one length needs.
#[derive(Debug)]
struct BucketSaved {
    ids: TokenIds,
    pooled: KeptTokens,
    encoder: EncoderSaved,
    norm: LayerNormSaved,
    head: LinearSaved,
    unit: l2_normalize::Saved,
}

/// Texts of one length on the device.
struct Inputs {
    ids: TokenIds,
    /// The token of each text that becomes its embedding.
    pooled: KeptTokens,
    rows: Rows,
}

impl TextTower {
    pub(crate) fn new(b: &mut Builder, config: &ModelConfig) -> Result<Self> {
        let t = &config.text;
        let (gelu, eps, name) = (t.gelu.gelu(), t.layer_norm_eps, "text_model");
        let sizes = BlockSizes { width: t.width, num_heads: t.num_heads, mlp_dim: t.mlp_dim, gelu, eps };
        let table = |part: &str| format!("{name}.embeddings.{part}_embedding.weight");
        let init = Init::embedding(t.width);
        let head = [config.embedding_dim(), t.width];
        Ok(Self {
            token: b.single(&table("token"), &[t.vocab_size, t.width], init, false)?,
            position: b.single(&table("position"), &[t.tokens, t.width], init, false)?,
            encoder: Encoder::new(b, &format!("{name}.encoder"), t.depth, sizes)?,
            norm: LayerNorm::new(b, &format!("{name}.final_layer_norm"), t.width, eps)?,
            head: match config.family {
                Family::Siglip => Linear::new(b, &format!("{name}.head"), head, Init::lecun(t.width))?,
                Family::Clip => Linear::projection(b, "text_projection", head)?,
            },
            packing: config.can_pack(),
            config: config.clone(),
        })
    }

    /// ids: `[n, tokens]`, lengths: `[n]` -> z: `[n, d]`, rows of unit length
    ///
    /// `lengths` counts the tokens that are not padding, the end token included; only `padding = masked` and
    /// `pool = eos` look at it.
    ///
    /// # Errors
    /// `Input` or `Length` for ids and lengths that do not fit; what [`View::validate`] reports; `Kernel`, also for an
    /// id outside of the vocabulary.
    pub fn forward(&self, pass: &mut Pass, ids: &[u32], lengths: &[u32], view: &View) -> Result<(Tensor, TextSaved)> {
        let (all, scatter) = self.inputs(pass, ids, lengths, view)?;
        let (mut parts, mut buckets) = (Vec::with_capacity(all.len()), Vec::with_capacity(all.len()));
        for inputs in all {
            let (z, saved) = self.forward_bucket(pass, inputs)?;
            parts.push(z);
            buckets.push(saved);
        }
        Ok((scatter.join(pass, parts)?, TextSaved { scatter, buckets }))
    }

    /// Adds to the gradients; dz: `[n, d]`.
    ///
    /// # Errors
    /// `Kernel` when dz does not fit the forward pass.
    pub fn backward(&mut self, pass: &mut Pass, saved: TextSaved, dz: &Tensor) -> Result<()> {
        let TextSaved { scatter, buckets } = saved;
        for (k, saved) in buckets.into_iter().enumerate() {
            let dz = scatter.part(pass, dz, k)?;
            self.backward_bucket(pass, saved, &dz)?;
        }
        Ok(())
    }

    fn forward_bucket(&self, pass: &mut Pass, inputs: Inputs) -> Result<(Tensor, BucketSaved)> {
        let Inputs { ids, pooled, rows } = inputs;
        let x = token_embedding::forward(pass, &ids, &self.token.value, &self.position.value)?;
        let (x, encoder) = self.encoder.forward(pass, x, &rows)?;
        let x = gather_tokens::forward(pass, &x, &pooled)?;
        let (x, norm) = self.norm.forward(pass, &x)?;
        let (x, head) = self.head.forward(pass, &x)?;
        let (z, unit) = l2_normalize::forward(pass, &x)?;
        Ok((z, BucketSaved { ids, pooled, encoder, norm, head, unit }))
    }

    fn backward_bucket(&mut self, pass: &mut Pass, saved: BucketSaved, dz: &Tensor) -> Result<()> {
        let BucketSaved { ids, pooled, encoder, norm, head, unit } = saved;
        let dx = l2_normalize::backward(pass, unit, dz)?;
        let dx = self.head.backward(pass, head, &dx)?;
        let dx = self.norm.backward(pass, norm, &dx)?;
        let dx = gather_tokens::backward(pass, &dx, &pooled)?;
        let dx = self.encoder.backward(pass, encoder, dx)?;
        Ok(token_embedding::backward(pass, &ids, &dx, &mut self.token.grad, &mut self.position.grad)?)
    }

    /// As [`TextTower::forward`] without a backward: activations are freed block by block.
    ///
    /// # Errors
    /// As [`TextTower::forward`].
    pub fn apply(&self, pass: &mut Pass, ids: &[u32], lengths: &[u32], view: &View) -> Result<Tensor> {
        let (all, scatter) = self.inputs(pass, ids, lengths, view)?;
        let mut parts = Vec::with_capacity(all.len());
        for Inputs { ids, pooled, rows } in all {
            let x = token_embedding::forward(pass, &ids, &self.token.value, &self.position.value)?;
            let x = self.encoder.apply(pass, x, &rows)?;
            let x = gather_tokens::forward(pass, &x, &pooled)?;
            let x = self.norm.forward(pass, &x)?.0;
            let x = self.head.forward(pass, &x)?.0;
            parts.push(l2_normalize::forward(pass, &x)?.0);
        }
        scatter.join(pass, parts)
    }

    /// The texts of each length, and how their embeddings come back in order.
    fn inputs(&self, pass: &mut Pass, ids: &[u32], lengths: &[u32], view: &View) -> Result<(Vec<Inputs>, Scatter)> {
        view.validate(&self.config)?;
        let (n, stored, l) = (lengths.len(), self.config.text.tokens, view.text_tokens(&self.config));
        if ids.len() != n * stored || n == 0 {
            let (expected, got) = (vec![n, stored], vec![ids.len()]);
            return Err(ModelError::Input { what: "token ids", expected, got });
        }
        if let Some(index) = lengths.iter().position(|length| !(1..=stored).contains(&(*length as usize))) {
            return Err(ModelError::Length { index, got: lengths[index], limit: stored });
        }
        let buckets = packing::buckets(lengths, l, self.packing);
        let all = buckets.iter().map(|bucket| self.bucket(pass, ids, lengths, bucket)).collect::<Result<_>>()?;
        Ok((all, Scatter::upload(pass, &buckets, n)?))
    }

    fn bucket(&self, pass: &mut Pass, ids: &[u32], lengths: &[u32], bucket: &Bucket) -> Result<Inputs> {
        let (Bucket { texts, l }, stored) = (bucket, self.config.text.tokens);
        let (n, l) = (texts.len(), *l);
        let row = |text: &u32| &ids[*text as usize * stored..][..l];
        let ids: Vec<u32> = texts.iter().flat_map(row).copied().collect();
        let lengths: Vec<u32> = texts.iter().map(|text| lengths[*text as usize].min(l as u32)).collect();
        let pooled: Vec<u32> = match self.config.text.pool {
            TextPool::Last => vec![l as u32 - 1; n],
            TextPool::Eos => lengths.iter().map(|length| length - 1).collect(),
        };
        let lengths = match self.config.text.padding {
            TextPadding::Attended => None,
            TextPadding::Masked => Some(pass.upload_u32(&lengths, &[n])?),
        };
        let mask = if self.config.family == Family::Clip { Mask::Causal } else { Mask::None };
        Ok(Inputs {
            ids: TokenIds::upload(pass, &ids, n, l, self.config.text.vocab_size)?,
            pooled: KeptTokens::upload(pass, &pooled, n, 1, l)?,
            rows: Rows { n, l, lengths, mask },
        })
    }
}

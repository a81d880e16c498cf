//! The text tower: token embedding, blocks, pooling, projection, unit length.

use std::cell::RefCell;

use jest_kernels::ops::attention::Mask;
use jest_kernels::ops::gather_tokens::KeptTokens;
use jest_kernels::ops::l2_normalize;
use jest_kernels::ops::mean_pool::Counted;
use jest_kernels::ops::token_embedding::{self, TokenIds};
use jest_kernels::{Pass, Tensor};

use crate::config::{Family, ModelConfig, TextPadding, TextPool};
use crate::init::Init;
use crate::layers::{
    BlockSizes, Counting, EmbeddingNorm, EmbeddingNormSaved, Encoder, EncoderSaved, LayerNorm, Linear, LinearSaved,
    Rows, TextPooling, TextPoolingSaved,
};
use crate::packing::{self, Bucket, Scatter};
use crate::param::{Builder, Param, visits};
use crate::{ModelError, Result, View};

/// `z = unit(head(pooling(blocks(tokens + positions))))`.
#[derive(Clone, Debug)]
pub struct TextTower {
    /// `[vocab_size, width]`
    pub token: Param,
    /// `[tokens, width]`
    pub position: Param,
    /// Before the blocks; BERT alone has it.
    pub embedding_norm: Option<EmbeddingNorm>,
    /// Blocks.
    pub encoder: Encoder,
    /// After the blocks; of the tokens that count only.
    pub pooling: TextPooling,
    /// width -> d
    pub head: Linear,
    /// Whether texts are computed without their padding; only where that changes no result.
    pub(crate) packing: bool,
    config: ModelConfig,
}

visits!(TextTower: token, position, embedding_norm, encoder, pooling, head);

/// What [`TextTower::backward`] needs.
#[derive(Debug)]
pub struct TextSaved {
    scatter: Scatter,
    buckets: Vec<BucketSaved>,
}

/// What the backward of texts of one length needs.
#[derive(Debug)]
struct BucketSaved {
    /// None where it is not trained.
    embedding: Option<(TokenIds, Option<EmbeddingNormSaved>)>,
    encoder: EncoderSaved,
    pooling: TextPoolingSaved,
    head: LinearSaved,
    unit: l2_normalize::Saved,
}

thread_local! {
    /// Token ids on their way to the device; kept from call to call.
    static IDS: RefCell<Vec<u32>> = const { RefCell::new(Vec::new()) };
}

/// Texts of one length on the device.
struct Inputs {
    ids: TokenIds,
    /// The tokens of each text that become its embedding.
    counting: Counting,
    rows: Rows,
}

impl TextTower {
    pub(crate) fn new(b: &mut Builder, config: &ModelConfig) -> Result<Self> {
        let t = &config.text;
        let (gelu, eps, name) = (t.gelu.gelu(), t.layer_norm_eps, "text_model");
        let (width, num_heads, mlp_dim) = (t.width, t.num_heads, t.mlp_dim);
        let bert = config.family == Family::Dual;
        let sizes = BlockSizes { width, num_heads, mlp_dim, gelu, eps, layer_scale: false, norms_behind: bert };
        let embeddings = format!("{name}.embeddings");
        let table = |part: &str| format!("{embeddings}.{part}_embedding.weight");
        let (init, head) = (Init::embedding(width), [config.embedding_dim(), width]);
        Ok(Self {
            token: b.single(&table("token"), &[t.vocab_size, width], init, false)?,
            position: b.single(&table("position"), &[t.tokens, width], init, false)?,
            embedding_norm: bert.then(|| EmbeddingNorm::new(b, &embeddings, width, eps)).transpose()?,
            encoder: Encoder::new(b, &format!("{name}.encoder"), t.depth, sizes)?,
            pooling: match t.pool {
                TextPool::Last | TextPool::Eos => {
                    let norm = LayerNorm::new(b, &format!("{name}.final_layer_norm"), width, eps)?;
                    TextPooling::Token(Box::new(norm))
                }
                TextPool::Mean => TextPooling::Mean,
                TextPool::Pooler => {
                    let (dense, init) = (format!("{name}.pooler.dense"), Init::lecun(width));
                    TextPooling::Pooler(Box::new(Linear::new(b, &dense, [width, width], init)?))
                }
            },
            head: match config.family {
                Family::Siglip => Linear::new(b, &format!("{name}.head"), head, Init::lecun(width))?,
                Family::Clip | Family::Dual => Linear::projection(b, "text_projection", head)?,
            },
            packing: config.can_pack(),
            config: config.clone(),
        })
    }

    /// ids: `[n, tokens]`, lengths: `[n]` -> z: `[n, d]`, rows of unit length
    ///
    /// `lengths` counts the tokens that are not padding, the end token included; `padding = attended` with
    /// `pool = last` does not look at it.
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
        let Inputs { ids, counting, rows } = inputs;
        let (x, norm) = self.embed(pass, &ids)?;
        let (x, encoder) = self.encoder.forward(pass, x, &rows)?;
        let (x, pooling) = self.pooling.forward(pass, &x, counting)?;
        let (x, head) = self.head.forward(pass, &x)?;
        let (z, unit) = l2_normalize::forward(pass, &x)?;
        let embedding = self.encoder.kept.is_none().then_some((ids, norm));
        Ok((z, BucketSaved { embedding, encoder, pooling, head, unit }))
    }

    fn backward_bucket(&mut self, pass: &mut Pass, saved: BucketSaved, dz: &Tensor) -> Result<()> {
        let BucketSaved { embedding, encoder, pooling, head, unit } = saved;
        let dx = l2_normalize::backward(pass, unit, dz)?;
        let dx = self.head.backward(pass, head, &dx)?;
        if !self.encoder.is_trained() {
            return Ok(());
        }
        let dx = self.pooling.backward(pass, pooling, dx)?;
        let mut dx = self.encoder.backward(pass, encoder, dx)?;
        let Some((ids, norm)) = embedding else { return Ok(()) };
        if let (Some(layer), Some(saved)) = (&mut self.embedding_norm, norm) {
            dx = layer.backward(pass, saved, &dx)?;
        }
        Ok(token_embedding::backward(pass, &ids, &dx, &mut self.token.grad, &mut self.position.grad)?)
    }

    /// As [`TextTower::forward`] without a backward: activations are freed block by block.
    ///
    /// # Errors
    /// As [`TextTower::forward`].
    pub fn apply(&self, pass: &mut Pass, ids: &[u32], lengths: &[u32], view: &View) -> Result<Tensor> {
        let (all, scatter) = self.inputs(pass, ids, lengths, view)?;
        let mut parts = Vec::with_capacity(all.len());
        for Inputs { ids, counting, rows } in all {
            let x = self.embed(pass, &ids)?.0;
            let x = self.encoder.apply(pass, x, &rows)?;
            let x = self.pooling.forward(pass, &x, counting)?.0;
            let x = self.head.forward(pass, &x)?.0;
            parts.push(l2_normalize::forward(pass, &x)?.0);
        }
        scatter.join(pass, parts)
    }

    /// What the blocks begin with: `[n * l, width]`.
    fn embed(&self, pass: &mut Pass, ids: &TokenIds) -> Result<(Tensor, Option<EmbeddingNormSaved>)> {
        let x = token_embedding::forward(pass, ids, self.token.value(), self.position.value())?;
        let Some(layer) = &self.embedding_norm else { return Ok((x, None)) };
        let (x, saved) = layer.forward(pass, &x)?;
        Ok((x, Some(saved)))
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
        let lengths: Vec<u32> = texts.iter().map(|text| lengths[*text as usize].min(l as u32)).collect();
        let one = |pass: &mut Pass, places: &[u32]| KeptTokens::upload(pass, places, n, 1, l).map(Counting::Token);
        let counting = match self.config.text.pool {
            TextPool::Last => one(pass, &vec![l as u32 - 1; n])?,
            TextPool::Eos => one(pass, &lengths.iter().map(|length| length - 1).collect::<Vec<_>>())?,
            TextPool::Mean => Counting::Mean(Counted::upload(pass, &lengths, l)?),
            TextPool::Pooler => one(pass, &vec![0; n])?,
        };
        let lengths = match self.config.text.padding {
            TextPadding::Attended => None,
            TextPadding::Masked => Some(pass.upload_u32(&lengths, &[n])?),
        };
        let mask = if self.config.family == Family::Clip { Mask::Causal } else { Mask::None };
        let ids = IDS.with_borrow_mut(|ids| {
            ids.clear();
            ids.extend(texts.iter().flat_map(row));
            TokenIds::upload(pass, ids, n, l, self.config.text.vocab_size)
        })?;
        Ok(Inputs { ids, counting, rows: Rows { n, l, lengths, mask } })
    }
}

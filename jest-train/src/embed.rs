//! Embeddings of whole batches, block by block, without keeping activations.

use jest_data::{CacheKey, LoaderConfig, SuperBatch};
use jest_kernels::{Pass, Precision, Tensor};
use jest_model::{TwoTowers, View};

use crate::Result;

/// Examples embedded at once: enough rows for full-speed products, few enough for their activations to stay small.
pub(crate) const BLOCK: usize = 128;

/// What the embeddings of this data by this model on this device belong to.
pub fn cache_key(pass: &mut Pass, model: &TwoTowers, data: &LoaderConfig) -> Result<CacheKey> {
    // Embeddings computed in another precision are others.
    let hash = match pass.device().precision() {
        Precision::F32 => model.hash(pass)?,
        other => format!("{}, {other}", model.hash(pass)?),
    };
    Ok(CacheKey {
        model: hash,
        tokenizer: data.tokenizer.hash().to_string(),
        preprocess: data.preprocess.key(),
        image_size: data.preprocess.size,
        text_tokens: data.text_tokens,
        caption_bytes: data.limits.caption_bytes,
        dim: model.config().embedding_dim(),
    })
}

/// Unit-norm embeddings of images and captions, on the device.
///
/// # Shapes
/// Two tensors `[n, d]`.
pub fn both(pass: &mut Pass, model: &TwoTowers, batch: &SuperBatch, view: &View) -> Result<[Tensor; 2]> {
    Ok([images(pass, model, batch, view)?, texts(pass, model, &batch.tokens, &batch.lengths, view)?])
}

/// Unit-norm embeddings of the images: `[n, d]`.
pub fn images(pass: &mut Pass, model: &TwoTowers, batch: &SuperBatch, view: &View) -> Result<Tensor> {
    let (n, side) = (batch.len(), batch.preprocess.size);
    in_blocks(pass, n, model.config().embedding_dim(), |pass, first, last| {
        let images = pass.upload(&batch.pixels_of(first..last), &[last - first, 3, side, side])?;
        // Blocks drop patches of their own.
        let seed = view.seed.wrapping_add(first as u64);
        Ok(model.embed_images(pass, &images, &View { seed, ..*view })?)
    })
}

/// Unit-norm embeddings of captions given as token ids `[n * l]` and their lengths `[n]`: `[n, d]`.
pub fn texts(pass: &mut Pass, model: &TwoTowers, tokens: &[u32], lengths: &[u32], view: &View) -> Result<Tensor> {
    let n = lengths.len();
    let l = tokens.len() / n.max(1);
    in_blocks(pass, n, model.config().embedding_dim(), |pass, first, last| {
        Ok(model.embed_texts(pass, &tokens[first * l..last * l], &lengths[first..last], view)?)
    })
}

fn in_blocks(
    pass: &mut Pass,
    n: usize,
    d: usize,
    mut embed: impl FnMut(&mut Pass, usize, usize) -> Result<Tensor>,
) -> Result<Tensor> {
    let mut all = pass.zeros(&[n, d])?;
    for first in (0..n).step_by(BLOCK) {
        let block = embed(pass, first, (first + BLOCK).min(n))?;
        pass.copy_rows(&block, &mut all, first)?;
    }
    Ok(all)
}

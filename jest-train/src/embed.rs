//! Embeddings of whole batches, block by block, without keeping activations.

use std::cell::RefCell;
use std::ops::Range;

use jest_data::{CacheKey, LoaderConfig, SuperBatch};
use jest_kernels::{Pass, Precision, Tensor};
use jest_model::{ModelConfig, TwoTowers, View};

use crate::Result;

/// Examples embedded at once: enough rows for full-speed products, few enough for their activations to stay small.
pub(crate) const BLOCK: usize = 128;

/// Pixels of the images of a block in f32, at most, where it has more than [`BLOCK`]: every adapter binds as much.
const PIXEL_BYTES: usize = 32 << 20;

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

thread_local! {
    /// Pixels on their way to the device; kept from call to call.
    static PIXELS: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Normalised pixels of some examples, on the device: `[range, 3, s, s]`.
pub(crate) fn upload_pixels(pass: &mut Pass, batch: &SuperBatch, range: Range<usize>) -> Result<Tensor> {
    let (n, side) = (range.len(), batch.preprocess.size);
    PIXELS.with_borrow_mut(|pixels| {
        pixels.clear();
        batch.append_pixels(range, pixels);
        Ok(pass.upload(pixels, &[n, 3, side, side])?)
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
    let n = batch.len();
    let mut all = pass.zeros(&[n, model.config().embedding_dim()])?;
    let block = image_block(model.config(), view);
    for first in (0..n).step_by(block) {
        let last = (first + block).min(n);
        let images = upload_pixels(pass, batch, first..last)?;
        // Blocks drop patches of their own.
        let seed = view.seed.wrapping_add(first as u64);
        let block = model.embed_images(pass, &images, &View { seed, ..*view })?;
        pass.copy_rows(&block, &mut all, first)?;
    }
    Ok(all)
}

/// Images embedded at once: as many tokens as [`BLOCK`] images at the full view, where their pixels are few.
pub(crate) fn image_block(config: &ModelConfig, view: &View) -> usize {
    let most = PIXEL_BYTES / (3 * 4 * config.vision.image_size.pow(2));
    let tokens = |view: &View| view.image_tokens(config);
    (BLOCK * tokens(&View::default()) / tokens(view)).min(most).max(BLOCK)
}

/// Unit-norm embeddings of captions given as token ids `[n * l]` and their lengths `[n]`: `[n, d]`.
pub fn texts(pass: &mut Pass, model: &TwoTowers, tokens: &[u32], lengths: &[u32], view: &View) -> Result<Tensor> {
    let (n, d) = (lengths.len(), model.config().embedding_dim());
    let l = tokens.len() / n.max(1);
    let mut all = pass.zeros(&[n, d])?;
    let mut first = 0;
    for last in text_blocks(model, lengths, view) {
        let block = model.embed_texts(pass, &tokens[first * l..last * l], &lengths[first..last], view)?;
        pass.copy_rows(&block, &mut all, first)?;
        first = last;
    }
    Ok(all)
}

/// Where blocks of captions end: each has as many tokens as [`BLOCK`] whole captions, or one caption.
fn text_blocks(model: &TwoTowers, lengths: &[u32], view: &View) -> Vec<usize> {
    let most = BLOCK * model.config().text.tokens;
    let (mut ends, mut tokens) = (Vec::new(), 0);
    for (place, length) in lengths.iter().enumerate() {
        let own: usize = model.text_views(&[*length], view).iter().map(|(_, at)| at.text_tokens(model.config())).sum();
        if tokens + own > most {
            ends.push(place);
            tokens = 0;
        }
        tokens += own;
    }
    ends.extend((!lengths.is_empty()).then_some(lengths.len()));
    ends
}

/// Operations of both towers' forward pass on captions of these lengths and their images.
pub fn flops(model: &TwoTowers, lengths: &[u32], view: &View) -> f64 {
    let config = model.config();
    let texts = model.text_views(lengths, view);
    texts.iter().map(|(count, view)| *count as f64 * config.forward_flops(view) as f64).sum()
}

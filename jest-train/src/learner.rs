//! The model being trained: loss, gradients, update.

use std::ops::Range;
use std::path::Path;

use jest_data::SuperBatch;
use jest_kernels::ops::gather_tokens::{self, KeptTokens};
use jest_kernels::ops::{contrastive_softmax, sigmoid_loss};
use jest_kernels::{Pass, Pending, Tensor};
use jest_model::{TwoTowers, View};

use crate::approximation::Part;
use crate::config::{MemoryPlan, Objective};
use crate::optimizer::Optimizer;
use crate::{Result, embed};

/// A model, its optimiser, and what it minimises.
#[derive(Debug)]
pub struct Learner {
    /// Both towers, logit scale and bias.
    pub model: TwoTowers,
    /// Running means.
    pub optimizer: Optimizer,
    /// The loss.
    pub objective: Objective,
    memory: MemoryPlan,
}

/// Numbers of one step on their way to the host.
#[derive(Debug)]
pub struct StepNumbers {
    loss: Pending,
    norm: Pending,
    log_scale: Pending,
    bias: Pending,
}

/// Numbers of one step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Arrived {
    /// Mean loss of the sub-batch before the update.
    pub loss: f32,
    /// Norm of all gradients before clipping.
    pub grad_norm: f32,
    /// t after the update.
    pub logit_scale: f32,
    /// Bias after the update.
    pub logit_bias: f32,
}

impl StepNumbers {
    /// Waits for the numbers.
    pub fn arrive(self) -> Result<Arrived> {
        let first = |pending: Pending| -> Result<f32> { Ok(pending.wait()?[0]) };
        Ok(Arrived {
            loss: first(self.loss)?,
            grad_norm: first(self.norm)?,
            logit_scale: first(self.log_scale)?.exp(),
            logit_bias: first(self.bias)?,
        })
    }
}

impl Learner {
    /// A learner that keeps all activations of a sub-batch.
    pub fn new(model: TwoTowers, optimizer: Optimizer, objective: Objective) -> Self {
        Self { model, optimizer, objective, memory: MemoryPlan::default() }
    }

    /// The same learner, keeping no more than this.
    pub fn with_memory(mut self, memory: MemoryPlan) -> Self {
        self.model.set_recompute(memory.recompute);
        Self { memory, ..self }
    }

    /// One update on a sub-batch at the full view: forward, loss, backward, AdamW.
    pub fn step(&mut self, pass: &mut Pass, batch: &SuperBatch, lr: f64, decay: f64) -> Result<StepNumbers> {
        let all = [Part { rows: 0..batch.len(), view: View::default() }];
        self.step_in_parts(pass, batch, &all, lr, decay)
    }

    /// One update on a sub-batch whose parts are computed at views of their own: their embeddings are joined in one loss.
    ///
    /// The parts are all of the batch, in order.
    pub fn step_in_parts(
        &mut self,
        pass: &mut Pass,
        batch: &SuperBatch,
        parts: &[Part],
        lr: f64,
        decay: f64,
    ) -> Result<StepNumbers> {
        let loss = self.forward_backward(pass, batch, parts)?;
        let loss = pass.read_later(&loss)?;
        let norm = self.optimizer.update(pass, &mut self.model, lr, decay)?;
        let log_scale = pass.read_later(&self.model.logit_scale.value)?;
        let bias = pass.read_later(&self.model.logit_bias.value)?;
        pass.submit()?;
        Ok(StepNumbers { loss, norm, log_scale, bias })
    }

    /// Adds the gradients of the joined loss to the parameters' of towers that are not locked; gives the loss.
    fn forward_backward(&mut self, pass: &mut Pass, batch: &SuperBatch, parts: &[Part]) -> Result<Tensor> {
        let (images, texts) = (parts.to_vec(), text_parts(parts));
        match self.memory.micro_batch {
            Some(rows) if rows < batch.len() => {
                self.in_micro_batches(pass, batch, &cut(&images, rows), &cut(&texts, rows))
            }
            _ => self.at_once(pass, batch, &images, &texts),
        }
    }

    /// With the activations of the whole sub-batch in memory.
    fn at_once(&mut self, pass: &mut Pass, batch: &SuperBatch, images: &[Part], texts: &[Part]) -> Result<Tensor> {
        let (mut image, mut text) = (Vec::new(), Vec::new());
        let locked = self.model.locked();
        for part in images {
            let pixels = pixels_of(pass, batch, part)?;
            image.push(if locked.image {
                (self.model.embed_images(pass, &pixels, &part.view)?, None)
            } else {
                let (z, saved) = self.model.encode_images(pass, &pixels, &part.view)?;
                (z, Some(saved))
            });
        }
        for Part { rows, view } in texts {
            let (tokens, lengths) = (batch.tokens_of(rows.clone()), &batch.lengths[rows.clone()]);
            text.push(if locked.text {
                (self.model.embed_texts(pass, tokens, lengths, view)?, None)
            } else {
                let (z, saved) = self.model.encode_texts(pass, tokens, lengths, view)?;
                (z, Some(saved))
            });
        }
        let (image, saved_images) = join(pass, image)?;
        let (text, saved_texts) = join(pass, text)?;
        let (loss, dimage, dtext) = self.loss(pass, &image, &text)?;
        for (part, saved) in images.iter().zip(saved_images) {
            let Some(saved) = saved else { continue };
            let dimage = rows_of(pass, &dimage, part.rows.clone())?;
            self.model.backward_images(pass, saved, &dimage)?;
        }
        for (part, saved) in texts.iter().zip(saved_texts) {
            let Some(saved) = saved else { continue };
            let dtext = rows_of(pass, &dtext, part.rows.clone())?;
            self.model.backward_texts(pass, saved, &dtext)?;
        }
        Ok(loss)
    }

    /// With the activations of one part at a time: all are embedded for the loss, then each is computed once more with
    /// its activations and goes back at once.
    ///
    /// # Source
    /// GradCache, Gao et al., arXiv 2101.06983.
    fn in_micro_batches(
        &mut self,
        pass: &mut Pass,
        batch: &SuperBatch,
        images: &[Part],
        texts: &[Part],
    ) -> Result<Tensor> {
        let d = self.model.config().embedding_dim();
        let (mut image, mut text) = (pass.zeros(&[batch.len(), d])?, pass.zeros(&[batch.len(), d])?);
        for part in images {
            let pixels = pixels_of(pass, batch, part)?;
            let embedded = self.model.embed_images(pass, &pixels, &part.view)?;
            pass.copy_rows(&embedded, &mut image, part.rows.start)?;
        }
        for Part { rows, view } in texts {
            let (tokens, lengths) = (batch.tokens_of(rows.clone()), &batch.lengths[rows.clone()]);
            let embedded = self.model.embed_texts(pass, tokens, lengths, view)?;
            pass.copy_rows(&embedded, &mut text, rows.start)?;
        }
        let (loss, dimage, dtext) = self.loss(pass, &image, &text)?;
        let locked = self.model.locked();
        for part in images.iter().filter(|_| !locked.image) {
            let (pixels, dimage) = (pixels_of(pass, batch, part)?, rows_of(pass, &dimage, part.rows.clone())?);
            let (_, saved) = self.model.encode_images(pass, &pixels, &part.view)?;
            self.model.backward_images(pass, saved, &dimage)?;
        }
        for Part { rows, view } in texts.iter().filter(|_| !locked.text) {
            let (tokens, lengths) = (batch.tokens_of(rows.clone()), &batch.lengths[rows.clone()]);
            let dtext = rows_of(pass, &dtext, rows.clone())?;
            let (_, saved) = self.model.encode_texts(pass, tokens, lengths, view)?;
            self.model.backward_texts(pass, saved, &dtext)?;
        }
        Ok(loss)
    }

    /// Loss and its gradients by both embeddings; those by logit scale and bias are added to their parameters.
    fn loss(&mut self, pass: &mut Pass, image: &Tensor, text: &Tensor) -> Result<(Tensor, Tensor, Tensor)> {
        let TwoTowers { logit_scale, logit_bias, .. } = &mut self.model;
        Ok(match self.objective {
            Objective::Sigmoid => {
                let parameters =
                    sigmoid_loss::LogitParameters { log_scale: &logit_scale.value, bias: &logit_bias.value };
                let (dscale, dbias) = (&mut logit_scale.grad, &mut logit_bias.grad);
                sigmoid_loss::forward_backward(pass, image, text, parameters, dscale, dbias)?
            }
            Objective::Softmax => {
                let scale = &logit_scale.value;
                contrastive_softmax::forward_backward(pass, image, text, scale, &mut logit_scale.grad)?
            }
        })
    }

    /// Embeddings of both towers without activations kept.
    pub fn embed(&self, pass: &mut Pass, batch: &SuperBatch) -> Result<[Tensor; 2]> {
        self.embed_at(pass, batch, &View::default())
    }

    /// As [`embed`](Self::embed), at another view.
    pub fn embed_at(&self, pass: &mut Pass, batch: &SuperBatch, view: &View) -> Result<[Tensor; 2]> {
        embed::both(pass, &self.model, batch, view)
    }

    /// FLOPs of scoring `n` examples: one forward pass of both towers.
    pub fn forward_flops(&self, n: usize) -> f64 {
        self.forward_flops_at(n, &View::default())
    }

    /// As [`forward_flops`](Self::forward_flops), at another view.
    pub fn forward_flops_at(&self, n: usize, view: &View) -> f64 {
        self.model.config().forward_flops(view) as f64 * n as f64
    }

    /// FLOPs of one update on `n` examples: forward, backward, and the loss from embeddings.
    pub fn training_flops(&self, n: usize) -> f64 {
        self.training_flops_in_parts(&[Part { rows: 0..n, view: View::default() }])
    }

    /// FLOPs of one update in parts.
    pub fn training_flops_in_parts(&self, parts: &[Part]) -> f64 {
        let n: usize = parts.iter().map(|part| part.rows.len()).sum();
        let of = |part: &Part| {
            let once = self.model.training_flops(&part.view) + self.flops_again(n, &part.view);
            once as f64 * part.rows.len() as f64
        };
        let towers: f64 = parts.iter().map(of).sum();
        // Logits and two gradients; softmax needs the logits twice, as its sums come before its gradients.
        let products = if self.objective == Objective::Sigmoid { 6.0 } else { 8.0 };
        towers + products * (n * n) as f64 * self.model.config().embedding_dim() as f64
    }

    /// FLOPs of what is computed a second time for each of n examples, to be kept for a shorter time.
    fn flops_again(&self, n: usize, view: &View) -> u64 {
        let (config, locked) = (self.model.config(), self.model.locked());
        let in_pieces = u64::from(self.memory.micro_batch.is_some_and(|rows| rows < n));
        let in_blocks = u64::from(self.memory.recompute);
        let towers = [
            (locked.image, config.image_flops(view), config.image_block_flops(view)),
            (locked.text, config.text_flops(view), config.text_block_flops(view)),
        ];
        let learning = towers.into_iter().filter(|(locked, ..)| !locked);
        learning.map(|(_, forward, blocks)| in_pieces * forward + in_blocks * blocks).sum()
    }

    /// Writes weights, config and running means into a checkpoint folder.
    pub fn save(&self, pass: &mut Pass, folder: &Path) -> Result<()> {
        self.model.save(pass, folder, &[("producer".to_string(), "jest".to_string())].into())?;
        self.optimizer.save(pass, &self.model, folder)
    }
}

/// Parts as the text tower sees them: neighbours of one length are one part.
fn text_parts(parts: &[Part]) -> Vec<Part> {
    let mut all: Vec<Part> = Vec::new();
    for part in parts {
        let view = View { text_tokens: part.view.text_tokens, ..View::default() };
        match all.last_mut() {
            Some(last) if last.view == view && last.rows.end == part.rows.start => last.rows.end = part.rows.end,
            _ => all.push(Part { rows: part.rows.clone(), view }),
        }
    }
    all
}

/// Parts of at most so many rows each; patches are dropped of each by draws of its own.
fn cut(parts: &[Part], rows: usize) -> Vec<Part> {
    let pieces = parts.iter().flat_map(|Part { rows: all, view }| {
        all.clone().step_by(rows.max(1)).map(move |first| {
            let seed = view.seed.wrapping_add((first - all.start) as u64);
            Part { rows: first..(first + rows).min(all.end), view: View { seed, ..*view } }
        })
    });
    pieces.collect()
}

fn pixels_of(pass: &mut Pass, batch: &SuperBatch, part: &Part) -> Result<Tensor> {
    let side = batch.preprocess.size;
    Ok(pass.upload(&batch.pixels_of(part.rows.clone()), &[part.rows.len(), 3, side, side])?)
}

/// The embeddings of all parts in one tensor, and what their backward passes need.
fn join<S>(pass: &mut Pass, mut parts: Vec<(Tensor, S)>) -> Result<(Tensor, Vec<S>)> {
    if parts.len() == 1
        && let Some((whole, saved)) = parts.pop()
    {
        return Ok((whole, vec![saved]));
    }
    let rows = parts.iter().map(|(part, _)| part.rows()).sum();
    let mut whole = pass.zeros(&[rows, parts.first().map_or(0, |(part, _)| part.cols())])?;
    let (mut first, mut all) = (0, Vec::with_capacity(parts.len()));
    for (part, saved) in parts {
        pass.copy_rows(&part, &mut whole, first)?;
        first += part.rows();
        all.push(saved);
    }
    Ok((whole, all))
}

/// Rows of a tensor as one of their own.
fn rows_of(pass: &mut Pass, whole: &Tensor, rows: Range<usize>) -> Result<Tensor> {
    if rows.len() == whole.rows() {
        return Ok(whole.clone());
    }
    let indices: Vec<u32> = rows.map(|row| row as u32).collect();
    let kept = KeptTokens::upload(pass, &indices, 1, indices.len(), whole.rows())?;
    Ok(gather_tokens::forward(pass, whole, &kept)?)
}

#[cfg(test)]
mod tests;

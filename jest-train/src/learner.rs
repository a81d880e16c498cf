//! The model being trained: loss, gradients, update.

mod flops;

use std::ops::Range;
use std::path::Path;

use jest_data::SuperBatch;
use jest_kernels::ops::gather_tokens::{self, KeptTokens};
use jest_kernels::ops::{add, contrastive_distillation, contrastive_softmax, scale, sigmoid_loss};
use jest_kernels::{Pass, Pending, Precision, Tensor};
use jest_model::{Tower, TwoTowers, View};

use crate::approximation::Part;
use crate::config::{MemoryPlan, Objective};
use crate::loss_scale::LossScale;
use crate::optimizer::Optimizer;
use crate::reuse::{Reuse, Teacher};
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
    /// How many times its gradients are multiplied, where products are in f16.
    pub loss_scale: Option<LossScale>,
    /// The same in the update under way; 1 without.
    gradient_scale: f32,
    memory: MemoryPlan,
    /// Weight of distillation where there is a teacher.
    distillation: f32,
}

/// What is minimised, on the device: the objective's loss, and the weighted one of distillation.
#[derive(Debug)]
struct Loss {
    contrastive: Tensor,
    distillation: Option<Tensor>,
}

/// Numbers of one step on their way to the host.
#[derive(Debug)]
pub struct StepNumbers {
    loss: Pending,
    distillation: Option<Pending>,
    norm: Pending,
    log_scale: Pending,
    bias: Pending,
    gradient_scale: f32,
}

/// Numbers of one step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Arrived {
    /// Mean loss of the sub-batch before the update, weighted distillation included.
    pub loss: f32,
    /// The part of it that is distillation.
    pub distillation: Option<f32>,
    /// Norm of all gradients before clipping.
    pub grad_norm: f32,
    /// t after the update.
    pub logit_scale: f32,
    /// Bias after the update.
    pub logit_bias: f32,
}

impl StepNumbers {
    /// What the gradients of the step were multiplied by.
    pub fn gradient_scale(&self) -> f32 {
        self.gradient_scale
    }

    /// Waits for the numbers.
    pub fn arrive(self) -> Result<Arrived> {
        let first = |pending: Pending| -> Result<f32> { Ok(pending.wait()?[0]) };
        let distillation = self.distillation.map(first).transpose()?;
        Ok(Arrived {
            loss: first(self.loss)? + distillation.unwrap_or(0.0),
            distillation,
            grad_norm: first(self.norm)? / self.gradient_scale,
            logit_scale: first(self.log_scale)?.exp(),
            logit_bias: first(self.bias)?,
        })
    }
}

impl Learner {
    /// A learner that keeps all activations of a sub-batch.
    pub fn new(model: TwoTowers, optimizer: Optimizer, objective: Objective) -> Self {
        let memory = MemoryPlan::default();
        Self { model, optimizer, objective, loss_scale: None, gradient_scale: 1.0, memory, distillation: 0.0 }
    }

    /// The same learner with a loss scale where products are in f16: the saved one, or a new one.
    pub fn with_precision(self, precision: Precision, saved: Option<LossScale>) -> Self {
        let loss_scale = (precision == Precision::F16).then(|| saved.unwrap_or_default());
        Self { loss_scale, ..self }
    }

    /// The same learner, keeping no more than this.
    pub fn with_memory(mut self, memory: MemoryPlan) -> Self {
        self.model.set_recompute(memory.recompute);
        Self { memory, ..self }
    }

    /// The same learner, which also learns the softmaxes of a teacher where it is given one.
    pub fn with_distillation(self, weight: f64) -> Self {
        Self { distillation: weight as f32, ..self }
    }

    /// One update on a sub-batch at the full view: forward, loss, backward, AdamW.
    pub fn step(&mut self, pass: &mut Pass, batch: &SuperBatch, lr: f64, decay: f64) -> Result<StepNumbers> {
        let all = [Part { rows: 0..batch.len(), view: View::default() }];
        self.step_in_parts(pass, batch, &all, &Reuse::default(), lr, decay)
    }

    /// One update on a sub-batch whose parts are computed at views of their own: their embeddings are joined in one loss.
    ///
    /// The parts are all of the batch, in order, and so are embeddings that are there before.
    pub fn step_in_parts(
        &mut self,
        pass: &mut Pass,
        batch: &SuperBatch,
        parts: &[Part],
        reuse: &Reuse,
        lr: f64,
        decay: f64,
    ) -> Result<StepNumbers> {
        let (gradient_scale, skipped) = self.loss_scale.as_mut().map_or((1.0, 0), LossScale::begin);
        self.gradient_scale = gradient_scale;
        self.optimizer.take_back(skipped);
        let loss = self.forward_backward(pass, batch, parts, reuse)?;
        let Loss { contrastive, distillation } = loss;
        let loss = pass.read_later(&contrastive)?;
        let distillation = distillation.map(|loss| pass.read_later(&loss)).transpose()?;
        let norm = self.optimizer.update(pass, &mut self.model, lr, decay, gradient_scale)?;
        let log_scale = pass.read_later(self.model.logit_scale.value())?;
        let bias = pass.read_later(self.model.logit_bias.value())?;
        pass.submit()?;
        Ok(StepNumbers { loss, distillation, norm, log_scale, bias, gradient_scale })
    }

    /// Adds the gradients of the joined loss to the parameters' of towers that are not locked; gives the loss.
    fn forward_backward(&mut self, pass: &mut Pass, batch: &SuperBatch, parts: &[Part], reuse: &Reuse) -> Result<Loss> {
        let (images, texts) = (parts.to_vec(), text_parts(parts));
        match self.memory.micro_batch {
            Some(rows) if rows < batch.len() => {
                self.in_micro_batches(pass, batch, [&cut(&images, rows), &cut(&texts, rows)], reuse)
            }
            _ => self.at_once(pass, batch, [&images, &texts], reuse),
        }
    }

    /// Whether a sub-batch of n is embedded before its activations are computed, so that embeddings can be reused.
    pub fn in_pieces(&self, n: usize) -> bool {
        self.memory.micro_batch.is_some_and(|rows| rows < n)
    }

    /// With the activations of the whole sub-batch in memory.
    fn at_once(
        &mut self,
        pass: &mut Pass,
        batch: &SuperBatch,
        [images, texts]: [&[Part]; 2],
        reuse: &Reuse,
    ) -> Result<Loss> {
        let (mut image, mut text) = (Vec::new(), Vec::new());
        let [train_images, train_texts] = [Tower::Image, Tower::Text].map(|tower| self.model.trains(tower));
        for part in images {
            let pixels = embed::upload_pixels(pass, batch, part.rows.clone())?;
            image.push(if train_images {
                let (z, saved) = self.model.encode_images(pass, &pixels, &part.view)?;
                (z, Some(saved))
            } else {
                (self.model.embed_images(pass, &pixels, &part.view)?, None)
            });
        }
        for Part { rows, view } in texts {
            let (tokens, lengths) = (batch.tokens_of(rows.clone()), &batch.lengths[rows.clone()]);
            text.push(if train_texts {
                let (z, saved) = self.model.encode_texts(pass, tokens, lengths, view)?;
                (z, Some(saved))
            } else {
                (self.model.embed_texts(pass, tokens, lengths, view)?, None)
            });
        }
        let (image, saved_images) = join(pass, image)?;
        let (text, saved_texts) = join(pass, text)?;
        let (loss, dimage, dtext) = self.loss(pass, [&image, &text], reuse)?;
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
    /// its activations and goes back at once. Embeddings that scoring made the same way need not be made first.
    ///
    /// # Source
    /// GradCache, Gao et al., arXiv 2101.06983.
    fn in_micro_batches(
        &mut self,
        pass: &mut Pass,
        batch: &SuperBatch,
        [images, texts]: [&[Part]; 2],
        reuse: &Reuse,
    ) -> Result<Loss> {
        let config = self.model.config();
        let d = config.embedding_dim();
        let (mut image, mut text) = (pass.zeros(&[batch.len(), d])?, pass.zeros(&[batch.len(), d])?);
        for part in images {
            let embedded = match reuse.images(&part.view, config) {
                Some(made) => rows_of(pass, made, part.rows.clone())?,
                None => {
                    let pixels = embed::upload_pixels(pass, batch, part.rows.clone())?;
                    self.model.embed_images(pass, &pixels, &part.view)?
                }
            };
            pass.copy_rows(&embedded, &mut image, part.rows.start)?;
        }
        for Part { rows, view } in texts {
            let (tokens, lengths) = (batch.tokens_of(rows.clone()), &batch.lengths[rows.clone()]);
            let embedded = match reuse.texts(view, config) {
                Some(made) => rows_of(pass, made, rows.clone())?,
                None => self.model.embed_texts(pass, tokens, lengths, view)?,
            };
            pass.copy_rows(&embedded, &mut text, rows.start)?;
        }
        let (loss, dimage, dtext) = self.loss(pass, [&image, &text], reuse)?;
        let [train_images, train_texts] = [Tower::Image, Tower::Text].map(|tower| self.model.trains(tower));
        for part in images.iter().filter(|_| train_images) {
            let pixels = embed::upload_pixels(pass, batch, part.rows.clone())?;
            let dimage = rows_of(pass, &dimage, part.rows.clone())?;
            let (_, saved) = self.model.encode_images(pass, &pixels, &part.view)?;
            self.model.backward_images(pass, saved, &dimage)?;
        }
        for Part { rows, view } in texts.iter().filter(|_| train_texts) {
            let (tokens, lengths) = (batch.tokens_of(rows.clone()), &batch.lengths[rows.clone()]);
            let dtext = rows_of(pass, &dtext, rows.clone())?;
            let (_, saved) = self.model.encode_texts(pass, tokens, lengths, view)?;
            self.model.backward_texts(pass, saved, &dtext)?;
        }
        Ok(loss)
    }

    /// Loss and its gradients by both embeddings; those by logit scale and bias are added to their parameters. All
    /// gradients are multiplied by the scale of the update.
    fn loss(&mut self, pass: &mut Pass, embedded: [&Tensor; 2], reuse: &Reuse) -> Result<(Loss, Tensor, Tensor)> {
        let (loss, mut dimage, mut dtext) = self.unscaled_loss(pass, embedded, reuse)?;
        if self.gradient_scale != 1.0 {
            let TwoTowers { logit_scale, logit_bias, .. } = &mut self.model;
            for gradient in [&mut dimage, &mut dtext, &mut logit_scale.grad, &mut logit_bias.grad] {
                scale::in_place(pass, gradient, self.gradient_scale)?;
            }
        }
        Ok((loss, dimage, dtext))
    }

    fn unscaled_loss(
        &mut self,
        pass: &mut Pass,
        [image, text]: [&Tensor; 2],
        reuse: &Reuse,
    ) -> Result<(Loss, Tensor, Tensor)> {
        let TwoTowers { logit_scale, logit_bias, .. } = &mut self.model;
        let (contrastive, mut dimage, mut dtext) = match self.objective {
            Objective::Sigmoid => {
                let ((log_scale, dscale), (bias, dbias)) = (logit_scale.value_and_grad(), logit_bias.value_and_grad());
                let parameters = sigmoid_loss::LogitParameters { log_scale, bias };
                sigmoid_loss::forward_backward(pass, image, text, parameters, dscale, dbias)?
            }
            Objective::Softmax => {
                let (scale, dscale) = logit_scale.value_and_grad();
                contrastive_softmax::forward_backward(pass, image, text, scale, dscale)?
            }
        };
        let Some(Teacher { made, log_scale }) = reuse.teacher() else {
            return Ok((Loss { contrastive, distillation: None }, dimage, dtext));
        };
        let (own_scale, dscale) = logit_scale.value_and_grad();
        let student = contrastive_distillation::Embedded { image, text, log_scale: own_scale };
        let teacher = contrastive_distillation::Embedded { image: &made[0], text: &made[1], log_scale };
        let (distillation, by_image, by_text) =
            contrastive_distillation::forward_backward(pass, student, teacher, self.distillation, dscale)?;
        add::accumulate(pass, &by_image, &mut dimage)?;
        add::accumulate(pass, &by_text, &mut dtext)?;
        Ok((Loss { contrastive, distillation: Some(distillation) }, dimage, dtext))
    }

    /// Embeddings of both towers without activations kept.
    pub fn embed(&self, pass: &mut Pass, batch: &SuperBatch) -> Result<[Tensor; 2]> {
        self.embed_at(pass, batch, &View::default())
    }

    /// As [`embed`](Self::embed), at another view.
    pub fn embed_at(&self, pass: &mut Pass, batch: &SuperBatch, view: &View) -> Result<[Tensor; 2]> {
        embed::both(pass, &self.model, batch, view)
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

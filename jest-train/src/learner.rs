//! The model being trained: loss, gradients, update.

use std::path::Path;

use jest_data::SuperBatch;
use jest_kernels::ops::{contrastive_softmax, sigmoid_loss};
use jest_kernels::{Pass, Pending, Tensor};
use jest_model::{TwoTowers, View};

use crate::config::Objective;
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
    /// One update on a sub-batch: forward, loss, backward, AdamW.
    pub fn step(&mut self, pass: &mut Pass, batch: &SuperBatch, lr: f64, decay: f64) -> Result<StepNumbers> {
        let view = View::default();
        let (n, side) = (batch.len(), batch.preprocess.size);
        let images = pass.upload(&batch.pixels(), &[n, 3, side, side])?;
        let (image, image_saved) = self.model.encode_images(pass, &images, &view)?;
        let (text, text_saved) = self.model.encode_texts(pass, &batch.tokens, &batch.lengths, &view)?;
        let (loss, dimage, dtext) = self.loss(pass, &image, &text)?;
        self.model.backward_images(pass, image_saved, &dimage)?;
        self.model.backward_texts(pass, text_saved, &dtext)?;
        let loss = pass.read_later(&loss)?;
        let norm = self.optimizer.update(pass, &mut self.model, lr, decay)?;
        let log_scale = pass.read_later(&self.model.logit_scale.value)?;
        let bias = pass.read_later(&self.model.logit_bias.value)?;
        pass.submit()?;
        Ok(StepNumbers { loss, norm, log_scale, bias })
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
        embed::both(pass, &self.model, batch, &View::default())
    }

    /// FLOPs of scoring `n` examples: one forward pass of both towers.
    pub fn forward_flops(&self, n: usize) -> f64 {
        self.model.config().forward_flops(&View::default()) as f64 * n as f64
    }

    /// FLOPs of one update on `n` examples: forward, backward, and the loss from embeddings.
    pub fn training_flops(&self, n: usize) -> f64 {
        let towers = self.model.config().training_flops(&View::default()) as f64 * n as f64;
        // Logits and two gradients; softmax needs the logits twice, as its sums come before its gradients.
        let products = if self.objective == Objective::Sigmoid { 6.0 } else { 8.0 };
        towers + products * (n * n) as f64 * self.model.config().embedding_dim() as f64
    }

    /// Writes weights, config and running means into a checkpoint folder.
    pub fn save(&self, pass: &mut Pass, folder: &Path) -> Result<()> {
        self.model.save(pass, folder, &[("producer".to_string(), "jest".to_string())].into())?;
        self.optimizer.save(pass, &self.model, folder)
    }
}

//! AdamW over all parameters of a model, with its running means on the device.

use std::path::Path;

use jest_kernels::ops::{adamw, global_norm};
use jest_kernels::{Pass, Pending, Tensor};
use jest_model::{Param, TensorFile, TensorSource, TwoTowers, tensor_file};

use crate::config::{DecayOn, OptimizerPlan};
use crate::{Result, TrainError, storage};

/// File of the running means inside a checkpoint.
const FILE: &str = "optimizer.safetensors";

/// Running means and the number of updates.
#[derive(Debug)]
pub struct Optimizer {
    plan: OptimizerPlan,
    /// Upper bound of the logarithm of the logit scale.
    max_log_scale: Option<f32>,
    moments: Vec<[Tensor; 2]>,
    updates: u64,
}

impl Optimizer {
    /// Zero running means of the parameters that are trained; `max_logit_scale` bounds t.
    pub fn new(pass: &mut Pass, model: &TwoTowers, plan: OptimizerPlan, max_logit_scale: Option<f32>) -> Result<Self> {
        let mut moments = Vec::new();
        for param in model.trained() {
            moments.push([pass.zeros(param.value().shape())?, pass.zeros(param.value().shape())?]);
        }
        Ok(Self { plan, max_log_scale: max_logit_scale.map(f32::ln), moments, updates: 0 })
    }

    /// Counts so many updates fewer, as they changed nothing: running means are as old as the updates that made them.
    pub fn take_back(&mut self, skipped: u64) {
        self.updates = self.updates.saturating_sub(skipped);
    }

    /// Updates every parameter that is trained from its gradient, which is `gradient_scale` times too large, and clears the
    /// gradients; gives their norm on its way, as large.
    ///
    /// Nothing changes when the norm is not finite.
    pub fn update(
        &mut self,
        pass: &mut Pass,
        model: &mut TwoTowers,
        lr: f64,
        decay: f64,
        gradient_scale: f32,
    ) -> Result<Pending> {
        let gradients: Vec<&Tensor> = model.trained().into_iter().map(|param| &param.grad).collect();
        let norm = global_norm::forward(pass, &gradients)?;
        self.updates += 1;
        let clip = self.plan.grad_clip_norm;
        let shared = adamw::AdamW {
            lr: lr as f32,
            beta1: self.plan.beta1 as f32,
            beta2: self.plan.beta2 as f32,
            eps: self.plan.eps as f32,
            decay: 0.0,
            step: self.updates,
            gradient_scale,
            max_norm: clip.is_finite().then_some(clip as f32),
            max_value: None,
        };
        for (param, [mean, square]) in model.trained_mut().into_iter().zip(&mut self.moments) {
            let mut settings = shared;
            if decays(self.plan.decay_on, param) {
                settings.decay = decay as f32;
            }
            if param.name() == "logit_scale" {
                settings.max_value = self.max_log_scale;
            }
            let (value, gradient) = param.update();
            adamw::step(pass, &settings, value, gradient, [mean, square], &norm)?;
        }
        for param in model.trained_mut() {
            param.grad = pass.zeros(param.value().shape())?;
        }
        Ok(pass.read_later(&norm)?)
    }

    /// Writes the running means into a checkpoint folder.
    pub fn save(&self, pass: &mut Pass, model: &TwoTowers, folder: &Path) -> Result<()> {
        let names = names(model);
        let shape = |index: usize| self.moments[index / 2][index % 2].shape().to_vec();
        let tensors: Vec<_> = names.into_iter().enumerate().map(|(index, name)| (name, shape(index))).collect();
        let metadata = [("updates".to_string(), self.updates.to_string())].into();
        let path = folder.join(FILE);
        let mut failed = None;
        let written = storage::write_atomic_with(&path, |out| {
            let values = |index: usize| Ok(pass.read(&self.moments[index / 2][index % 2])?);
            match tensor_file::write(out, &path, &metadata, &tensors, values) {
                Ok(()) => Ok(()),
                Err(error) => {
                    failed = Some(error);
                    Err(std::io::Error::other("optimiser state not written"))
                }
            }
        });
        match failed {
            Some(error) => Err(error.into()),
            None => written,
        }
    }

    /// Reads what [`Optimizer::save`] wrote.
    ///
    /// # Errors
    /// `Model` when the file is damaged or of another model.
    pub fn load(&mut self, pass: &mut Pass, model: &TwoTowers, folder: &Path) -> Result<()> {
        let path = folder.join(FILE);
        let mut file = TensorFile::open(&path)?;
        let updates = file.metadata().get("updates").and_then(|text| text.parse().ok());
        self.updates = updates.ok_or(TrainError::Damaged { path })?;
        for (index, name) in names(model).iter().enumerate() {
            let moment = &mut self.moments[index / 2][index % 2];
            let values = file.read_f32(name, moment.shape())?;
            *moment = pass.upload(&values, moment.shape())?;
        }
        Ok(())
    }
}

fn decays(rule: DecayOn, param: &Param) -> bool {
    match rule {
        DecayOn::Kernels => param.is_kernel(),
        DecayOn::Matrices => param.ndim() > 1,
    }
}

fn names(model: &TwoTowers) -> Vec<String> {
    let both = |param: &Param| ["mean", "square"].map(|moment| format!("{moment}.{}", param.name()));
    model.trained().into_iter().flat_map(both).collect()
}

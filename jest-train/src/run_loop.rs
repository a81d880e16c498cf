//! The training loop: the only one.

use jest_data::Loader;
use jest_kernels::Pass;
use jest_select::{InputError, SelectError};

use crate::approximation::Approximation;
use crate::assemble::checkpointed;
use crate::audit::Audit;
use crate::checkpoint::Checkpoints;
use crate::config::RunPlan;
use crate::evaluation::Evaluation;
use crate::events::{Evaluated, Event, Events, Metrics, Named, Step, Timing, Warning};
use crate::learner::{Learner, StepNumbers};
use crate::loss_scale::LossScale;
use crate::meter::{Kind, Meter};
use crate::reuse::Reuse;
use crate::run_state::{Progress, RunState};
use crate::schedule::Schedule;
use crate::selector::{Pick, Selector};
use crate::signals::StopFlag;
use crate::{Result, TrainError};

/// Everything that one run works with.
pub struct Run<'a> {
    /// What is to be done.
    pub plan: &'a RunPlan,
    /// Seed of the plan.
    pub seed: u64,
    /// Where it is recorded.
    pub pass: Pass,
    /// Super-batches.
    pub loader: Loader,
    /// The model being trained.
    pub learner: Learner,
    /// Which candidates are trained on.
    pub selector: Box<dyn Selector + 'a>,
    /// The views at which sub-batches are trained.
    pub approximation: Approximation,
    /// Where every choice is written down, if it is.
    pub audit: Option<Audit>,
    /// Evaluation tasks.
    pub evaluation: Evaluation,
    /// Where checkpoints go.
    pub checkpoints: Checkpoints,
    /// Seconds and FLOPs.
    pub meter: Meter<'a>,
    /// How far it is.
    pub progress: Progress,
    /// Metrics of the last evaluation.
    pub metrics: Named<Metrics>,
    /// Set by a signal.
    pub stop: StopFlag,
    /// Names and texts of the files that say how captions and pictures are read, as they go into checkpoints.
    pub reading: [(&'static str, String); 2],
}

/// Trains from `run.progress` to the end of the plan.
///
/// # Errors
/// `NonFinite` naming the step, `Stopped` after a signal and a checkpoint, and whatever data, device or disk report.
pub fn train(run: &mut Run<'_>, events: &mut dyn Events) -> Result<()> {
    let schedule = run.plan.schedule();
    let mut in_flight: Option<InFlight> = None;
    // What came before, such as filling a cache, belongs to no step.
    run.meter.lap();
    while run.progress.step < run.plan.steps {
        let step = run.step(&schedule);
        // The numbers of a step are read while the device works on the next.
        if let Some(earlier) = in_flight.take() {
            earlier.tell(run, events)?;
        }
        in_flight = Some(step?);
        let stopping = run.stop.is_set();
        let evaluate = due(run.plan.evaluation.every, &run.progress, run.plan.steps);
        if evaluate || stopping || due(run.plan.checkpoint.every, &run.progress, run.plan.steps) {
            in_flight.take().map_or(Ok(()), |last| last.tell(run, events))?;
            if evaluate {
                run.evaluate(events)?;
            }
            run.save(events, stopping)?;
        }
    }
    Ok(())
}

/// Every `every` steps (0: never), and at the end.
fn due(every: u64, progress: &Progress, steps: u64) -> bool {
    progress.step == steps || (every > 0 && progress.step.is_multiple_of(every))
}

impl Run<'_> {
    /// Draws a super-batch, selects from it, and learns from what was selected.
    fn step(&mut self, schedule: &Schedule) -> Result<InFlight> {
        let candidates = self.next_super_batch()?;
        let pick = self.pick(&candidates)?;
        if let Some(audit) = &mut self.audit {
            audit.add(self.progress.step + 1, &candidates, &pick);
        }
        let sub_batch = self.augmented(candidates.subset(&pick.indices));
        let reuse = if self.plan.augmentation.is_none() { pick.reuse } else { pick.reuse.with_other_pictures() };
        let numbers = self.learn(&sub_batch, reuse, schedule)?;
        self.progress.advance(sub_batch.len(), candidates.len());
        Ok(InFlight::new(self, schedule, pick.picked, numbers))
    }

    /// The pictures as they are trained on; what was scored, and what caches hold, is the plain ones.
    fn augmented(&mut self, mut sub_batch: jest_data::SuperBatch) -> jest_data::SuperBatch {
        let (step, threads) = (self.progress.step, self.pass.device().threads());
        let (augmentation, seed) = (&self.plan.augmentation, self.seed);
        self.meter.spend(Kind::Data, || sub_batch.augment(augmentation, seed, step, threads));
        sub_batch
    }

    fn pick(&mut self, candidates: &jest_data::SuperBatch) -> Result<Pick> {
        let (pass, step) = (&mut self.pass, self.progress.step);
        let picked = self.selector.pick(pass, &self.learner, candidates, step, &mut self.meter);
        picked.map_err(|error| match error {
            TrainError::DeviceSelection(SelectError::NonFinite { .. })
            | TrainError::HostSelection(SelectError::NonFinite { .. })
            // Embeddings of a model that overflowed, where they are scored on the host.
            | TrainError::Selection(InputError::NotUnit { .. } | InputError::LogitParameter { .. }) => {
                TrainError::NonFinite { quantity: "a score", run: self.plan.name.clone(), step: step + 1 }
            }
            other => other,
        })
    }

    fn next_super_batch(&mut self) -> Result<jest_data::SuperBatch> {
        let size = self.plan.selection.sizes.super_batch();
        Ok(self.meter.spend(Kind::Data, || self.loader.next_super_batch(size))?)
    }

    fn learn(&mut self, sub_batch: &jest_data::SuperBatch, reuse: Reuse, schedule: &Schedule) -> Result<StepNumbers> {
        let step = self.progress.step;
        let (lr, decay) = (schedule.lr_at(step), schedule.decay_at(step));
        let (order, parts) = self.approximation.training(sub_batch.len(), step);
        // One part is the batch as it was drawn.
        let reordered = (parts.len() > 1).then(|| sub_batch.subset(&order));
        let sub_batch = reordered.as_ref().unwrap_or(sub_batch);
        let reuse = if reordered.is_some() { reuse.reorder(&mut self.pass, &order)? } else { reuse };
        self.meter.flops.learn += self.learner.training_flops_in_parts(&sub_batch.lengths, &parts, &reuse);
        let Self { meter, learner, pass, .. } = self;
        meter.spend(Kind::Learn, || learner.step_in_parts(pass, sub_batch, &parts, &reuse, lr, decay))
    }

    /// Runs every task on the learner as it is.
    ///
    /// # Errors
    /// As reading the task's pictures or the device report.
    pub fn evaluate(&mut self, events: &mut dyn Events) -> Result<()> {
        let names: Vec<String> = self.evaluation.names().map(str::to_string).collect();
        for (index, task) in names.into_iter().enumerate() {
            let before = self.meter.seconds.eval;
            let model = &self.learner.model;
            let metrics = self.meter.spend(Kind::Eval, || self.evaluation.run(&mut self.pass, model, index))?;
            self.metrics.set(task.clone(), metrics.clone());
            let seconds = self.meter.seconds.eval - before;
            let (run, step) = (self.plan.name.clone(), self.progress.step);
            events.emit(&Event::Evaluated(Evaluated { run, step, task, metrics, seconds }))?;
        }
        Ok(())
    }

    /// Writes a checkpoint. A full disk is only a warning while an older one stands and the run goes on.
    fn save(&mut self, events: &mut dyn Events, stopping: bool) -> Result<()> {
        let (run, step) = (self.plan.name.clone(), self.progress.step);
        let state = RunState::of(self);
        let Self { pass, learner, selector, reading, checkpoints, audit, .. } = self;
        let written = selector.flush().and_then(|()| audit.as_mut().map_or(Ok(()), |audit| audit.flush(step)));
        let saved = written.and_then(|()| {
            checkpoints.save(step, |folder| {
                learner.save(pass, folder)?;
                for (name, text) in reading {
                    crate::storage::write_atomic(folder.join(name), text.as_bytes())?;
                }
                state.write(folder)
            })
        });
        let last = stopping || step == self.plan.steps;
        match saved {
            Ok(path) => {
                events.emit(&Event::Checkpointed(checkpointed(&run, step)))?;
                if stopping && step < self.plan.steps {
                    return Err(TrainError::Stopped { run, step, checkpoint: path });
                }
                Ok(())
            }
            Err(error) if error.is_storage() && !last => {
                let message = format!("no checkpoint at this step: {}", crate::error::chain(&error));
                events.emit(&Event::Warning(Warning { run, step, message }))
            }
            Err(error) => Err(error),
        }
    }
}

/// A step whose numbers are still on the device.
struct InFlight {
    step: Step,
    numbers: StepNumbers,
}

impl InFlight {
    fn new(run: &Run<'_>, schedule: &Schedule, picked: Option<crate::events::Picked>, numbers: StepNumbers) -> Self {
        let step = Step {
            run: run.plan.name.clone(),
            step: run.progress.step,
            lr: schedule.lr_at(run.progress.step - 1),
            examples_trained: run.progress.examples_trained,
            examples_drawn: run.progress.examples_drawn,
            picked,
            timing: Timing::default(),
            loss_scale: run.learner.loss_scale.as_ref().map(|_| numbers.gradient_scale()),
            skipped_updates: None,
            loss: f32::NAN,
            distillation_loss: None,
            grad_norm: f32::NAN,
            logit_scale: f32::NAN,
            logit_bias: f32::NAN,
        };
        Self { step, numbers }
    }

    /// Waits for the numbers and tells them; one that is not finite ends the run, unless a smaller scale of the loss may
    /// help.
    fn tell(self, run: &mut Run<'_>, events: &mut dyn Events) -> Result<()> {
        // Where work is only recorded, this is where the host waits for it.
        let arrived = run.meter.spend(Kind::Learn, || self.numbers.arrive())?;
        let scale = &mut run.learner.loss_scale;
        if let Some(scale) = scale {
            scale.learn(arrived.grad_norm.is_finite());
        }
        let may_overflow = scale.as_ref().is_some_and(|scale| !scale.has_failed());
        let step = Step {
            timing: run.meter.lap(),
            skipped_updates: scale.as_ref().map(LossScale::skipped),
            loss: arrived.loss,
            distillation_loss: arrived.distillation,
            grad_norm: arrived.grad_norm,
            logit_scale: arrived.logit_scale,
            logit_bias: arrived.logit_bias,
            ..self.step
        };
        let (run, at) = (step.run.clone(), step.step);
        events.emit(&Event::Step(step))?;
        for (quantity, value) in [("loss", arrived.loss), ("grad_norm", arrived.grad_norm)] {
            let skipped = quantity == "grad_norm" && may_overflow;
            if !value.is_finite() && !skipped {
                return Err(TrainError::NonFinite { quantity, run, step: at });
            }
        }
        Ok(())
    }
}

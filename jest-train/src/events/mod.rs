//! What happens in a run, told as it happens: the loop emits, sinks write.

mod named;
mod summary;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Deserializer, Serialize};

pub use named::Named;
pub(crate) use summary::is_read_back;
pub use summary::{Cost, Flops, Metrics, RunSummary, Seconds, Summary};

use crate::error::Result;

/// Takes events. A sink that fails ends the run.
pub trait Events {
    /// Takes one event.
    ///
    /// # Errors
    /// `Storage` where it cannot be written.
    fn emit(&mut self, event: &Event) -> Result<()>;
}

/// What happened. Wall-clock values stand in fields that the record of a run leaves out, so that the same run gives
/// the same lines.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A run begins, or goes on from a checkpoint.
    RunStarted(RunStarted),
    /// An update was made.
    Step(Step),
    /// A task was evaluated.
    Evaluated(Evaluated),
    /// A checkpoint is on disk.
    Checkpointed(Checkpointed),
    /// Something the user should know.
    Warning(Warning),
    /// Examples were skipped.
    SkippedExamples(SkippedExamples),
    /// A run ended.
    RunFinished(RunFinished),
}

impl Event {
    /// The run it happened in, and the updates made by then.
    pub fn position(&self) -> (&str, u64) {
        match self {
            Self::RunStarted(event) => (&event.run, event.first_step),
            Self::Step(event) => (&event.run, event.step),
            Self::Evaluated(event) => (&event.run, event.step),
            Self::Checkpointed(event) => (&event.run, event.step),
            Self::Warning(event) => (&event.run, event.step),
            Self::SkippedExamples(event) => (&event.run, event.step),
            Self::RunFinished(event) => (&event.run, event.step),
        }
    }
}

/// A run begins, or goes on from a checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunStarted {
    /// Name of the run.
    pub run: String,
    /// Updates made before: 0, or the checkpoint's.
    pub first_step: u64,
    /// Updates of the whole run.
    pub steps: u64,
    /// b.
    pub batch_size: usize,
    /// B.
    pub super_batch: usize,
}

/// An update was made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Name of the run.
    pub run: String,
    /// Updates made, this one included.
    pub step: u64,
    /// Loss of the sub-batch, before the update; weighted distillation included.
    #[serde(deserialize_with = "nan_if_null")]
    pub loss: f32,
    /// Its part that is distillation; absent where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distillation_loss: Option<f32>,
    /// Norm of the whole gradient, before clipping.
    #[serde(deserialize_with = "nan_if_null")]
    pub grad_norm: f32,
    /// Learning rate of the update.
    pub lr: f64,
    /// t, as used.
    pub logit_scale: f32,
    /// beta.
    pub logit_bias: f32,
    /// Examples trained so far in this run, repeats counted.
    pub examples_trained: u64,
    /// Examples drawn so far in this run, repeats counted.
    pub examples_drawn: u64,
    /// What gradients were multiplied by in the update, and updates skipped so far as they overflowed; absent where
    /// products are not in f16.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss_scale: Option<f32>,
    /// See `loss_scale`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skipped_updates: Option<u64>,
    /// What was selected; absent where nothing was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub picked: Option<Picked>,
    /// How long it took.
    #[serde(skip)]
    pub timing: Timing,
}

/// JSON has no word for a value that is not finite; it is written as null.
fn nan_if_null<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<f32, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or(f32::NAN))
}

/// What was selected for an update, in numbers.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Picked {
    /// [`Picked::digest_of`] the candidates, in the order drawn.
    pub digest: String,
    /// Mean conditional at the draw.
    pub conditional: Contrast,
    /// Mean `S_xx`.
    pub score: Contrast,
    /// Share of the sub-batch that comes from each source.
    pub shares: BTreeMap<String, f32>,
}

impl Picked {
    /// The first 16 hex digits of BLAKE3 over the candidates' indices, so that runs can be compared by a short word.
    pub fn digest_of(candidates: impl IntoIterator<Item = u32>) -> String {
        let mut hasher = blake3::Hasher::new();
        for candidate in candidates {
            hasher.update(&candidate.to_le_bytes());
        }
        hasher.finalize().to_hex()[..16].to_owned()
    }
}

/// A mean over the picked against the mean over all candidates.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Contrast {
    /// Over the sub-batch.
    pub picked: f32,
    /// Over the super-batch.
    pub super_batch: f32,
}

/// Wall-clock seconds of one step.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Timing {
    /// Since the end of the step before.
    pub wall: f64,
    /// Of `wall`, waiting for data.
    pub waited: f64,
    /// By kind of work.
    pub seconds: Seconds,
}

/// A task was evaluated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluated {
    /// Name of the run.
    pub run: String,
    /// Updates made by then.
    pub step: u64,
    /// Name of the task.
    pub task: String,
    /// Its numbers, as fractions of 1.
    pub metrics: Metrics,
    /// How long it took.
    #[serde(skip)]
    pub seconds: f64,
}

/// A checkpoint is on disk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Checkpointed {
    /// Name of the run.
    pub run: String,
    /// Updates made by then.
    pub step: u64,
    /// Its folder, in the run folder.
    pub path: PathBuf,
}

/// Something the user should know.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Warning {
    /// Name of the run.
    pub run: String,
    /// Updates made by then.
    pub step: u64,
    /// In words.
    pub message: String,
}

/// Examples were skipped.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SkippedExamples {
    /// Name of the run.
    pub run: String,
    /// Updates made by then.
    pub step: u64,
    /// How many so far, by reason.
    pub counts: BTreeMap<String, u64>,
}

/// A run ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunFinished {
    /// Name of the run.
    pub run: String,
    /// Updates made.
    pub step: u64,
    /// What it took and what it gave.
    #[serde(skip)]
    pub summary: RunSummary,
}

#[cfg(test)]
pub(crate) mod samples {
    use super::*;

    /// A step with every field set, wall-clock ones too.
    pub fn step(run: &str, step: u64, wall: f64) -> Step {
        let shares = BTreeMap::from([("clean".to_owned(), 0.75), ("noisy".to_owned(), 0.25)]);
        let picked = Picked { digest: Picked::digest_of([step as u32]), shares, ..Picked::default() };
        Step {
            run: run.to_owned(),
            step,
            loss: 10.0 / step as f32,
            grad_norm: 0.5,
            lr: 1e-3,
            logit_scale: 10.0,
            logit_bias: -10.0,
            distillation_loss: None,
            loss_scale: None,
            skipped_updates: None,
            examples_trained: 128 * step,
            examples_drawn: 640 * step,
            picked: Some(picked),
            timing: Timing { wall, waited: wall / 4.0, seconds: Seconds { learn: wall / 2.0, ..Seconds::default() } },
        }
    }

    /// A finished run in all its numbers.
    pub fn run_summary(name: &str) -> RunSummary {
        let zero_shot = Metrics::from_iter([("top1".to_owned(), 0.2), ("top5".to_owned(), 0.7)]);
        let retrieval = ["image_to_text_R@1", "image_to_text_R@5", "image_to_text_R@10", "text_to_image_R@1"];
        let retrieval = retrieval.iter().map(|metric| ((*metric).to_owned(), 0.02)).collect();
        RunSummary {
            name: name.to_owned(),
            selection: "joint".to_owned(),
            score: "learnability".to_owned(),
            filter_ratio: 0.8,
            gain: crate::config::Gain(1.0),
            steps: 300,
            examples_trained: 38_400,
            examples_drawn: 192_000,
            flops: Flops { learn: 3.1e12, score: 5.2e12, reference: 1.5e11 },
            seconds: Seconds { learn: 40.0, score: 61.5, reference: 9.0, data: 3.0, eval: 2.0 },
            init: Vec::new(),
            peak_rss_mb: 812,
            peak_device_bytes: None,
            skipped_updates: None,
            eval: Named::from_iter([("fashion_zs".to_owned(), zero_shot), ("clipart_retrieval".to_owned(), retrieval)]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_reads_back_without_its_timing() {
        let step = samples::step("jest", 3, 0.25);
        let line = serde_json::to_string(&Event::Step(step.clone())).unwrap();
        assert!(line.starts_with("{\"event\":\"step\",\"run\":\"jest\",\"step\":3,"), "{line}");
        assert!(!line.contains("0.25,\"waited\""), "{line}");
        let back: Event = serde_json::from_str(&line).unwrap();
        assert_eq!(back, Event::Step(Step { timing: Timing::default(), ..step }));
        assert_eq!(back.position(), ("jest", 3));
    }

    #[test]
    fn a_loss_that_is_not_finite_reads_back_as_nan() {
        let step = Step { loss: f32::INFINITY, ..samples::step("jest", 3, 0.0) };
        let line = serde_json::to_string(&Event::Step(step)).unwrap();
        let Event::Step(back) = serde_json::from_str(&line).unwrap() else { panic!("{line}") };
        assert!(back.loss.is_nan());
    }

    #[test]
    fn digests_tell_order() {
        assert_eq!(Picked::digest_of([1, 2]).len(), 16);
        assert_ne!(Picked::digest_of([1, 2]), Picked::digest_of([2, 1]));
    }
}

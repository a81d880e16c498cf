//! What a checkpoint remembers besides the model: enough to go on exactly where it was.

use std::path::Path;

use jest_data::LoaderState;
use jest_kernels::DeviceKind;
use serde::{Deserialize, Serialize};

use crate::events::{Cost, Metrics, Named, RunSummary};
use crate::loss_scale::LossScale;
use crate::meter::Meter;
use crate::run_loop::Run;
use crate::tiles::Tiles;
use crate::{Result, TrainError, resources, storage};

const FILE: &str = "state.json";
const FORMAT: u32 = 1;

/// How far a run is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Updates made.
    pub step: u64,
    /// Examples trained on.
    pub examples_trained: u64,
    /// Examples drawn from the data.
    pub examples_drawn: u64,
}

impl Progress {
    /// One update on `trained` of `drawn` examples.
    pub fn advance(&mut self, trained: usize, drawn: usize) {
        self.step += 1;
        self.examples_trained += trained as u64;
        self.examples_drawn += drawn as u64;
    }
}

/// Contents of `state.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunState {
    format: u32,
    /// How far the run was.
    pub progress: Progress,
    /// Where the next super-batch begins.
    pub loader: LoaderState,
    /// What was minimised, so that scores of the checkpoint alone are of the same loss.
    #[serde(default)]
    pub objective: crate::config::Objective,
    /// Where products are in f16.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss_scale: Option<LossScale>,
    /// Tiles of products that were chosen by timing.
    #[serde(default, skip_serializing_if = "Tiles::is_empty")]
    pub tiles: Tiles,
    /// What the run had cost.
    pub summary: RunSummary,
}

impl RunState {
    /// The state of a run between two steps.
    pub fn of(run: &Run<'_>) -> Self {
        Self {
            format: FORMAT,
            progress: run.progress,
            loader: run.loader.state(),
            objective: run.plan.objective,
            loss_scale: run.learner.loss_scale.clone(),
            tiles: Tiles(run.pass.device().tiles()),
            summary: summary(run),
        }
    }

    /// Writes `state.json` into a checkpoint folder.
    ///
    /// # Errors
    /// `Storage`.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let text = serde_json::to_vec_pretty(self).map_err(|source| TrainError::Json { what: FILE, source })?;
        storage::write_atomic(folder.join(FILE), &text)
    }

    /// Whether the folder has one; a model of another library has none.
    pub fn is_in(folder: &Path) -> bool {
        folder.join(FILE).exists()
    }

    /// Reads the state of a checkpoint folder.
    ///
    /// # Errors
    /// `Damaged` when it is missing, no state, or of another format.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(FILE);
        let text = std::fs::read(&path).ok();
        let state: Option<Self> = text.and_then(|text| serde_json::from_slice(&text).ok());
        state.filter(|state| state.format == FORMAT).ok_or(TrainError::Damaged { path })
    }

    /// A meter goes on from what the run took so far.
    pub fn resume(&self, meter: &mut Meter<'_>) {
        (meter.seconds, meter.flops) = (self.summary.seconds, self.summary.flops);
        meter.init = self.summary.init.clone();
    }

    /// What it took to make the model, run by run.
    pub fn costs(&self) -> Vec<Cost> {
        self.summary.costs()
    }

    /// Metrics of the last evaluation.
    pub fn metrics(&self) -> Named<Metrics> {
        self.summary.eval.clone()
    }
}

/// What a run took and gave so far.
pub fn summary(run: &Run<'_>) -> RunSummary {
    let (selection, device) = (&run.plan.selection, run.pass.device());
    let on_gpu = device.info().kind == DeviceKind::Gpu;
    RunSummary {
        name: run.plan.name.clone(),
        selection: selection.method.to_string(),
        score: if selection.is_scored() { selection.score.to_string() } else { "none".to_string() },
        filter_ratio: selection.sizes.filter_ratio(),
        gain: crate::config::Gain(selection.sizes.gain()),
        steps: run.progress.step,
        examples_trained: run.progress.examples_trained,
        examples_drawn: run.progress.examples_drawn,
        flops: run.meter.flops,
        seconds: run.meter.seconds,
        init: run.meter.init.clone(),
        peak_rss_mb: resources::peak_rss_mb(),
        peak_device_bytes: on_gpu.then(|| device.buffers().peak),
        skipped_updates: run.learner.loss_scale.as_ref().map(LossScale::skipped),
        eval: run.metrics.clone(),
    }
}

//! What runs took and what they gave: the contents of `summary.json`.

use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

use super::Named;
use crate::config::Gain;

/// Numbers of a task, as fractions of 1: `top1`, `image_to_text_R@5`.
pub type Metrics = Named<f64>;

/// `summary.json`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Summary {
    /// Name of the device.
    pub device: String,
    /// Threads of the CPU device.
    pub threads: usize,
    /// Seed of the plan.
    pub seed: u64,
    /// Runs, in the order of execution.
    pub runs: Vec<RunSummary>,
}

/// One run of a [`Summary`].
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct RunSummary {
    /// Its name.
    pub name: String,
    /// How examples were chosen: `uniform`, `joint`.
    pub selection: String,
    /// What was scored: `learnability`.
    pub score: String,
    /// `1 - b / B`.
    pub filter_ratio: f64,
    /// Factor on the scores at the draw.
    pub gain: Gain,
    /// Updates made.
    pub steps: u64,
    /// b per step.
    pub examples_trained: u64,
    /// B per step.
    pub examples_drawn: u64,
    /// Work executed.
    pub flops: Flops,
    /// Wall-clock time.
    pub seconds: Seconds,
    /// The earlier runs that made its first parameters: what they took is in neither of the two above, and is charged to whom this
    /// run is the reference of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub init: Vec<Cost>,
    /// Largest resident memory of the process so far, in MiB.
    pub peak_rss_mb: u64,
    /// Most bytes of tensors on a GPU at once so far, those kept for reuse included; absent on the CPU device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_device_bytes: Option<u64>,
    /// Updates left out as their gradient overflowed; absent where products are not in f16.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skipped_updates: Option<u64>,
    /// Numbers of each task, in the order of the plan.
    pub eval: Named<Metrics>,
}

impl RunSummary {
    /// What it took to make its model: of the runs that made its first parameters, and last its own.
    pub fn costs(&self) -> Vec<Cost> {
        // Evaluation is in no count of FLOPs, so its seconds are left out too.
        let seconds = self.seconds.total() - self.seconds.eval;
        let own = Cost { run: self.name.clone(), flops: self.flops.total(), seconds };
        self.init.iter().cloned().chain([own]).collect()
    }
}

/// What a run took by itself, its references included.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Its name.
    pub run: String,
    /// As [`Flops::total`].
    pub flops: f64,
    /// Without those of evaluations.
    pub seconds: f64,
}

impl Cost {
    /// Whether it is of the same run: no two take the same time.
    pub fn is_of(&self, other: &Self) -> bool {
        self.run == other.run && is_read_back(self.flops, other.flops) && is_read_back(self.seconds, other.seconds)
    }
}

/// Whether two numbers are one, but for the last digits that JSON loses.
pub(crate) fn is_read_back(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-9 * a.abs().max(b.abs())
}

/// Floating-point operations executed, a multiply-add as 2, a recomputed forward counted.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Flops {
    /// Forward and backward of what is trained.
    pub learn: f64,
    /// The learner's forward over candidates, and the scores.
    pub score: f64,
    /// The reference: its training and its embeddings.
    pub reference: f64,
}

/// Wall-clock seconds.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Seconds {
    /// Forward and backward of what is trained, and the update.
    pub learn: f64,
    /// The learner's forward over candidates, and the selection.
    pub score: f64,
    /// The reference: its training and its embeddings.
    pub reference: f64,
    /// Waiting for data.
    pub data: f64,
    /// Evaluation.
    pub eval: f64,
}

impl Flops {
    /// All kinds together.
    pub fn total(&self) -> f64 {
        self.learn + self.score + self.reference
    }
}

impl Seconds {
    /// All kinds together.
    pub fn total(&self) -> f64 {
        self.learn + self.score + self.reference + self.data + self.eval
    }
}

impl Seconds {
    /// What was added since `before`.
    pub fn since(&self, before: &Self) -> Self {
        Self {
            learn: self.learn - before.learn,
            score: self.score - before.score,
            reference: self.reference - before.reference,
            data: self.data - before.data,
            eval: self.eval - before.eval,
        }
    }
}

impl AddAssign for Flops {
    fn add_assign(&mut self, more: Self) {
        self.learn += more.learn;
        self.score += more.score;
        self.reference += more.reference;
    }
}

impl AddAssign for Seconds {
    fn add_assign(&mut self, more: Self) {
        self.learn += more.learn;
        self.score += more.score;
        self.reference += more.reference;
        self.data += more.data;
        self.eval += more.eval;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums() {
        let mut seconds = Seconds { learn: 1.0, score: 2.0, reference: 4.0, data: 8.0, eval: 16.0 };
        seconds += seconds;
        assert_eq!(seconds.total(), 62.0);
        let mut flops = Flops { learn: 1.0, score: 2.0, reference: 4.0 };
        flops += flops;
        assert_eq!(flops.total(), 14.0);
    }
}

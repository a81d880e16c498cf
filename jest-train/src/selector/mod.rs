//! Which candidates of a super-batch become the sub-batch.

mod device_scores;
mod scored;

use jest_data::SuperBatch;
use jest_kernels::Pass;

pub use device_scores::{DeviceScores, Term};
pub use scored::Scored;

use crate::Result;
use crate::events::Picked;
use crate::learner::Learner;
use crate::meter::Meter;

/// A sub-batch as indices into the super-batch, and what there is to tell about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Pick {
    /// Indices in the order they were drawn.
    pub indices: Vec<usize>,
    /// Why these: absent when nothing was scored.
    pub picked: Option<Picked>,
}

/// Picks sub-batches.
pub trait Selector {
    /// The sub-batch of update `step` (from 0).
    fn pick(
        &mut self,
        pass: &mut Pass,
        learner: &Learner,
        candidates: &SuperBatch,
        step: u64,
        meter: &mut Meter<'_>,
    ) -> Result<Pick>;
}

/// Draws without looking at scores.
#[derive(Clone, Copy, Debug)]
pub struct Uniform {
    /// Sizes of super-batch and sub-batch.
    pub plan: jest_select::BatchPlan,
    /// Seed of the run.
    pub seed: u64,
}

impl Selector for Uniform {
    fn pick(&mut self, _: &mut Pass, _: &Learner, _: &SuperBatch, step: u64, _: &mut Meter<'_>) -> Result<Pick> {
        // A super-batch that is the sub-batch needs no draw, and keeps the loader's order.
        if self.plan.super_batch() == self.plan.sub_batch() {
            return Ok(Pick { indices: (0..self.plan.sub_batch()).collect(), picked: None });
        }
        let noise = jest_select::Gumbel::new(self.seed, step);
        let drawn = jest_select::pick_uniform(&self.plan, &noise);
        Ok(Pick { indices: drawn.indices().collect(), picked: None })
    }
}

/// Repeats picks made before: holds one device's losses against another's on the same sub-batches.
#[derive(Clone, Debug)]
pub struct Replay(pub Vec<Vec<usize>>);

impl Selector for Replay {
    fn pick(&mut self, _: &mut Pass, _: &Learner, _: &SuperBatch, step: u64, _: &mut Meter<'_>) -> Result<Pick> {
        let indices = self.0.get(step as usize).cloned().unwrap_or_default();
        Ok(Pick { indices, picked: None })
    }
}

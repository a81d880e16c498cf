//! Which candidates of a super-batch become the sub-batch.

mod device_scores;
mod embedded;
mod recorded;
mod scored;
pub(crate) mod tags;

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

/// Trains on every candidate, in the loader's order: a super-batch is the sub-batch.
#[derive(Clone, Copy, Debug)]
pub struct Uniform;

impl Selector for Uniform {
    fn pick(&mut self, _: &mut Pass, _: &Learner, batch: &SuperBatch, _: u64, _: &mut Meter<'_>) -> Result<Pick> {
        Ok(Pick { indices: (0..batch.len()).collect(), picked: None })
    }
}

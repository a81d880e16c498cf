//! Which candidates of a super-batch become the sub-batch.

mod device_scores;
mod embedded;
mod recorded;
mod scored;
pub(crate) mod tags;

use jest_data::SuperBatch;
use jest_kernels::Pass;
use jest_select::{Gumbel, Selection, pick_uniform};

pub use device_scores::{DeviceScores, Term};
pub use scored::Scored;

use crate::Result;
use crate::events::Picked;
use crate::learner::Learner;
use crate::meter::Meter;
use crate::reuse::Reuse;

/// A sub-batch as indices into the super-batch, and what there is to tell about it.
#[derive(Clone, Debug)]
pub struct Pick {
    /// Indices in the order they were drawn.
    pub indices: Vec<usize>,
    /// Why these: absent when nothing was scored.
    pub picked: Option<Picked>,
    /// Conditional score of each when it was drawn; empty where nothing was scored.
    pub scores: Vec<f32>,
    /// The learner's losses of these pairs alone; empty where they were not asked for, or not read.
    pub learner: Vec<f32>,
    /// The references' mean losses of these pairs alone; empty as `learner` is.
    pub reference: Vec<f32>,
    /// Embeddings that training can go on from.
    pub reuse: Reuse,
}

impl Pick {
    /// These indices, of which nothing is known.
    fn bare(indices: Vec<usize>) -> Self {
        let (scores, learner, reference) = (Vec::new(), Vec::new(), Vec::new());
        Self { indices, picked: None, scores, learner, reference, reuse: Reuse::default() }
    }

    /// At random, by the sizes of a selection.
    pub(crate) fn uniform(selection: &Selection, seed: u64, step: u64) -> Self {
        Self::bare(pick_uniform(selection.plan(), &Gumbel::new(seed, step)).indices().collect())
    }
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

    /// Writes to the disk what later picks would have to compute again.
    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

/// Trains on every candidate, in the loader's order: a super-batch is the sub-batch.
#[derive(Clone, Copy, Debug)]
pub struct Uniform;

impl Selector for Uniform {
    fn pick(&mut self, _: &mut Pass, _: &Learner, batch: &SuperBatch, _: u64, _: &mut Meter<'_>) -> Result<Pick> {
        Ok(Pick::bare((0..batch.len()).collect()))
    }
}

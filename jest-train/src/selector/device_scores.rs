//! Conditional scores of the sigmoid objective, computed on the device that holds the embeddings.

use jest_kernels::ops::selection_scores::{self, Candidates, Draw};
use jest_kernels::{KernelError, Pass, Tensor};
use jest_select::{Candidate, ConditionalScores};

/// One model's part of the score: `weight` times its pair losses.
#[derive(Clone, Copy, Debug)]
pub struct Term<'a> {
    /// +1 for the learner of learnability, -1 for its reference.
    pub weight: f32,
    /// Embeddings and logit parameters.
    pub candidates: Candidates<'a>,
}

/// `conditional[x] = S_xx + sum over picked k of S_xk + S_kx`, kept on the device and read back once a chunk.
///
/// Picked candidates are skipped: their values are those from before they were drawn.
#[derive(Debug)]
pub struct DeviceScores<'a> {
    pass: &'a mut Pass,
    terms: Vec<Term<'a>>,
    device: Tensor,
    host: Vec<f32>,
    /// Candidates not picked yet, in order.
    open: Vec<u32>,
}

impl<'a> DeviceScores<'a> {
    /// The scores before the first draw: S_xx.
    ///
    /// # Errors
    /// As the device reports.
    pub fn new(pass: &'a mut Pass, terms: Vec<Term<'a>>, super_batch: usize) -> Result<Self, KernelError> {
        let mut device = pass.zeros(&[super_batch])?;
        for term in &terms {
            selection_scores::diagonal(pass, term.weight, term.candidates, &mut device)?;
        }
        let host = pass.read(&device)?;
        Ok(Self { pass, terms, device, host, open: (0..super_batch as u32).collect() })
    }
}

impl ConditionalScores for DeviceScores<'_> {
    type Error = KernelError;

    fn conditional(&self) -> &[f32] {
        &self.host
    }

    fn condition_on(&mut self, chunk: &[Candidate]) -> Result<(), KernelError> {
        let mut picked = vec![false; self.host.len()];
        chunk.iter().for_each(|candidate| picked[candidate.index()] = true);
        self.open.retain(|x| !picked[*x as usize]);
        let chunk: Vec<u32> = chunk.iter().map(|candidate| u32::from(*candidate)).collect();
        let draw = Draw { open: &self.open, chunk: &chunk };
        for term in &self.terms {
            selection_scores::condition_on(self.pass, term.weight, term.candidates, draw, &mut self.device)?;
        }
        self.host = self.pass.read(&self.device)?;
        Ok(())
    }
}

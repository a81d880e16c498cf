//! Which candidates are not picked yet, and what is kept for each of them.

use crate::{Candidate, InputError};

/// Candidates that can still be drawn, in the order of their index, each with a running state.
#[derive(Debug, Clone)]
pub(super) struct OpenCandidates<A> {
    /// Of every candidate, open or not. `[B]`
    picked: Vec<bool>,
    /// Of open candidates only.
    open: Vec<(Candidate, A)>,
}

impl<A> OpenCandidates<A> {
    /// All candidates are open, with these states.
    pub(super) fn new(states: impl Iterator<Item = A>) -> Self {
        let open: Vec<_> = (0u32..).map(Candidate::new).zip(states).collect();
        Self { picked: vec![false; open.len()], open }
    }

    /// Closes the candidates of a chunk and drops their states.
    ///
    /// # Errors
    /// `Chunk` if one of them is out of range, occurs twice, or was closed before; nothing is closed then.
    pub(super) fn close(&mut self, chunk: &[Candidate]) -> Result<(), InputError> {
        let mut picked = self.picked.clone();
        for &candidate in chunk {
            match picked.get_mut(candidate.index()) {
                Some(picked) if !*picked => *picked = true,
                _ => return Err(InputError::Chunk { candidate, super_batch: self.picked.len() }),
            }
        }
        self.open.retain(|(candidate, _)| !picked[candidate.index()]);
        self.picked = picked;
        Ok(())
    }

    /// Opens a closed candidate again, with this state.
    ///
    /// # Errors
    /// `NotPicked` if it is out of range, or open.
    pub(super) fn reopen(&mut self, candidate: Candidate, state: A) -> Result<(), InputError> {
        match self.picked.get_mut(candidate.index()) {
            Some(picked) if *picked => *picked = false,
            _ => return Err(InputError::NotPicked { candidate, super_batch: self.picked.len() }),
        }
        let at = self.open.partition_point(|(other, _)| *other < candidate);
        self.open.insert(at, (candidate, state));
        Ok(())
    }

    /// Whether nothing was picked yet.
    pub(super) fn is_full(&self) -> bool {
        self.open.len() == self.picked.len()
    }

    /// The open candidates with their states.
    pub(super) fn as_mut_slice(&mut self) -> &mut [(Candidate, A)] {
        &mut self.open
    }

    /// As [`as_mut_slice`](Self::as_mut_slice), to be taken out and put back whole.
    pub(super) fn as_mut_vec(&mut self) -> &mut Vec<(Candidate, A)> {
        &mut self.open
    }

    /// Writes `score` of each open candidate's state to its place in `conditional`, `[B]`.
    pub(super) fn write(&self, conditional: &mut [f32], score: impl Fn(&A) -> f64) {
        for (candidate, state) in &self.open {
            conditional[candidate.index()] = score(state) as f32;
        }
    }
}

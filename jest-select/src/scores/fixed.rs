//! One scalar an example: scores that nothing picked changes.

use crate::{Candidate, ConditionalScores, Embeddings, InputError};

/// Scores of single examples: conditioning leaves them as they are.
///
/// RHO-LOSS and the CLIP score are such scalars; so is whatever was computed ahead of time.
#[derive(Debug, Clone, PartialEq)]
pub struct FixedScores {
    scores: Vec<f32>,
}

impl FixedScores {
    /// Any scores. `[B]`
    pub fn new(scores: Vec<f32>) -> Self {
        Self { scores }
    }

    /// `learner_x - reference_x`: the loss that is left once what the reference cannot reduce is taken off.
    ///
    /// # Errors
    /// `Length` if there are not as many losses of the one as of the other.
    ///
    /// # Source
    /// Mindermann et al., Prioritized training on points that are learnable, worth learning, and not yet learnt (2022).
    pub fn rho(learner: &[f32], reference: &[f32]) -> Result<Self, InputError> {
        if learner.len() != reference.len() {
            let (expected, got) = (learner.len(), reference.len());
            return Err(InputError::Length { what: "the losses of the reference", expected, got });
        }
        Ok(Self::new(learner.iter().zip(reference).map(|(learner, reference)| learner - reference).collect()))
    }

    /// `image_x . text_x`: the cosine of each pair under a model.
    ///
    /// # Source
    /// Hessel et al., CLIPScore (2021), without its factor 2.5 and its cut at 0.
    pub fn clip_score(embeddings: &Embeddings<'_>) -> Self {
        Self::new(embeddings.own_cosines().map(|cosine| cosine as f32).collect())
    }
}

impl ConditionalScores for FixedScores {
    type Error = InputError;

    fn conditional(&self) -> &[f32] {
        &self.scores
    }

    fn condition_on(&mut self, _: &[Candidate]) -> Result<(), InputError> {
        Ok(())
    }

    fn take_back(&mut self, _: Candidate) -> Result<bool, InputError> {
        Ok(true)
    }
}

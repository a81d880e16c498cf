//! Embeddings of a super-batch by the models whose losses enter a score, on the device and on the host.

use jest_kernels::ops::selection_scores::Candidates;
use jest_kernels::ops::sigmoid_loss::LogitParameters;
use jest_kernels::{Pass, Tensor};
use jest_select::{Embeddings, LearnerLoss, ReferenceLoss, ScoreKind, ScoreTerms};

use super::Term;
use crate::Result;

/// What a model made of a super-batch, images and texts, `[B, d]` each, and how logits are made of these.
pub(super) type Made<'a> = (LogitParameters<'a>, &'a [Tensor; 2]);

/// Embeddings of a super-batch by those models whose losses enter.
pub(super) struct Embedded<'a> {
    pub(super) learner: Option<Made<'a>>,
    pub(super) references: Vec<Made<'a>>,
}

impl<'a> Embedded<'a> {
    /// Every model, the learner first.
    pub(super) fn all(&self) -> impl Iterator<Item = Made<'a>> {
        self.learner.into_iter().chain(self.references.iter().copied())
    }

    /// The score as sums on the device.
    pub(super) fn terms(&self, kind: ScoreKind) -> Vec<Term<'a>> {
        let share = kind.reference_weight() / self.references.len().max(1) as f32;
        let learner = self.learner.map(|made| term(kind.learner_weight(), made));
        learner.into_iter().chain(self.references.iter().map(|made| term(share, *made))).collect()
    }

    /// The same on the host.
    pub(super) fn read(&self, pass: &mut Pass) -> Result<HostEmbedded> {
        let learner = self.learner.map(|made| HostEmbeddings::read(pass, made)).transpose()?;
        let references = self.references.iter().map(|made| HostEmbeddings::read(pass, *made)).collect::<Result<_>>()?;
        Ok(HostEmbedded { learner, references })
    }
}

fn term<'a>(weight: f32, (LogitParameters { log_scale, bias }, [image, text]): Made<'a>) -> Term<'a> {
    Term { weight, candidates: Candidates { image, text, log_scale, bias } }
}

/// [`Embedded`] read back.
pub(super) struct HostEmbedded {
    learner: Option<HostEmbeddings>,
    references: Vec<HostEmbeddings>,
}

impl HostEmbedded {
    /// The score as jest-select computes it.
    pub(super) fn terms(&self, kind: ScoreKind) -> Result<ScoreTerms<'_>> {
        let learner = self.learner.as_ref().map(HostEmbeddings::view).transpose()?.map(LearnerLoss);
        let references = self.references.iter().map(|reference| reference.view().map(ReferenceLoss));
        Ok(ScoreTerms::ensemble(kind, learner, &references.collect::<Result<Vec<_>>>()?)?)
    }

    /// The mean of the references' cosines of each pair. `[B]`
    pub(super) fn cosines(&self) -> Result<Vec<f32>> {
        let share = 1.0 / self.references.len().max(1) as f32;
        let mut mean: Vec<f32> = Vec::new();
        for reference in &self.references {
            let scores = jest_select::FixedScores::clip_score(&reference.view()?);
            let cosines = jest_select::ConditionalScores::conditional(&scores);
            mean.resize(cosines.len(), 0.0);
            mean.iter_mut().zip(cosines).for_each(|(mean, cosine)| *mean += share * cosine);
        }
        Ok(mean)
    }
}

/// Embeddings and logit parameters read back from a device.
struct HostEmbeddings {
    image: Vec<f32>,
    text: Vec<f32>,
    width: usize,
    logit_scale: f32,
    logit_bias: f32,
}

impl HostEmbeddings {
    fn read(pass: &mut Pass, (logits, [image, text]): Made<'_>) -> Result<Self> {
        Ok(Self {
            image: pass.read(image)?,
            text: pass.read(text)?,
            width: image.cols(),
            logit_scale: pass.read(logits.log_scale)?[0].exp(),
            logit_bias: pass.read(logits.bias)?[0],
        })
    }

    fn view(&self) -> Result<Embeddings<'_>> {
        Ok(Embeddings::new(&self.image, &self.text, self.width, self.logit_scale, self.logit_bias)?)
    }
}

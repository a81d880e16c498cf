//! Selection by the learner's and the reference's losses.

use std::num::NonZeroUsize;

use jest_data::SuperBatch;
use jest_kernels::ops::selection_scores::Candidates;
use jest_kernels::{Pass, Tensor};
use jest_model::TwoTowers;
use jest_select::{
    ConditionalScores, Embeddings, Gumbel, LearnerLoss, ReferenceLoss, ScoreKind, ScoreTerms, Selection, SoftmaxScores,
    SubBatch,
};

use super::{DeviceScores, Pick, Selector, Term};
use crate::Result;
use crate::config::Objective;
use crate::events::{Contrast, Picked};
use crate::learner::Learner;
use crate::meter::{Kind, Meter};
use crate::reference::Reference;

/// Joint or independent selection by a kind of score.
#[derive(Debug)]
pub struct Scored {
    /// Method and sizes.
    pub selection: Selection,
    /// Which losses enter, with which sign.
    pub kind: ScoreKind,
    /// The frozen scorer; absent when the kind does not use it.
    pub reference: Option<Reference>,
    /// Seed of the run.
    pub seed: u64,
}

/// What a draw gives: the picks, S_xx, and the conditional scores before the last chunk.
struct Drawn {
    picks: SubBatch,
    diagonal: Vec<f32>,
    conditional: Vec<f32>,
}

impl Selector for Scored {
    fn pick(
        &mut self,
        pass: &mut Pass,
        learner: &Learner,
        candidates: &SuperBatch,
        step: u64,
        meter: &mut Meter<'_>,
    ) -> Result<Pick> {
        let n = candidates.len();
        let own = match self.kind.learner_weight() {
            0.0 => None,
            _ => {
                meter.flops.score += learner.forward_flops(n);
                Some(meter.spend(Kind::Score, || learner.embed(pass, candidates))?)
            }
        };
        let reference = match &mut self.reference {
            Some(reference) => Some(reference.embeddings(pass, candidates, meter)?),
            None => None,
        };
        let models = usize::from(own.is_some()) + usize::from(reference.is_some());
        meter.flops.score += self.selection_flops(models, learner.model.config().embedding_dim());
        let noise = Gumbel::new(self.seed, step);
        let drawn = meter.spend(Kind::Score, || match learner.objective {
            Objective::Sigmoid => self.draw_sigmoid(pass, learner, own.as_ref(), reference.as_ref(), &noise),
            Objective::Softmax => self.draw_softmax(pass, learner, own.as_ref(), reference.as_ref(), &noise),
        })?;
        Ok(drawn.into_pick(candidates))
    }
}

impl Scored {
    /// Products of the conditional scores: two a model for every chunk but the last, `2 B c d` each, and the diagonal.
    fn selection_flops(&self, models: usize, d: usize) -> f64 {
        let plan = self.selection.plan();
        let updates = plan.chunks().saturating_sub(1) * plan.chunk_size();
        (models * plan.super_batch() * d) as f64 * (4.0 * updates as f64 + 2.0)
    }

    fn draw_sigmoid(
        &self,
        pass: &mut Pass,
        learner: &Learner,
        own: Option<&[Tensor; 2]>,
        reference: Option<&[Tensor; 2]>,
        noise: &Gumbel,
    ) -> Result<Drawn> {
        let term = |weight, model: &'_ TwoTowers, [image, text]: &'_ [Tensor; 2]| {
            (weight, image.clone(), text.clone(), model.logit_scale.value.clone(), model.logit_bias.value.clone())
        };
        let mut parts = Vec::new();
        parts.extend(own.map(|own| term(self.kind.learner_weight(), &learner.model, own)));
        if let (Some(reference), Some(embeddings)) = (&self.reference, reference) {
            parts.push(term(self.kind.reference_weight(), reference.model(), embeddings));
        }
        let terms = parts
            .iter()
            .map(|(weight, image, text, log_scale, bias)| Term {
                weight: *weight,
                candidates: Candidates { image, text, log_scale, bias },
            })
            .collect();
        let mut scores = DeviceScores::new(pass, terms, self.selection.plan().super_batch())?;
        let picks = self.selection.pick(&mut scores, noise)?;
        Ok(Drawn { picks, diagonal: scores.diagonal().to_vec(), conditional: scores.conditional().to_vec() })
    }

    /// The softmax objective keeps its running log-sum-exps on the host.
    fn draw_softmax(
        &self,
        pass: &mut Pass,
        learner: &Learner,
        own: Option<&[Tensor; 2]>,
        reference: Option<&[Tensor; 2]>,
        noise: &Gumbel,
    ) -> Result<Drawn> {
        let threads = NonZeroUsize::new(pass.device().threads()).unwrap_or(NonZeroUsize::MIN);
        let own = own.map(|own| HostEmbeddings::read(pass, &learner.model, own)).transpose()?;
        let reference = match (&self.reference, reference) {
            (Some(model), Some(embeddings)) => Some(HostEmbeddings::read(pass, model.model(), embeddings)?),
            _ => None,
        };
        let learner_loss = own.as_ref().map(HostEmbeddings::view).transpose()?.map(LearnerLoss);
        let reference_loss = reference.as_ref().map(HostEmbeddings::view).transpose()?.map(ReferenceLoss);
        let terms = ScoreTerms::new(self.kind, learner_loss, reference_loss)?;
        let mut scores = SoftmaxScores::new(terms, threads);
        let diagonal = scores.conditional().to_vec();
        let picks = self.selection.pick(&mut scores, noise)?;
        Ok(Drawn { picks, diagonal, conditional: scores.conditional().to_vec() })
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
    fn read(pass: &mut Pass, model: &TwoTowers, [image, text]: &[Tensor; 2]) -> Result<Self> {
        Ok(Self {
            image: pass.read(image)?,
            text: pass.read(text)?,
            width: image.cols(),
            logit_scale: pass.read(&model.logit_scale.value)?[0].exp(),
            logit_bias: pass.read(&model.logit_bias.value)?[0],
        })
    }

    fn view(&self) -> Result<Embeddings<'_>> {
        Ok(Embeddings::new(&self.image, &self.text, self.width, self.logit_scale, self.logit_bias)?)
    }
}

impl Drawn {
    fn into_pick(self, candidates: &SuperBatch) -> Pick {
        let indices: Vec<usize> = self.picks.indices().collect();
        let mut shares = std::collections::BTreeMap::<String, f32>::new();
        for index in &indices {
            *shares.entry(candidates.sources[*index].to_string()).or_default() += 1.0 / indices.len() as f32;
        }
        let picked = Picked {
            digest: Picked::digest_of(indices.iter().map(|index| *index as u32)),
            conditional: contrast(&self.conditional, &indices),
            score: contrast(&self.diagonal, &indices),
            shares,
        };
        Pick { indices, picked: Some(picked) }
    }
}

fn contrast(values: &[f32], picked: &[usize]) -> Contrast {
    let mean = |values: &mut dyn Iterator<Item = f32>, n: usize| values.map(f64::from).sum::<f64>() / n.max(1) as f64;
    Contrast {
        picked: mean(&mut picked.iter().map(|index| values[*index]), picked.len()) as f32,
        super_batch: mean(&mut values.iter().copied(), values.len()) as f32,
    }
}

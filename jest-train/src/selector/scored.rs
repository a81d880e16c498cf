//! Selection by the learner's and the reference's losses.

use std::num::NonZeroUsize;
use std::sync::Arc;

use jest_data::SuperBatch;
use jest_kernels::ops::selection_scores::Candidates;
use jest_kernels::{Pass, Tensor};
use jest_model::TwoTowers;
use jest_select::{
    ConditionalScores, Embeddings, Gumbel, LearnerLoss, ReferenceLoss, ScoreKind, ScoreTerms, SelectError, Selection,
    SoftmaxScores,
};

use super::recorded::Recorded;
use super::{DeviceScores, Pick, Selector, Term};
use crate::config::Objective;
use crate::learner::Learner;
use crate::meter::{Kind, Meter};
use crate::reference::Reference;
use crate::{Result, TrainError};

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
        let embedded = Embedded { learner, own: own.as_ref(), reference: reference.as_ref() };
        let sources = &candidates.sources;
        meter.spend(Kind::Score, || match learner.objective {
            Objective::Sigmoid => self.draw_sigmoid(pass, &embedded, &noise, sources),
            Objective::Softmax => self.draw_softmax(pass, &embedded, &noise, sources),
        })
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
        embedded: &Embedded<'_>,
        noise: &Gumbel,
        sources: &[Arc<str>],
    ) -> Result<Pick> {
        let mut terms = Vec::new();
        terms.extend(embedded.own.map(|own| term(self.kind.learner_weight(), &embedded.learner.model, own)));
        if let (Some(reference), Some(embeddings)) = (&self.reference, embedded.reference) {
            terms.push(term(self.kind.reference_weight(), reference.model(), embeddings));
        }
        self.draw(DeviceScores::new(pass, terms, self.selection.plan().super_batch())?, noise, sources)
    }

    /// The softmax objective keeps its running log-sum-exps on the host.
    fn draw_softmax(
        &self,
        pass: &mut Pass,
        embedded: &Embedded<'_>,
        noise: &Gumbel,
        sources: &[Arc<str>],
    ) -> Result<Pick> {
        let threads = NonZeroUsize::new(pass.device().threads()).unwrap_or(NonZeroUsize::MIN);
        let own = embedded.own.map(|own| HostEmbeddings::read(pass, &embedded.learner.model, own)).transpose()?;
        let reference = match (&self.reference, embedded.reference) {
            (Some(model), Some(embeddings)) => Some(HostEmbeddings::read(pass, model.model(), embeddings)?),
            _ => None,
        };
        let learner_loss = own.as_ref().map(HostEmbeddings::view).transpose()?.map(LearnerLoss);
        let reference_loss = reference.as_ref().map(HostEmbeddings::view).transpose()?.map(ReferenceLoss);
        let terms = ScoreTerms::new(self.kind, learner_loss, reference_loss)?;
        self.draw(SoftmaxScores::new(terms, threads), noise, sources)
    }

    fn draw<S: ConditionalScores>(&self, scores: S, noise: &Gumbel, sources: &[Arc<str>]) -> Result<Pick>
    where
        TrainError: From<SelectError<S::Error>>,
    {
        let mut scores = Recorded::new(scores);
        let picks = self.selection.pick(&mut scores, noise)?;
        Ok(Pick { indices: picks.indices().collect(), picked: Some(scores.finish(&picks, sources)) })
    }
}

/// Embeddings of a super-batch by those models whose losses enter.
struct Embedded<'a> {
    learner: &'a Learner,
    own: Option<&'a [Tensor; 2]>,
    reference: Option<&'a [Tensor; 2]>,
}

fn term<'a>(weight: f32, model: &'a TwoTowers, [image, text]: &'a [Tensor; 2]) -> Term<'a> {
    let (log_scale, bias) = (&model.logit_scale.value, &model.logit_bias.value);
    Term { weight, candidates: Candidates { image, text, log_scale, bias } }
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

#[cfg(test)]
mod tests {
    use jest_kernels::{Device, DeviceOptions, DeviceRequest};
    use jest_model::Preset;
    use jest_select::{BatchPlan, Method, StreamingScores};

    use super::*;
    use crate::clock::FakeClock;
    use crate::config::OptimizerPlan;
    use crate::optimizer::Optimizer;
    use crate::verbs::bench::synthetic;

    /// Picks of a kind of score by two models of different seeds, on the device and by jest-select's own scores.
    fn check(kind: ScoreKind) {
        let device = Device::open(&DeviceRequest::Cpu, DeviceOptions { threads: 2, checked: true }).unwrap();
        let mut pass = device.pass();
        let config = Preset::Mu.config();
        let model = TwoTowers::new(&mut pass, &config, 1).unwrap();
        let optimizer = Optimizer::new(&mut pass, &model, OptimizerPlan::default(), None).unwrap();
        let learner = Learner { model, optimizer, objective: Objective::Sigmoid };
        let other = TwoTowers::new(&mut pass, &config, 2).unwrap();
        let batch = synthetic(&config, 60);
        let embeddings = learner.embed(&mut pass, &batch).unwrap();
        let own = HostEmbeddings::read(&mut pass, &learner.model, &embeddings).unwrap();
        let mut reference = Reference::of(other);
        let (clock, selection) =
            (FakeClock::default(), Selection::new(Method::Joint, BatchPlan::new(60, 12, 4).unwrap()));
        let mut meter = Meter::new(&clock);
        let embeddings = reference.embeddings(&mut pass, &batch, &mut meter).unwrap();
        let theirs = HostEmbeddings::read(&mut pass, reference.model(), &embeddings).unwrap();
        let losses = (LearnerLoss(own.view().unwrap()), ReferenceLoss(theirs.view().unwrap()));
        let terms = ScoreTerms::new(kind, Some(losses.0), Some(losses.1)).unwrap();
        let mut scored = Scored { selection, kind, reference: Some(reference), seed: 3 };
        for step in 0..5 {
            let pick = scored.pick(&mut pass, &learner, &batch, step, &mut meter).unwrap();
            let mut host = StreamingScores::new(terms.clone(), NonZeroUsize::MIN);
            let want = selection.pick(&mut host, &Gumbel::new(3, step)).unwrap();
            assert_eq!(pick.indices, want.indices().collect::<Vec<_>>(), "{kind} at step {step}");
        }
    }

    #[test]
    fn picks_are_those_of_the_host_scores() {
        for kind in [ScoreKind::Learnability, ScoreKind::EasyReference, ScoreKind::HardLearner] {
            check(kind);
        }
    }
}

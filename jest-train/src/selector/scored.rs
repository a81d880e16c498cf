//! Selection by what learner and references make of the candidates, or by their tags.

use std::num::NonZeroUsize;

use jest_data::SuperBatch;
use jest_kernels::ops::add;
use jest_kernels::ops::sigmoid_loss::LogitParameters;
use jest_kernels::{Pass, Tensor};
use jest_model::{TwoTowers, View};
use jest_select::{
    ConceptScores, ConditionalScores, DenseScores, FixedScores, Gumbel, Method, Noise, Reads, ScoreKind, SelectError,
    Selection, SoftmaxScores, StreamingScores, SubBatch,
};

use super::embedded::{Embedded, Made};
use super::recorded::Recorded;
use super::{DeviceScores, Pick, Selector, tags};
use crate::approximation::Approximation;
use crate::config::Objective;
use crate::learnability::pair_losses;
use crate::learner::Learner;
use crate::meter::{Kind, Meter};
use crate::reference::Reference;
use crate::reuse::Reuse;
use crate::{Result, TrainError};

/// Every method but the uniform one.
#[derive(Debug)]
pub struct Scored {
    /// Method and sizes.
    pub selection: Selection,
    /// Which losses enter, with which sign.
    pub kind: ScoreKind,
    /// Frozen scorers, whose scores are averaged; none when nothing reads one.
    pub references: Vec<Reference>,
    /// Fields of a sample's JSON that hold its tags, for balancing concepts.
    pub tags: Vec<String>,
    /// The view at which the learner scores.
    pub approximation: Approximation,
    /// Factor on the learner's logit scale in scores.
    pub logit_scale_factor: f32,
    /// Seed of the run.
    pub seed: u64,
    /// Whether the losses of what is picked are told.
    pub audit: bool,
    /// Whether the reference teaches: then what it made of the picked is handed on.
    pub distillation: bool,
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
        let noise = Gumbel::new(self.seed, step);
        match self.selection.method().reads() {
            Reads::Scores => self.by_scores(pass, learner, candidates, step, meter),
            Reads::Losses => self.by_losses(pass, learner, candidates, step, meter),
            Reads::Cosines => {
                let references = self.embed_references(pass, candidates, meter)?;
                meter.flops.score += self.pair_flops_of(&self.embedded(None, &references));
                meter.spend(Kind::Score, || {
                    let cosines = self.embedded(None, &references).read(pass)?.cosines()?;
                    let mut pick = self.draw(FixedScores::new(cosines), &noise, candidates)?;
                    self.teach(pass, &references, &mut pick)?;
                    Ok(pick)
                })
            }
            Reads::Tags | Reads::Nothing => meter.spend(Kind::Score, || {
                let tags: Vec<Vec<String>> =
                    candidates.json.iter().map(|json| tags::of(json.as_deref(), &self.tags)).collect();
                if tags.iter().all(Vec::is_empty) {
                    return Err(TrainError::NoTags { candidates: tags.len(), fields: self.tags.join("`, `") });
                }
                self.draw(ConceptScores::new(&tags, self.selection.plan().sub_batch())?, &noise, candidates)
            }),
        }
    }

    fn flush(&mut self) -> Result<()> {
        self.references.iter_mut().try_for_each(Reference::flush)
    }
}

impl Scored {
    /// By the scores of pairs.
    fn by_scores(
        &mut self,
        pass: &mut Pass,
        learner: &Learner,
        candidates: &SuperBatch,
        step: u64,
        meter: &mut Meter<'_>,
    ) -> Result<Pick> {
        let (noise, view) = (&Gumbel::new(self.seed, step), self.approximation.scoring(step));
        let own = match self.kind.learner_weight() {
            0.0 => None,
            _ => Some(embed_learner(pass, learner, candidates, &view, meter)?),
        };
        let references = self.embed_references(pass, candidates, meter)?;
        let log_scale = meter.spend(Kind::Score, || self.learner_log_scale(pass, &learner.model))?;
        let logits = LogitParameters { log_scale: &log_scale, ..learner.model.logit_parameters() };
        let embedded = self.embedded(own.as_ref().map(|own| (logits, own)), &references);
        meter.flops.score += self.selection_flops(&embedded, learner.objective);
        let mut pick = meter.spend(Kind::Score, || {
            let threads = NonZeroUsize::new(pass.device().threads()).unwrap_or(NonZeroUsize::MIN);
            let on_host = matches!(self.selection.method(), Method::IndependentRowSum | Method::Gibbs);
            if learner.objective == Objective::Sigmoid && !on_host {
                let super_batch = self.selection.plan().super_batch();
                let scores = DeviceScores::new(pass, embedded.terms(self.kind), super_batch)?;
                return self.draw(scores, noise, candidates);
            }
            // Log-sum-exps, row sums and the whole matrix are kept on the host.
            let host = embedded.read(pass)?;
            let terms = host.terms(self.kind)?;
            match (learner.objective, self.selection.method()) {
                (Objective::Softmax, _) => self.draw(SoftmaxScores::new(terms, threads), noise, candidates),
                (Objective::Sigmoid, Method::Gibbs) => self.draw_batches(DenseScores::new(&terms), noise, candidates),
                (Objective::Sigmoid, _) => self.draw(StreamingScores::new(terms, threads), noise, candidates),
            }
        })?;
        if self.audit {
            meter.flops.score += self.pair_flops_of(&embedded);
            meter.spend(Kind::Score, || self.tell_losses(pass, &embedded, learner.objective, &mut pick))?;
        }
        meter.spend(Kind::Score, || {
            if let Some(own) = &own {
                pick.reuse = leave(pass, learner, view, own, &pick.indices)?;
            }
            self.teach(pass, &references, &mut pick)
        })?;
        Ok(pick)
    }

    /// Losses of the picked pairs alone, by every model that was read.
    fn tell_losses(
        &self,
        pass: &mut Pass,
        embedded: &Embedded<'_>,
        objective: Objective,
        pick: &mut Pick,
    ) -> Result<()> {
        let share = 1.0 / embedded.references.len().max(1) as f32;
        if let Some((logits, made)) = embedded.learner {
            let losses = pair_losses(pass, logits, made, objective)?;
            pick.learner = pick.indices.iter().map(|index| losses[*index]).collect();
        }
        for (logits, made) in &embedded.references {
            let losses = pair_losses(pass, *logits, made, objective)?;
            pick.reference.resize(pick.indices.len(), 0.0);
            pick.reference.iter_mut().zip(&pick.indices).for_each(|(mean, index)| *mean += share * losses[*index]);
        }
        Ok(())
    }

    /// `2 B d` a model.
    fn pair_flops_of(&self, embedded: &Embedded<'_>) -> f64 {
        embedded.all().map(|(_, [image, _])| 2.0 * image.len() as f64).sum()
    }

    /// By the losses of pairs alone.
    fn by_losses(
        &mut self,
        pass: &mut Pass,
        learner: &Learner,
        candidates: &SuperBatch,
        step: u64,
        meter: &mut Meter<'_>,
    ) -> Result<Pick> {
        let (noise, view) = (&Gumbel::new(self.seed, step), self.approximation.scoring(step));
        let own = embed_learner(pass, learner, candidates, &view, meter)?;
        meter.flops.score += 2.0 * own[0].len() as f64;
        let share = 1.0 / self.references.len().max(1) as f32;
        let mut theirs = vec![0.0; candidates.len()];
        for reference in &mut self.references {
            let losses = reference.losses(pass, candidates, learner.objective, meter)?;
            meter.flops.score += 2.0 * (losses.len() * reference.model().config().embedding_dim()) as f64;
            theirs.iter_mut().zip(losses).for_each(|(mean, loss)| *mean += share * loss);
        }
        meter.spend(Kind::Score, || {
            let log_scale = self.learner_log_scale(pass, &learner.model)?;
            let logits = LogitParameters { log_scale: &log_scale, ..learner.model.logit_parameters() };
            let losses = pair_losses(pass, logits, &own, learner.objective)?;
            let mut pick = self.draw(FixedScores::rho(&losses, &theirs)?, noise, candidates)?;
            pick.learner = pick.indices.iter().map(|index| losses[*index]).collect();
            pick.reuse = leave(pass, learner, view, &own, &pick.indices)?;
            pick.reference = pick.indices.iter().map(|index| theirs[*index]).collect();
            Ok(pick)
        })
    }

    fn embed_references(
        &mut self,
        pass: &mut Pass,
        candidates: &SuperBatch,
        meter: &mut Meter<'_>,
    ) -> Result<Vec<[Tensor; 2]>> {
        self.references.iter_mut().map(|reference| reference.embeddings(pass, candidates, meter)).collect()
    }

    /// Hands on what the reference made of the picked.
    fn teach(&self, pass: &mut Pass, made: &[[Tensor; 2]], pick: &mut Pick) -> Result<()> {
        if let (true, Some(reference), Some(made)) = (self.distillation, self.references.first(), made.first()) {
            let log_scale = &reference.model().logit_scale.value();
            let reuse = std::mem::take(&mut pick.reuse);
            pick.reuse = reuse.with_teacher(pass, log_scale, made, &pick.indices)?;
        }
        Ok(())
    }

    fn embedded<'a>(&'a self, learner: Option<Made<'a>>, references: &'a [[Tensor; 2]]) -> Embedded<'a> {
        let logits = self.references.iter().map(|reference| reference.model().logit_parameters());
        Embedded { learner, references: logits.zip(references).collect() }
    }

    /// Logarithm of the scale of the learner's logits in scores: `[1]`.
    fn learner_log_scale(&self, pass: &mut Pass, learner: &TwoTowers) -> Result<Tensor> {
        let own = learner.logit_scale.value();
        if self.logit_scale_factor == 1.0 {
            return Ok(own.clone());
        }
        let factor = pass.upload(&[self.logit_scale_factor.ln()], &[1])?;
        Ok(add::forward(pass, own, &factor)?)
    }

    /// Products of the scores, over the widths d of the models: of pairs alone `2 B d`; for each chunk but the last
    /// `4 d c` times the candidates that are still open; of the whole matrix `2 B B d`, in both directions for softmax.
    fn selection_flops(&self, embedded: &Embedded<'_>, objective: Objective) -> f64 {
        let plan = self.selection.plan();
        let (all, c) = (plan.super_batch() as f64, plan.chunk_size() as f64);
        let pairs = match self.selection.method() {
            Method::Joint => (1..plan.chunks()).map(|drawn| 2.0 * c * (all - drawn as f64 * c)).sum(),
            Method::IndependentRowSum if objective == Objective::Softmax => 2.0 * all * all,
            Method::IndependentRowSum | Method::Gibbs => all * all,
            _ => 0.0,
        };
        embedded.all().map(|(_, [image, _])| 2.0 * image.cols() as f64 * (all + pairs)).sum()
    }

    fn draw<S: ConditionalScores>(&self, scores: S, noise: &impl Noise, candidates: &SuperBatch) -> Result<Pick>
    where
        TrainError: From<SelectError<S::Error>>,
    {
        let mut scores = Recorded::new(scores);
        let picks = self.selection.pick(&mut scores, noise)?;
        Ok(tell(scores, &picks, candidates))
    }

    /// Whole batches have no last draw: told are their own scores.
    fn draw_batches(&self, mut scores: DenseScores, noise: &impl Noise, candidates: &SuperBatch) -> Result<Pick> {
        let own = FixedScores::new(scores.conditional().to_vec());
        let picks = self.selection.pick(&mut scores, noise)?;
        Ok(tell(Recorded::new(own), &picks, candidates))
    }
}

fn embed_learner(
    pass: &mut Pass,
    learner: &Learner,
    candidates: &SuperBatch,
    view: &View,
    meter: &mut Meter<'_>,
) -> Result<[Tensor; 2]> {
    meter.flops.score += learner.forward_flops(&candidates.lengths, view);
    meter.spend(Kind::Score, || learner.embed_at(pass, candidates, view))
}

/// The embeddings of what was picked, where training makes some before anything else.
fn leave(pass: &mut Pass, learner: &Learner, view: View, own: &[Tensor; 2], picked: &[usize]) -> Result<Reuse> {
    if !learner.in_pieces(picked.len()) {
        return Ok(Reuse::default());
    }
    Reuse::default().with_learner(pass, view, own, picked)
}

fn tell<S: ConditionalScores>(scores: Recorded<S>, picks: &SubBatch, candidates: &SuperBatch) -> Pick {
    let (picked, scores) = scores.finish(picks, &candidates.sources);
    Pick { picked: Some(picked), scores, ..Pick::bare(picks.indices().collect()) }
}

#[cfg(test)]
mod tests;

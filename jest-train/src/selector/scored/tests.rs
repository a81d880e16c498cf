use jest_kernels::{Device, DeviceOptions, DeviceRequest};
use jest_model::{Preset, TwoTowers};
use jest_select::BatchPlan;

use super::*;
use crate::clock::FakeClock;
use crate::config::OptimizerPlan;
use crate::optimizer::Optimizer;
use crate::verbs::bench::synthetic;

const SUPER_BATCH: usize = 60;
const SUB_BATCH: usize = 12;

/// A learner, and models of other seeds.
struct Models {
    pass: Pass,
    learner: Learner,
    batch: SuperBatch,
}

impl Models {
    fn new(objective: Objective) -> Self {
        let device =
            Device::open(&DeviceRequest::Cpu, DeviceOptions { threads: 2, checked: true, ..Default::default() })
                .unwrap();
        let mut pass = device.pass();
        let config = Preset::Mu.config();
        let model = TwoTowers::new(&mut pass, &config, 1).unwrap();
        let optimizer = Optimizer::new(&mut pass, &model, OptimizerPlan::default(), None).unwrap();
        let mut batch = synthetic(&config, SUPER_BATCH);
        for (i, json) in batch.json.iter_mut().enumerate() {
            *json = Some(format!("{{\"concept\": \"{}\"}}", if i < 40 { "common" } else { "rare" }));
        }
        Self { pass, learner: Learner::new(model, optimizer, objective), batch }
    }

    fn references(&mut self, seeds: &[u64]) -> Vec<Reference> {
        let config = Preset::Mu.config();
        seeds.iter().map(|seed| Reference::of(TwoTowers::new(&mut self.pass, &config, *seed).unwrap())).collect()
    }

    /// Picks of five steps, and what they cost.
    fn picks(&mut self, scored: &mut Scored) -> (Vec<Vec<usize>>, f64) {
        let clock = FakeClock::default();
        let mut meter = Meter::new(&clock);
        let picks = (0..5)
            .map(|step| scored.pick(&mut self.pass, &self.learner, &self.batch, step, &mut meter).unwrap().indices);
        (picks.collect(), meter.flops.score)
    }

    /// The same by jest-select's own scores.
    fn expected<S: ConditionalScores>(scored: &Scored, scores: impl Fn() -> S) -> Vec<Vec<usize>>
    where
        S::Error: std::fmt::Debug,
    {
        let pick = |step| scored.selection.pick(&mut scores(), &Gumbel::new(scored.seed, step)).unwrap();
        (0..5).map(|step| pick(step).indices().collect()).collect()
    }
}

fn scored(method: Method, kind: ScoreKind, references: Vec<Reference>) -> Scored {
    let chunks = if method == Method::Joint { 4 } else { 1 };
    let selection = Selection::new(method, BatchPlan::new(SUPER_BATCH, SUB_BATCH, chunks).unwrap());
    Scored {
        selection,
        kind,
        references,
        tags: vec!["concept".into()],
        approximation: Approximation::default(),
        logit_scale_factor: 1.0,
        seed: 3,
        audit: false,
        distillation: false,
    }
}

fn check(method: Method, kind: ScoreKind, objective: Objective, seeds: &[u64]) {
    let mut models = Models::new(objective);
    let references = models.references(seeds);
    let mut scored = scored(method, kind, references);
    let (got, flops) = models.picks(&mut scored);
    let own = models.learner.embed(&mut models.pass, &models.batch).unwrap();
    let clock = FakeClock::default();
    let theirs = scored.embed_references(&mut models.pass, &models.batch, &mut Meter::new(&clock)).unwrap();
    let embedded = scored.embedded(Some((models.learner.model.logit_parameters(), &own)), &theirs);
    let host = embedded.read(&mut models.pass).unwrap();
    let terms = host.terms(kind).unwrap();
    let want = match objective {
        Objective::Sigmoid => Models::expected(&scored, || DenseScores::new(&terms)),
        Objective::Softmax => Models::expected(&scored, || SoftmaxScores::new(terms.clone(), NonZeroUsize::MIN)),
    };
    assert_eq!(got, want, "{method} by {kind}, {objective:?}");
    // Draws of 3 leave 57, 54 and 51 of 60.
    let d = 64.0;
    let models_of = |kind: ScoreKind| (kind.learner_weight() + seeds.len() as f32) as f64;
    let pairs = match method {
        Method::Joint => 4.0 * 3.0 * (57.0 + 54.0 + 51.0),
        Method::IndependentRowSum if objective == Objective::Softmax => 4.0 * 3600.0,
        Method::IndependentRowSum | Method::Gibbs => 2.0 * 3600.0,
        _ => 0.0,
    };
    let forward = if kind.learner_weight() > 0.0 {
        models.learner.forward_flops(&models.batch.lengths, &View::default())
    } else {
        0.0
    };
    assert_eq!(flops, 5.0 * (forward + models_of(kind) * d * (2.0 * 60.0 + pairs)), "{method}");
}

#[test]
fn picks_and_flops_are_those_of_the_host_scores() {
    for kind in [ScoreKind::Learnability, ScoreKind::EasyReference] {
        check(Method::Joint, kind, Objective::Sigmoid, &[2]);
        check(Method::Joint, kind, Objective::Softmax, &[2]);
    }
    check(Method::Joint, ScoreKind::HardLearner, Objective::Sigmoid, &[]);
    check(Method::Joint, ScoreKind::Learnability, Objective::Sigmoid, &[2, 7, 9]);
    check(Method::Joint, ScoreKind::Learnability, Objective::Softmax, &[2, 7]);
    for method in [Method::Independent, Method::TopK, Method::IndependentRowSum] {
        check(method, ScoreKind::Learnability, Objective::Sigmoid, &[2]);
        check(method, ScoreKind::Learnability, Objective::Softmax, &[2]);
    }
    check(Method::Gibbs, ScoreKind::Learnability, Objective::Sigmoid, &[2]);
}

#[test]
fn rho_takes_the_best_own_scores() {
    for objective in [Objective::Sigmoid, Objective::Softmax] {
        let mut models = Models::new(objective);
        let references = models.references(&[2, 5]);
        let mut rho = scored(Method::Rho, ScoreKind::Learnability, references);
        let references = models.references(&[2, 5]);
        let mut top_k = scored(Method::TopK, ScoreKind::Learnability, references);
        assert_eq!(models.picks(&mut rho), models.picks(&mut top_k), "{objective:?}");
    }
}

/// Scored are the embeddings at the cheap view, and counted is what they cost.
#[test]
fn candidates_are_scored_at_the_cheap_view() {
    let mut models = Models::new(Objective::Sigmoid);
    let mut plan = crate::config::resolve(
        "batch_size = 12\nsteps = 1\ndata.train = 'a'\nmodel.preset = 'mu'\nselection.filter_ratio = 0.8\n\
         selection.chunks = 4\nselection.score = 'hard_learner'\nselection.approximation = { patch_size = 16 }",
        None,
        &Default::default(),
        &crate::config::Surroundings { cores: 1, exists: &|_| true, count: &|_| Ok(1000) },
    )
    .unwrap()
    .plan;
    let plan = plan.runs.remove(0).selection;
    let mut cheap = scored(Method::Joint, ScoreKind::HardLearner, Vec::new());
    cheap.approximation = Approximation::of(&plan, 1, 0);
    let view = cheap.approximation.scoring(0);
    assert_eq!(view, View::patches(16));
    let (got, flops) = models.picks(&mut cheap);
    let own = models.learner.embed_at(&mut models.pass, &models.batch, &view).unwrap();
    let embedded = cheap.embedded(Some((models.learner.model.logit_parameters(), &own)), &[]);
    let host = embedded.read(&mut models.pass).unwrap();
    let terms = host.terms(ScoreKind::HardLearner).unwrap();
    assert_eq!(got, Models::expected(&cheap, || DenseScores::new(&terms)));
    let products = 64.0 * (2.0 * 60.0 + 4.0 * 3.0 * (57.0 + 54.0 + 51.0));
    let forward = Preset::Mu.config().forward_flops(&view) as f64 * 60.0;
    assert_eq!(flops, 5.0 * (forward + products));
    let mut full = scored(Method::Joint, ScoreKind::HardLearner, Vec::new());
    assert_ne!(models.picks(&mut full).0, got);
}

/// A factor on the logit scale is as if the learner had that scale, whether scores are made on the device or on the host.
#[test]
fn a_factor_on_the_logit_scale_is_one_of_the_learner() {
    let factor = 0.5f32;
    for (method, objective) in [
        (Method::Joint, Objective::Sigmoid),
        (Method::Joint, Objective::Softmax),
        (Method::Gibbs, Objective::Sigmoid),
        (Method::IndependentRowSum, Objective::Sigmoid),
        (Method::Rho, Objective::Sigmoid),
        (Method::Rho, Objective::Softmax),
    ] {
        let mut models = Models::new(objective);
        let references = models.references(&[2]);
        let mut softer = scored(method, ScoreKind::Learnability, references);
        let whole = models.picks(&mut softer);
        softer.logit_scale_factor = factor;
        let (got, flops) = models.picks(&mut softer);
        assert_ne!(got, whole.0, "{method}, {objective:?}");
        assert_eq!(flops, whole.1);
        let scale = models.pass.read(models.learner.model.logit_scale.value()).unwrap()[0] + factor.ln();
        models.learner.model.logit_scale.set(models.pass.upload(&[scale], &[1]).unwrap());
        softer.logit_scale_factor = 1.0;
        assert_eq!(models.picks(&mut softer).0, got, "{method}, {objective:?}");
    }
}

/// What is told of the picks is their own losses, and asking changes none of them.
#[test]
fn an_audit_tells_scores_and_losses() {
    for (method, factor) in [(Method::Joint, 1.0), (Method::Joint, 0.5), (Method::Rho, 1.0), (Method::Rho, 0.5)] {
        let mut models = Models::new(Objective::Sigmoid);
        let references = models.references(&[2, 5]);
        let mut told = scored(method, ScoreKind::Learnability, references);
        (told.audit, told.logit_scale_factor) = (true, factor);
        let references = models.references(&[2, 5]);
        let mut silent = scored(method, ScoreKind::Learnability, references);
        silent.logit_scale_factor = factor;
        let clock = FakeClock::default();
        let mut meter = Meter::new(&clock);
        let pick = told.pick(&mut models.pass, &models.learner, &models.batch, 0, &mut meter).unwrap();
        assert_eq!(pick.indices, models.picks(&mut silent).0[0], "{method}");
        assert_eq!([pick.scores.len(), pick.learner.len(), pick.reference.len()], [SUB_BATCH; 3]);
        // What is drawn first is drawn by its own score, the difference of its losses.
        for at in 0..3 {
            let own = pick.learner[at] - pick.reference[at];
            assert!((pick.scores[at] - own).abs() < 1e-4, "{method}: {} is not {own}", pick.scores[at]);
        }
    }
}

#[test]
fn clip_scores_need_no_learner_and_tags_no_model() {
    let mut models = Models::new(Objective::Sigmoid);
    let references = models.references(&[2]);
    let mut clip = scored(Method::ClipScore, ScoreKind::Learnability, references);
    let (picks, flops) = models.picks(&mut clip);
    let references = models.references(&[2]);
    // Under one reference, the easiest pairs are those of the largest cosines.
    let mut easy = scored(Method::TopK, ScoreKind::EasyReference, references);
    assert_eq!((picks, flops), models.picks(&mut easy));
    let mut cabs = scored(Method::Cabs, ScoreKind::Learnability, Vec::new());
    let (picks, flops) = models.picks(&mut cabs);
    assert_eq!(flops, 0.0);
    let rare = picks[0].iter().filter(|i| **i >= 40).count();
    assert_eq!((picks[0].len(), rare), (SUB_BATCH, SUB_BATCH / 2));
}

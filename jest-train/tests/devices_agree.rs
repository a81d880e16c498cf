//! Twenty steps of the smallest preset on the shipped sample, on the CPU device and through the WGSL kernels.

#![expect(clippy::unwrap_used, reason = "a test stops at the first failure")]

use std::path::Path;
use std::sync::Arc;

use jest_data::{Loader, LoaderConfig, LoaderState, Preprocess, Source, SuperBatch, Tokenizer};
use jest_kernels::ops::selection_scores::Candidates;
use jest_kernels::ops::sigmoid_loss::LogitParameters;
use jest_kernels::testing::{devices_in, tally, training_devices};
use jest_kernels::{Pass, Precision, Tensor};
use jest_model::{ModelConfig, Preset, TwoTowers};
use jest_select::{BatchPlan, Candidate, ConditionalScores, Gumbel, Method, Selection, SubBatch};
use jest_train::config::{Objective, OptimizerPlan};
use jest_train::learner::Learner;
use jest_train::optimizer::Optimizer;
use jest_train::selector::{DeviceScores, Term};

const STEPS: u64 = 20;
const SUB_BATCH: usize = 32;
const TOLERANCE: f32 = 1e-4;

fn sample(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets/sample").join(path)
}

fn batches(super_batch: usize) -> (ModelConfig, Vec<SuperBatch>) {
    let tokenizer = Tokenizer::open(&sample("tokenizer.json")).unwrap();
    let mut model = Preset::Mu.config();
    model.text.vocab_size = tokenizer.vocab_size();
    let sources = Source::parse_list(&format!("pool={}", sample("train").display())).unwrap();
    let preprocess = Preprocess::siglip(model.vision.image_size);
    let config = LoaderConfig::new(sources, preprocess, Arc::new(tokenizer), model.text.tokens);
    let mut loader = Loader::new(config, LoaderState::default()).unwrap();
    (model, (0..STEPS).map(|_| loader.next_super_batch(super_batch).unwrap()).collect())
}

fn learner(pass: &mut Pass, config: &ModelConfig) -> Learner {
    let model = TwoTowers::new(pass, config, 0).unwrap();
    let optimizer = Optimizer::new(pass, &model, OptimizerPlan::default(), None).unwrap();
    Learner::new(model, optimizer, Objective::Sigmoid)
}

fn loss(pass: &mut Pass, learner: &mut Learner, batch: &SuperBatch) -> f32 {
    learner.step(pass, batch, 1e-3, 1e-4).unwrap().arrive().unwrap().loss
}

fn assert_close(what: &str, a: &[f32], b: &[f32], scale: impl Fn(usize) -> f32) {
    assert_eq!(a.len(), b.len());
    for (i, (a, b)) in a.iter().zip(b).enumerate() {
        assert!((a - b).abs() <= TOLERANCE * scale(i), "{what}[{i}]: {a} on the CPU device, {b} in WGSL");
    }
}

#[test]
fn uniform_losses_agree() {
    let (config, batches) = batches(SUB_BATCH);
    let [cpu, gpu] = training_devices().map(|device| {
        let mut pass = device.pass();
        let mut learner = learner(&mut pass, &config);
        let losses: Vec<f32> = batches.iter().map(|batch| loss(&mut pass, &mut learner, batch)).collect();
        tally(device);
        losses
    });
    assert!(cpu[STEPS as usize - 1] < cpu[0], "it learns: {cpu:?}");
    assert_close("loss", &cpu, &gpu, |step| cpu[step]);
}

#[test]
fn losses_with_products_in_f16_agree_and_follow_those_in_f32() {
    const STEPS: usize = 6;
    let (config, batches) = batches(SUB_BATCH);
    let losses = |pass: &mut Pass, precision| {
        let mut learner = learner(pass, &config).with_precision(precision, None);
        batches[..STEPS].iter().map(|batch| loss(pass, &mut learner, batch)).collect::<Vec<f32>>()
    };
    let [cpu, gpu] = devices_in(Precision::F16).map(|device| losses(&mut device.pass(), Precision::F16));
    let plain = losses(&mut training_devices()[0].pass(), Precision::F32);
    // Operands lie within 2^-11 of what they are in f32; devices differ where a value is rounded to its other neighbour.
    for step in 0..STEPS {
        let (with_f32, with_gpu) = ((cpu[step] - plain[step]).abs(), (cpu[step] - gpu[step]).abs());
        assert!(with_f32 <= 4e-3 * plain[step] && with_gpu <= 2e-3 * cpu[step], "{step}: {plain:?} {cpu:?} {gpu:?}");
    }
    assert_ne!(cpu, plain, "operands are rounded");
}

/// Learner and reference embeddings of a super-batch, as the terms of learnability.
struct Embedded {
    learner: [Tensor; 2],
    reference: [Tensor; 2],
}

impl Embedded {
    fn new(pass: &mut Pass, learner: &Learner, reference: &Learner, batch: &SuperBatch) -> Self {
        Self { learner: learner.embed(pass, batch).unwrap(), reference: reference.embed(pass, batch).unwrap() }
    }

    fn scores<'a>(&'a self, pass: &'a mut Pass, learner: &'a Learner, reference: &'a Learner) -> DeviceScores<'a> {
        let super_batch = self.learner[0].rows();
        let term = |weight, model: &'a TwoTowers, [image, text]: &'a [Tensor; 2]| {
            let LogitParameters { log_scale, bias } = model.logit_parameters();
            Term { weight, candidates: Candidates { image, text, log_scale, bias } }
        };
        let terms = vec![term(1.0, &learner.model, &self.learner), term(-1.0, &reference.model, &self.reference)];
        DeviceScores::new(pass, terms, super_batch).unwrap()
    }
}

/// Conditional scores before every chunk of given picks.
fn replay(scores: &mut DeviceScores<'_>, picks: &SubBatch) -> Vec<Vec<f32>> {
    let mut all = vec![scores.conditional().to_vec()];
    for chunk in picks.chunks() {
        let chunk: Vec<Candidate> = chunk.to_vec();
        scores.condition_on(&chunk).unwrap();
        all.push(scores.conditional().to_vec());
    }
    all
}

#[test]
fn joint_selection_agrees_on_the_same_picks() {
    let (config, batches) = batches(4 * SUB_BATCH);
    let selection = Selection::new(Method::Joint, BatchPlan::new(4 * SUB_BATCH, SUB_BATCH, 4).unwrap());
    let [mut cpu, mut gpu] = training_devices().map(|device| device.pass());
    let [mut ours, mut theirs] = [learner(&mut cpu, &config), learner(&mut gpu, &config)];
    let mut references = [learner(&mut cpu, &config), learner(&mut gpu, &config)];
    for batch in &batches[..3] {
        let batch = batch.subset(&(0..SUB_BATCH).collect::<Vec<_>>());
        loss(&mut cpu, &mut references[0], &batch);
        loss(&mut gpu, &mut references[1], &batch);
    }
    for (step, batch) in (0..).zip(&batches) {
        let embedded = Embedded::new(&mut cpu, &ours, &references[0], batch);
        let picks =
            selection.pick(&mut embedded.scores(&mut cpu, &ours, &references[0]), &Gumbel::new(0, step)).unwrap();
        let want = replay(&mut embedded.scores(&mut cpu, &ours, &references[0]), &picks);
        let embedded = Embedded::new(&mut gpu, &theirs, &references[1], batch);
        let got = replay(&mut embedded.scores(&mut gpu, &theirs, &references[1]), &picks);
        for (want, got) in want.iter().zip(&got) {
            let top = want.iter().fold(0.0f32, |top, value| top.max(value.abs()));
            assert_close(&format!("conditional at step {step}"), want, got, |_| top);
        }
        let sub_batch = batch.subset(&picks.indices().collect::<Vec<_>>());
        let (a, b) = (loss(&mut cpu, &mut ours, &sub_batch), loss(&mut gpu, &mut theirs, &sub_batch));
        assert_close("loss", &[a], &[b], |_| a);
    }
    tally(training_devices()[1]);
}

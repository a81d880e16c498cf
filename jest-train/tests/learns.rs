//! The smallest preset learns what can be learned, and as it did before.
#![expect(clippy::unwrap_used, reason = "a test stops at the first failure")]

mod common;

use std::collections::HashSet;
use std::sync::Arc;

use common::sample;
use jest_data::{LoaderConfig, Preprocess, Source, SuperBatch, Tokenizer, read_all};
use jest_kernels::ops::matmul;
use jest_kernels::{Device, DeviceOptions, DeviceRequest, Pass};
use jest_model::{Preset, TwoTowers};
use jest_train::config::{Objective, OptimizerPlan};
use jest_train::evaluation::metrics;
use jest_train::learner::Learner;
use jest_train::optimizer::Optimizer;

/// Losses of ten updates on 32 pairs by preset `mu` from seed 0, on the CPU device.
const GOLDEN: [f32; 10] =
    [10.306988, 5.4310536, 5.381204, 4.970797, 4.62931, 4.6706614, 4.4297295, 4.6998506, 4.607697, 4.411482];
const TOLERANCE: f32 = 1e-4;

/// The first `n` pairs of the curated part whose captions differ, and a learner with `objective`.
fn learner_and_pairs(pass: &mut Pass, objective: Objective, n: usize) -> (Learner, SuperBatch) {
    let tokenizer = Tokenizer::open(&sample("tokenizer.json")).unwrap();
    let mut config = Preset::Mu.config();
    config.text.vocab_size = tokenizer.vocab_size();
    let sources = vec![Source::folder(&sample("curated")).unwrap()];
    let preprocess = Preprocess::siglip(config.vision.image_size);
    let data = LoaderConfig::new(sources, preprocess, Arc::new(tokenizer), config.text.tokens);
    let all = read_all(&data, 512).unwrap().next().unwrap().unwrap();
    let mut seen = HashSet::new();
    let distinct = (0..all.len()).filter(|i| seen.insert(all.captions[*i].as_str())).take(n).collect::<Vec<_>>();
    assert_eq!(distinct.len(), n);
    let model = TwoTowers::new(pass, &config, 0).unwrap();
    let optimizer = Optimizer::new(pass, &model, OptimizerPlan::default(), None).unwrap();
    (Learner::new(model, optimizer, objective), all.subset(&distinct))
}

fn cpu() -> Pass {
    Device::open(&DeviceRequest::Cpu, DeviceOptions { threads: 2, checked: false, ..Default::default() })
        .unwrap()
        .pass()
}

fn loss(pass: &mut Pass, learner: &mut Learner, pairs: &SuperBatch) -> f32 {
    learner.step(pass, pairs, 1e-3, 1e-4).unwrap().arrive().unwrap().loss
}

#[test]
fn every_pair_of_64_is_found_again() {
    for objective in [Objective::Sigmoid, Objective::Softmax] {
        let mut pass = cpu();
        let (mut learner, pairs) = learner_and_pairs(&mut pass, objective, 64);
        let found = (1..=150).find(|step| {
            loss(&mut pass, &mut learner, &pairs);
            step % 10 == 0 && {
                let [image, text] = learner.embed(&mut pass, &pairs).unwrap();
                let cosines = matmul::forward(&mut pass, matmul::Form::ABt, &image, &text).unwrap();
                let recall = metrics::retrieval(&pass.read(&cosines).unwrap(), &(0..pairs.len()).collect::<Vec<_>>());
                ["image_to_text_R@1", "text_to_image_R@1"].iter().all(|name| recall.get(name) == Some(&1.0))
            }
        });
        println!("{objective:?}: found after {found:?} steps");
        assert!(found.is_some(), "{objective:?}");
    }
}

#[test]
fn ten_losses_are_as_they_were() {
    let mut pass = cpu();
    let (mut learner, pairs) = learner_and_pairs(&mut pass, Objective::Sigmoid, 32);
    let losses: Vec<f32> = GOLDEN.iter().map(|_| loss(&mut pass, &mut learner, &pairs)).collect();
    assert_eq!(losses.len(), 10);
    for (step, (got, want)) in losses.iter().zip(GOLDEN).enumerate() {
        assert!((got - want).abs() <= TOLERANCE * want.abs(), "step {step}: {got}, was {want}; all: {losses:?}");
    }
}

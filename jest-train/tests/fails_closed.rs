//! What is not finite changes no parameter and ends the run.
#![expect(clippy::unwrap_used, reason = "a test stops at the first failure")]

mod common;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use common::{Place, THREE_RUNS, jest, sample};
use jest_data::{LoaderConfig, Preprocess, Source, SuperBatch, Tokenizer, read_all};
use jest_kernels::{Device, DeviceOptions, DeviceRequest, Pass};
use jest_model::{ModelConfig, Parameters, Preset, TensorFile, TensorSource, TwoTowers};
use jest_train::config::{Objective, OptimizerPlan};
use jest_train::learner::Learner;
use jest_train::optimizer::Optimizer;

fn model_and_batch() -> (ModelConfig, SuperBatch) {
    let tokenizer = Tokenizer::open(&sample("tokenizer.json")).unwrap();
    let mut model = Preset::Mu.config();
    model.text.vocab_size = tokenizer.vocab_size();
    let sources = vec![Source::folder(&sample("curated")).unwrap()];
    let config = LoaderConfig::new(sources, Preprocess::siglip(32), Arc::new(tokenizer), model.text.tokens);
    let batch = read_all(&config, 8).unwrap().next().unwrap().unwrap();
    (model, batch)
}

/// Bits of every parameter by name, and of every running mean.
fn bits(pass: &mut Pass, learner: &Learner) -> Vec<(String, Vec<u32>)> {
    let folder = tempfile::tempdir().unwrap();
    learner.optimizer.save(pass, &learner.model, folder.path()).unwrap();
    let mut file = TensorFile::open(&folder.path().join("optimizer.safetensors")).unwrap();
    let of = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect::<Vec<_>>();
    let mut all: Vec<_> = learner
        .model
        .parameters()
        .into_iter()
        .map(|param| (param.name().to_owned(), of(pass.read(param.value()).unwrap())))
        .collect();
    let names: Vec<String> = file.names().map(str::to_owned).collect();
    for name in names {
        let shape = file.shape(&name).unwrap().to_vec();
        all.push((name.clone(), of(file.read_f32(&name, &shape).unwrap())));
    }
    all
}

#[test]
fn a_nan_in_one_weight_leaves_every_other_as_it_was() {
    let (config, batch) = model_and_batch();
    let device = Device::open(&DeviceRequest::Cpu, DeviceOptions::default()).unwrap();
    let mut pass = device.pass();
    let names = [
        "logit_scale",
        "vision_model.embeddings.patch_embedding.weight",
        "vision_model.encoder.layers.0.mlp.fc1.weight",
        "text_model.encoder.layers.1.layer_norm2.bias",
        "text_model.head.weight",
    ];
    for name in names {
        let model = TwoTowers::new(&mut pass, &config, 0).unwrap();
        let optimizer = Optimizer::new(&mut pass, &model, OptimizerPlan::default(), None).unwrap();
        let mut learner = Learner::new(model, optimizer, Objective::Sigmoid);
        let step =
            |pass: &mut Pass, learner: &mut Learner| learner.step(pass, &batch, 1e-3, 1e-4).unwrap().arrive().unwrap();
        assert!(step(&mut pass, &mut learner).loss.is_finite());
        let params = learner.model.parameters_mut();
        let param = params.into_iter().find(|param| param.name() == name).unwrap_or_else(|| panic!("no {name}"));
        let mut values = pass.read(param.value()).unwrap();
        let middle = values.len() / 2;
        values[middle] = f32::NAN;
        param.set(pass.upload(&values, param.value().shape()).unwrap());
        let before = bits(&mut pass, &learner);
        for _ in 0..2 {
            assert!(!step(&mut pass, &mut learner).grad_norm.is_finite(), "{name}");
        }
        for (before, after) in before.iter().zip(bits(&mut pass, &learner)) {
            assert!(*before == after, "NaN in {name} changed {}", after.0);
        }
    }
}

#[test]
fn a_run_that_diverges_ends_and_keeps_its_checkpoint() {
    let place = Place::new("");
    let diverged = place.train("out", &["--lr", "1e30"]);
    diverged.refused(5, &["not finite at step 2 of run train", "last checkpoint is intact", "optimizer.lr"]);
    assert_eq!(place.checkpoints("out", "train"), ["step-00000001"]);
    let told = jest([Path::new("inspect"), &place.newest("out", "train")]).well().out;
    assert!(told.contains("run train at step 1") && told.contains("all files match their hashes"), "{told}");
    // The step that was refused stands in the record.
    assert!(place.metrics("out").lines().last().unwrap().contains("\"step\":2,"));
    // Going on from there ends in the same place.
    let again = place.train("out", &["--lr", "1e30", "--resume", "latest"]);
    again.refused(5, &["not finite at step 2 of run train"]);
}

#[test]
fn scores_that_are_not_finite_end_the_run() {
    let place = Place::new(THREE_RUNS);
    let diverged = place.train("out", &["--set", "run.jest.optimizer.lr=1e30"]);
    diverged.refused(5, &["not finite at step 2 of run jest", "last checkpoint is intact"]);
    assert_eq!(place.checkpoints("out", "jest"), ["step-00000001"]);
    assert_eq!(place.timeless_summary("out")["runs"].as_array().unwrap().len(), 1);
}

/// Copies weights, configuration and tokenizer of a checkpoint, with one value of the weights changed.
fn with_value(checkpoint: &Path, to: &Path, value: f32) {
    fs::create_dir_all(to).unwrap();
    for name in ["model.safetensors", "config.json", "tokenizer.json"] {
        fs::copy(checkpoint.join(name), to.join(name)).unwrap();
    }
    let path = to.join("model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let last = bytes.len() - 4;
    bytes[last..].copy_from_slice(&value.to_le_bytes());
    fs::write(&path, bytes).unwrap();
}

#[test]
fn weights_that_are_not_finite_are_not_loaded() {
    let place = Place::new("");
    place.train("out", &["--steps", "1"]).well();
    let (sound, planted) = (place.path("sound"), place.path("planted"));
    with_value(&place.newest("out", "train"), &sound, 0.5);
    with_value(&place.newest("out", "train"), &planted, f32::NAN);
    let init = |folder: &Path| format!("init={}", folder.display());
    place.train("from", &["--set", &init(&sound)]).well();
    let says = ["model.safetensors", "is NaN", "damaged or its training diverged"];
    place.train("from-nan", &["--set", &init(&planted)]).refused(8, &says);
    assert!(!place.metrics("from-nan").contains("\"step\""));
    let reference = planted.display().to_string();
    place.train("by-nan", &["--reference", &reference, "--chunks", "4"]).refused(8, &says);
    assert!(!place.metrics("by-nan").contains("\"step\""));
    // A checkpoint with its hashes is refused by them.
    let whole = place.newest("out", "train");
    common::damage(&whole.join("model.safetensors"));
    let told = place.train("from-damaged", &["--set", &init(&whole)]);
    told.refused(8, &["model.safetensors is missing or damaged"]);
}

/// Of a GPU that has no room, the run ends with its code, and goes on from its checkpoint where there is room.
#[test]
fn a_run_that_finds_no_room_keeps_its_checkpoint() {
    let name = jest_kernels::testing::lesser_gpu(Default::default()).info().name;
    let on = ["--device", &name, "--steps", "3"];
    let place = Place::new("");
    let whole = place.train("whole", &on).well();
    assert!(whole.out.contains("peak device memory, MB"), "{}", whole.out);
    let mut running = place.start("out", &on);
    assert!(running.wait_until(|| !place.checkpoints("out", "train").is_empty()));
    running.kill();
    let before = place.checkpoints("out", "train");
    let resume = |more: &[&str]| place.train("out", &[&on[..], &["--resume", "latest"], more].concat());
    resume(&["--device-mb", "0"]).refused(6, &["no room on the GPU", "--micro-batch"]);
    assert_eq!(place.checkpoints("out", "train"), before);
    resume(&[]).well();
    assert_eq!(place.metrics("out"), place.metrics("whole"));
    assert!(place.weights("out", "train") == place.weights("whole", "train"));
    // Rows of pictures are sliced where they are more than one binding of the adapter; a weight is not.
    let large = ["--set", "model.image_size=1200", "--set", "model.patch_size=1200"];
    place.train("large", &[&on[..], &large].concat()).refused(6, &["over the device's limit", "smaller batch"]);
}

#[test]
fn a_device_that_is_lost_leaves_what_was_saved() {
    let (config, batch) = model_and_batch();
    let device = jest_kernels::testing::lesser_gpu(Default::default());
    let mut pass = device.pass();
    let model = TwoTowers::new(&mut pass, &config, 0).unwrap();
    let optimizer = Optimizer::new(&mut pass, &model, OptimizerPlan::default(), None).unwrap();
    let mut learner = Learner::new(model, optimizer, Objective::Sigmoid);
    let folder = tempfile::tempdir().unwrap();
    learner.save(&mut pass, folder.path()).unwrap();
    jest_kernels::testing::lose(&device);
    let step = learner.step(&mut pass, &batch, 1e-3, 1e-4).and_then(|numbers| numbers.arrive());
    let error = step.expect_err("the device is gone");
    assert_eq!(error.exit_code(), 6);
    assert!(error.explain().contains("start again from the last checkpoint"), "{}", error.explain());
    let cpu = Device::open(&DeviceRequest::Cpu, DeviceOptions::default()).unwrap();
    TwoTowers::load(&mut cpu.pass(), folder.path()).unwrap();
}

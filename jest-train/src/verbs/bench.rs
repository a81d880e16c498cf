//! `jest bench step`: whole training steps and scoring passes on synthetic examples, timed.

use jest_data::{ExampleId, Preprocess, SuperBatch};
use jest_model::{ModelConfig, Preset, TwoTowers};

use super::open;
use crate::Result;
use crate::cli::BenchStepArgs;
use crate::clock::{Clock, SystemClock};
use crate::config::{Objective, OptimizerPlan};
use crate::learner::Learner;
use crate::optimizer::Optimizer;

const WARM_UPS: usize = 2;

/// Prints one JSON line: examples per second of scoring and of training, medians.
pub(super) fn step(args: &BenchStepArgs) -> Result<()> {
    let device = open::device(&args.on)?;
    let mut pass = device.pass();
    let config = args.preset.parse::<Preset>()?.config();
    let batch = synthetic(&config, args.batch);
    let model = TwoTowers::new(&mut pass, &config, 0)?;
    let optimizer = Optimizer::new(&mut pass, &model, OptimizerPlan::default(), None)?;
    let mut learner = Learner { model, optimizer, objective: Objective::Sigmoid };
    let clock = SystemClock::start();
    let score = median(&clock, args.repeats, || {
        learner.embed(&mut pass, &batch)?;
        Ok(pass.wait()?)
    })?;
    let training = median(&clock, args.repeats, || {
        learner.step(&mut pass, &batch, 1e-3, 0.0)?.arrive()?;
        Ok(pass.wait()?)
    })?;
    let line = serde_json::json!({
        "preset": args.preset, "batch": args.batch, "precision": "f32",
        "device": open::word(&device), "threads": device.threads(),
        "score_ips": args.batch as f64 / score, "step_ips": args.batch as f64 / training,
        "score_gflops": learner.forward_flops(args.batch) / score / 1e9,
        "step_gflops": learner.training_flops(args.batch) / training / 1e9,
    });
    println!("{line}");
    Ok(())
}

/// Median seconds of `work` after some warm-ups.
fn median(clock: &SystemClock, repeats: usize, mut work: impl FnMut() -> Result<()>) -> Result<f64> {
    let mut seconds = Vec::new();
    for repeat in 0..WARM_UPS + repeats.max(1) {
        let start = clock.now();
        work()?;
        if repeat >= WARM_UPS {
            seconds.push((clock.now() - start).as_secs_f64());
        }
    }
    seconds.sort_by(f64::total_cmp);
    Ok(seconds[seconds.len() / 2])
}

/// Pictures of noise and captions of full length.
pub(crate) fn synthetic(config: &ModelConfig, n: usize) -> SuperBatch {
    let (side, l, vocab) = (config.vision.image_size, config.text.tokens, config.text.vocab_size as u64);
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 33
    };
    SuperBatch {
        ids: (0..n).map(|i| ExampleId::from_bytes((i as u128).to_le_bytes())).collect(),
        keys: (0..n).map(|i| i.to_string()).collect(),
        sources: vec!["synthetic".into(); n],
        captions: vec![String::new(); n],
        json: vec![None; n],
        labels: vec![None; n],
        rgb: (0..n * side * side * 3).map(|_| next() as u8).collect(),
        tokens: (0..n * l).map(|_| (next() % vocab) as u32).collect(),
        lengths: vec![l as u32; n],
        preprocess: Preprocess::siglip(side),
        text_tokens: l,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_synthetic_batch_trains_and_the_loss_falls() {
        let device = jest_kernels::Device::open(&jest_kernels::DeviceRequest::Cpu, Default::default()).unwrap();
        let mut pass = device.pass();
        let config = Preset::Mu.config();
        let batch = synthetic(&config, 16);
        let model = TwoTowers::new(&mut pass, &config, 0).unwrap();
        let optimizer = Optimizer::new(&mut pass, &model, OptimizerPlan::default(), None).unwrap();
        let mut learner = Learner { model, optimizer, objective: Objective::Sigmoid };
        let mut losses = Vec::new();
        for _ in 0..30 {
            losses.push(learner.step(&mut pass, &batch, 1e-3, 0.0).unwrap().arrive().unwrap().loss);
        }
        assert!(losses[29] < 0.5 * losses[0], "{losses:?}");
    }
}

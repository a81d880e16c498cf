//! `jest bench step`: whole training steps and scoring passes on synthetic examples, timed.

use std::sync::OnceLock;
use std::time::Duration;

use jest_data::{ExampleId, Preprocess, SuperBatch};
use jest_kernels::{Device, DeviceKind};
use jest_model::{ModelConfig, Preset, TwoTowers, View};

use super::open;
use crate::cli::BenchStepArgs;
use crate::clock::{Clock, SystemClock};
use crate::config::{MemoryPlan, Objective, OptimizerPlan};
use crate::learner::Learner;
use crate::optimizer::Optimizer;
use crate::profile::{Ceiling, table};
use crate::say::say;
use crate::{Result, resources};

const WARM_UPS: usize = 2;

/// Prints examples per second of scoring and of training, medians; with `json` as one JSON line, the last.
pub(super) fn step(args: &BenchStepArgs) -> Result<()> {
    let device = open::device_in(&args.on, args.precision)?;
    device.enter(|| time_steps(args, &device))
}

fn time_steps(args: &BenchStepArgs, device: &Device) -> Result<()> {
    let mut pass = device.pass();
    let config = args.preset.parse::<Preset>()?.config();
    let batch = synthetic(&config, args.batch);
    let model = TwoTowers::new(&mut pass, &config, 0)?;
    let optimizer = Optimizer::new(&mut pass, &model, OptimizerPlan::default(), None)?;
    let memory = MemoryPlan { micro_batch: args.micro_batch.map(usize::from), recompute: args.recompute };
    let mut learner =
        Learner::new(model, optimizer, Objective::Sigmoid).with_memory(memory).with_precision(args.precision, None);
    let score = median(args.repeats, || {
        learner.embed(&mut pass, &batch)?;
        Ok(pass.wait()?)
    })?;
    let mut recording = Vec::new();
    let mut train = || {
        let start = now();
        let numbers = learner.step(&mut pass, &batch, 1e-3, 0.0)?;
        recording.push((now() - start).as_secs_f64());
        numbers.arrive()?;
        Ok(pass.wait()?)
    };
    let training = median(args.repeats, &mut train)?;
    // Before the ceiling is measured, which takes memory of its own.
    let (peak_rss_mb, peak_device_bytes) = (resources::peak_rss_mb(), device.buffers().peak);
    let profile = if args.profile { Some(profile(device, train)?) } else { None };
    let recording = middle(recording.into_iter().skip(WARM_UPS).take(args.repeats.max(1)).collect());
    let ips = |seconds: f64| args.batch as f64 / seconds;
    let gflops = |flops: f64, seconds: f64| flops / seconds / 1e9;
    let [score_gflops, step_gflops] = [
        gflops(learner.forward_flops(&batch.lengths, &View::default()), score),
        gflops(learner.training_flops(&batch.lengths), training),
    ];
    say!(
        "{} batch {} on {}, {} threads: scoring {:.1} examples/s ({score_gflops:.1} GFLOP/s), training {:.1} examples/s \
         ({step_gflops:.1} GFLOP/s), {peak_rss_mb} MB at most",
        args.preset,
        args.batch,
        open::word(device),
        device.threads(),
        ips(score),
        ips(training)
    );
    if args.json {
        let on_gpu = device.info().kind == DeviceKind::Gpu;
        let mut line = open::setting(device);
        let measured = serde_json::json!({
            "preset": args.preset, "batch": args.batch, "precision": args.precision.to_string(),
            "micro_batch": args.micro_batch, "recompute": args.recompute,
            "score_ips": ips(score), "step_ips": ips(training),
            "score_gflops": score_gflops, "step_gflops": step_gflops,
            "recording_seconds": on_gpu.then_some(recording), "profile": profile,
            "peak_rss_mb": peak_rss_mb, "peak_device_bytes": peak_device_bytes,
        });
        line.extend(measured.as_object().cloned().unwrap_or_default());
        say!("{}", serde_json::Value::from(line));
    }
    Ok(())
}

/// Prints where the time of one call goes; the same as JSON.
fn profile(device: &Device, work: impl FnOnce() -> Result<()>) -> Result<serde_json::Value> {
    let ceiling = Ceiling::measure(device, now)?;
    device.start_profile(now);
    let start = now();
    work()?;
    let whole = now() - start;
    let kernels = device.stop_profile().kernels;
    say!("{}", table(&kernels, whole, ceiling).trim_end());
    let busy: Duration = kernels.iter().map(|kernel| kernel.time).sum();
    let seconds = |time: Duration| time.as_secs_f64();
    let rows = kernels.iter().map(|kernel| {
        serde_json::json!({
            "kernel": kernel.name, "calls": kernel.calls, "seconds": seconds(kernel.time),
            "flops": kernel.flops, "bytes": kernel.bytes,
        })
    });
    Ok(serde_json::json!({
        "ceiling_gflops": ceiling.gflops, "ceiling_gbytes": ceiling.gbytes, "seconds": seconds(whole),
        "host_seconds": seconds(whole.saturating_sub(busy)), "kernels": rows.collect::<Vec<_>>(),
    }))
}

/// Time since the first call.
pub(super) fn now() -> Duration {
    static START: OnceLock<SystemClock> = OnceLock::new();
    START.get_or_init(SystemClock::start).now()
}

/// Median seconds of `work` after some warm-ups.
pub(super) fn median(repeats: usize, mut work: impl FnMut() -> Result<()>) -> Result<f64> {
    let mut seconds = Vec::new();
    for repeat in 0..WARM_UPS + repeats.max(1) {
        let start = now();
        work()?;
        if repeat >= WARM_UPS {
            seconds.push((now() - start).as_secs_f64());
        }
    }
    Ok(middle(seconds))
}

/// The median of some numbers.
fn middle(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
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
    use jest_kernels::{DeviceOptions, DeviceRequest, Precision};

    use super::*;

    #[test]
    fn a_synthetic_batch_trains_and_the_loss_falls() {
        for precision in [Precision::F32, Precision::Bf16, Precision::F16] {
            let options = DeviceOptions { precision, ..Default::default() };
            let mut pass = Device::open(&DeviceRequest::Cpu, options).unwrap().pass();
            let config = Preset::Mu.config();
            let batch = synthetic(&config, 16);
            let model = TwoTowers::new(&mut pass, &config, 0).unwrap();
            let optimizer = Optimizer::new(&mut pass, &model, OptimizerPlan::default(), None).unwrap();
            let mut learner = Learner::new(model, optimizer, Objective::Sigmoid).with_precision(precision, None);
            let mut losses = Vec::new();
            for _ in 0..30 {
                losses.push(learner.step(&mut pass, &batch, 1e-3, 0.0).unwrap().arrive().unwrap().loss);
            }
            assert!(losses[29] < 0.5 * losses[0], "{precision}: {losses:?}");
        }
    }
}

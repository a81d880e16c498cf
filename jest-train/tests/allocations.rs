//! Once warm, losses, scores and a training step take their memory from the device, not from the allocator.
#![expect(clippy::unwrap_used, reason = "a test's own data")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use jest_data::{ExampleId, Preprocess, SuperBatch};
use jest_kernels::ops::sigmoid_loss::LogitParameters;
use jest_kernels::ops::softmax_cross_entropy::{self, Labels};
use jest_kernels::ops::{contrastive_distillation, contrastive_softmax, selection_scores, sigmoid_loss};
use jest_kernels::{Device, DeviceOptions, DeviceRequest, Pass, Precision, Tensor};
use jest_model::{ModelConfig, Preset, TwoTowers};
use jest_train::config::{Objective, OptimizerPlan};
use jest_train::learner::Learner;
use jest_train::optimizer::Optimizer;

/// Bytes above which an allocation is one too many: names, shapes and lists of parameters are below.
const SMALL: usize = 4096;
/// Alignment of what the GEMM library packs into, at each call: it multiplies f32 where the processor has no matrix unit,
/// and what is shorter than 32 everywhere.
const OF_GEMM: usize = 128;

struct Counting;

static BYTES: AtomicUsize = AtomicUsize::new(0);
static LARGEST: AtomicUsize = AtomicUsize::new(0);

fn note(layout: Layout) {
    // Beside it the library keeps a short list of bytes.
    let of_gemm = layout.align() == OF_GEMM || layout.align() == 1 && layout.size() <= SMALL;
    if !of_gemm {
        BYTES.fetch_add(layout.size(), Relaxed);
        LARGEST.fetch_max(layout.size(), Relaxed);
    }
}

// SAFETY: the system's allocator does everything; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout);
        // SAFETY: as the caller promises.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Repeats a call until it is warm; then none of its allocations is large, all together stay below `most` bytes a call,
/// and do not grow.
fn check(name: &str, most: usize, mut call: impl FnMut()) {
    const CALLS: usize = 8;
    let mut bytes_of_calls = || {
        let before = BYTES.load(Relaxed);
        (0..CALLS).for_each(|_| call());
        (BYTES.load(Relaxed) - before) / CALLS
    };
    bytes_of_calls();
    LARGEST.store(0, Relaxed);
    let (early, late) = (bytes_of_calls(), bytes_of_calls());
    let largest = LARGEST.load(Relaxed);
    assert!(largest <= SMALL, "{name}: {largest} bytes at once");
    // The list that hands work to the device's threads takes a piece of memory every so many operations.
    assert!(late <= early + SMALL / 2 && late <= most, "{name}: {early}, then {late} bytes a call");
}

/// One thread, so that it has done everything when it is warm: each keeps memory of its own.
fn pass(precision: Precision) -> Pass {
    let options = DeviceOptions { threads: 1, precision, ..Default::default() };
    Device::open(&DeviceRequest::Cpu, options).unwrap().pass()
}

/// [n, d] of unit rows that are not alike.
fn rows(pass: &mut Pass, [n, d]: [usize; 2], seed: usize) -> Tensor {
    let values: Vec<f32> = (0..n * d).map(|i| ((i * 7 + i / d * 13 + seed) as f32).sin() / (d as f32).sqrt()).collect();
    pass.upload(&values, &[n, d]).unwrap()
}

fn losses() {
    const N: usize = 700;
    const MOST: usize = 8192;
    let mut pass = pass(Precision::F32);
    let pass = &mut pass;
    let [image, text] = [1, 2].map(|seed| rows(pass, [N, 48], seed));
    let [their_image, their_text] = [3, 4].map(|seed| rows(pass, [N, 64], seed));
    let (log_scale, bias) = (pass.upload(&[2.0], &[1]).unwrap(), pass.upload(&[-5.0], &[1]).unwrap());
    let (mut dscale, mut dbias) = (pass.zeros(&[1]).unwrap(), pass.zeros(&[1]).unwrap());
    let logits = LogitParameters { log_scale: &log_scale, bias: &bias };
    check("sigmoid loss", MOST, || {
        sigmoid_loss::forward(pass, &image, &text, logits).unwrap();
        sigmoid_loss::forward_backward(pass, &image, &text, logits, &mut dscale, &mut dbias).unwrap();
    });
    check("contrastive softmax", MOST, || {
        contrastive_softmax::forward(pass, &image, &text, &log_scale).unwrap();
        contrastive_softmax::forward_backward(pass, &image, &text, &log_scale, &mut dscale).unwrap();
    });
    let student = contrastive_distillation::Embedded { image: &image, text: &text, log_scale: &log_scale };
    let teacher = contrastive_distillation::Embedded { image: &their_image, text: &their_text, log_scale: &log_scale };
    check("distillation", MOST, || {
        contrastive_distillation::forward_backward(pass, student, teacher, 0.5, &mut dscale).unwrap();
    });
    let labels: Vec<u32> = (0..9000).map(|i| i % 40).collect();
    let labels = Labels::upload(pass, &labels, 40).unwrap();
    let of_classes = rows(pass, [9000, 40], 5);
    check("cross-entropy", MOST, || {
        softmax_cross_entropy::forward(pass, &of_classes, &labels).unwrap();
        softmax_cross_entropy::forward_backward(pass, &of_classes, &labels).unwrap();
    });
    let candidates = selection_scores::Candidates { image: &image, text: &text, log_scale: &log_scale, bias: &bias };
    let (open, chunk): (Vec<u32>, Vec<u32>) = (0..N as u32).partition(|candidate| candidate % 4 > 0);
    let mut conditional = pass.zeros(&[N]).unwrap();
    check("selection scores", MOST, || {
        let draw = selection_scores::Draw { open: &open, chunk: &chunk };
        selection_scores::diagonal(pass, 1.0, candidates, &mut conditional).unwrap();
        selection_scores::condition_on(pass, 1.0, candidates, draw, &mut conditional).unwrap();
    });
}

fn batch(config: &ModelConfig, n: usize) -> SuperBatch {
    let (side, l, vocab) = (config.vision.image_size, config.text.tokens, config.text.vocab_size);
    SuperBatch {
        ids: (0..n).map(|i| ExampleId::from_bytes((i as u128).to_le_bytes())).collect(),
        keys: (0..n).map(|i| i.to_string()).collect(),
        sources: vec!["made up".into(); n],
        captions: vec![String::new(); n],
        json: vec![None; n],
        labels: vec![None; n],
        rgb: (0..n * side * side * 3).map(|i| (i * 31 % 251) as u8).collect(),
        // Some ids often, so that their sums are split.
        tokens: (0..n * l).map(|i| if i % 3 == 0 { 1 } else { (i * 17 % vocab) as u32 }).collect(),
        lengths: vec![l as u32; n],
        preprocess: Preprocess::siglip(side),
        text_tokens: l,
    }
}

/// A whole update, and scoring, at `batch` examples.
fn steps(precision: Precision, objective: Objective, n: usize) {
    let mut pass = pass(precision);
    let config = Preset::Mu.config();
    let batch = batch(&config, n);
    let model = TwoTowers::new(&mut pass, &config, 0).unwrap();
    let optimizer = Optimizer::new(&mut pass, &model, OptimizerPlan::default(), None).unwrap();
    let mut learner = Learner::new(model, optimizer, objective).with_precision(precision, None);
    check(&format!("{precision} {objective:?} step of {n}"), 192 << 10, || {
        drop(learner.embed(&mut pass, &batch).unwrap());
        learner.step(&mut pass, &batch, 1e-3, 1e-2).unwrap().arrive().unwrap();
    });
}

#[test]
fn the_steady_state_takes_no_memory() {
    losses();
    for precision in [Precision::F32, Precision::Bf16, Precision::F16] {
        for n in [24, 96] {
            steps(precision, Objective::Sigmoid, n);
        }
    }
    steps(Precision::F32, Objective::Softmax, 96);
}

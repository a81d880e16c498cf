//! Throughput of every operation at the sizes of B/16 and of the quickstart model, in GFLOP/s or GB/s.
//!
//! `cargo bench -p jest-kernels` measures the CPU device in f32; `JEST_BENCH_DEVICE=gpu` another one, `JEST_BENCH_PRECISION=f16`
//! in another precision, `JEST_BENCH_SUBGROUPS=off` the kernels that a GPU without subgroups is given.

#[path = "throughput/rare.rs"]
mod rare;

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use jest_kernels::ops::{adamw, add, attention, cast, column_sum, contrastive_softmax, gather_tokens, gelu};
use jest_kernels::ops::{global_norm, l2_normalize, layer_norm, matmul, patch_embed, resize_kernel};
use jest_kernels::ops::{selection_scores, sigmoid_loss, softmax_cross_entropy, token_embedding};
use jest_kernels::testing::random;
use jest_kernels::{Device, DeviceLimits, DeviceOptions, DeviceRequest, Pass, Result, Tensor};

/// Sizes of a tower as its operations meet them.
struct Size<'a> {
    name: &'a str,
    /// Examples and tokens each.
    n: usize,
    l: usize,
    width: usize,
    heads: usize,
    mlp: usize,
    /// Examples of a loss.
    batch: usize,
}

const SIZES: [Size<'static>; 2] = [
    Size { name: "b16", n: 8, l: 196, width: 768, heads: 12, mlp: 3072, batch: 1024 },
    Size { name: "quickstart", n: 128, l: 16, width: 96, heads: 3, mlp: 384, batch: 128 },
];

type Work = Box<dyn FnMut(&mut Pass) -> Result<()>>;

/// One benchmark: how much work a call is, and the call.
struct Case {
    name: &'static str,
    throughput: Throughput,
    work: Work,
}

fn flops(name: &'static str, flops: f64, work: impl FnMut(&mut Pass) -> Result<()> + 'static) -> Case {
    Case { name, throughput: Throughput::Elements(flops as u64), work: Box::new(work) }
}

fn bytes(name: &'static str, floats: usize, work: impl FnMut(&mut Pass) -> Result<()> + 'static) -> Case {
    Case { name, throughput: Throughput::Bytes(floats as u64 * 4), work: Box::new(work) }
}

/// Wall time, told as GFLOP/s where the elements are operations, and as GB/s.
struct Rates;

impl Measurement for Rates {
    type Intermediate = Instant;
    type Value = Duration;

    fn start(&self) -> Instant {
        WallTime.start()
    }

    fn end(&self, start: Instant) -> Duration {
        WallTime.end(start)
    }

    fn add(&self, a: &Duration, b: &Duration) -> Duration {
        WallTime.add(a, b)
    }

    fn zero(&self) -> Duration {
        WallTime.zero()
    }

    fn to_f64(&self, value: &Duration) -> f64 {
        WallTime.to_f64(value)
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        self
    }
}

impl ValueFormatter for Rates {
    fn scale_values(&self, typical: f64, values: &mut [f64]) -> &'static str {
        WallTime.formatter().scale_values(typical, values)
    }

    fn scale_throughputs(&self, typical: f64, throughput: &Throughput, values: &mut [f64]) -> &'static str {
        // Values are nanoseconds: work over them is in units of 1e9 a second.
        let (work, unit) = match throughput {
            Throughput::Elements(flops) => (*flops, "GFLOP/s"),
            Throughput::Bytes(bytes) => (*bytes, "GB/s"),
            other => return WallTime.formatter().scale_throughputs(typical, other, values),
        };
        values.iter_mut().for_each(|nanoseconds| *nanoseconds = work as f64 / *nanoseconds);
        unit
    }

    fn scale_for_machines(&self, values: &mut [f64]) -> &'static str {
        WallTime.formatter().scale_for_machines(values)
    }
}

fn tensor(pass: &mut Pass, shape: &[usize]) -> Result<Tensor> {
    pass.upload(&random(shape.iter().product(), 1), shape)
}

fn products(pass: &mut Pass, s: &Size<'_>) -> Result<Vec<Case>> {
    let rows = s.n * s.l;
    let x = tensor(pass, &[rows, s.width])?;
    let w = tensor(pass, &[s.mlp, s.width])?;
    let bias = tensor(pass, &[s.mlp])?;
    let dy = tensor(pass, &[rows, s.mlp])?;
    let mut dw = pass.zeros(&[s.mlp, s.width])?;
    let work = 2.0 * (rows * s.width * s.mlp) as f64;
    let (x1, w1, b1) = (x.clone(), w.clone(), bias.clone());
    let (w2, dy2) = (w.clone(), dy.clone());
    Ok(vec![
        flops("matmul/linear", work, move |pass| matmul::linear(pass, &x1, &w1, &b1).map(drop)),
        flops("matmul/linear_gelu", work, {
            let x = x.clone();
            move |pass| matmul::linear_gelu(pass, gelu::Gelu::Tanh, &x, &w, &bias).map(drop)
        }),
        flops("matmul/dx", work, move |pass| matmul::forward(pass, matmul::Form::AB, &dy2, &w2).map(drop)),
        flops("matmul/dw", work, move |pass| matmul::accumulate(pass, matmul::Form::AtB, &dy, &x, &mut dw)),
    ])
}

fn attentions(pass: &mut Pass, s: &Size<'_>) -> Result<Vec<Case>> {
    let qkv = tensor(pass, &[s.n * s.l, 3 * s.width])?;
    let dy = tensor(pass, &[s.n * s.l, s.width])?;
    let head_dim = s.width / s.heads;
    let shape = attention::Attention {
        n: s.n,
        heads: s.heads,
        head_dim,
        q_len: s.l,
        k_len: s.l,
        mask: attention::Mask::None,
        shared_query: false,
    };
    let work = 4.0 * (s.n * s.l * s.l * s.width) as f64;
    let (shape2, qkv2) = (shape, qkv.clone());
    let pooled = attention::Attention { q_len: 1, shared_query: true, ..shape };
    let (probe, kv) = (tensor(pass, &[1, s.width])?, tensor(pass, &[s.n * s.l, 2 * s.width])?);
    let dpooled = tensor(pass, &[s.n, s.width])?;
    Ok(vec![
        flops("attention/forward", work, move |pass| attention::forward_packed(pass, &shape, &qkv, None).map(drop)),
        flops("attention/forward+backward", 3.5 * work, move |pass| {
            let (_, saved) = attention::forward_packed(pass, &shape2, &qkv2, None)?;
            attention::backward_packed(pass, saved, &dy).map(drop)
        }),
        flops("attention/pooled_forward+backward", 3.5 * work / s.l as f64, move |pass| {
            let (_, saved) = attention::forward_pooled(pass, &pooled, &probe, &kv, None)?;
            attention::backward_pooled(pass, saved, &dpooled).map(drop)
        }),
    ])
}

fn rows(pass: &mut Pass, s: &Size<'_>) -> Result<Vec<Case>> {
    let count = s.n * s.l * s.width;
    let x = tensor(pass, &[s.n * s.l, s.width])?;
    let wide = tensor(pass, &[s.n * s.l, s.mlp])?;
    let gamma = tensor(pass, &[s.width])?;
    let (mut dgamma, mut dbeta) = (pass.zeros(&[s.width])?, pass.zeros(&[s.width])?);
    let mut sums = pass.zeros(&[s.width])?;
    let [x1, x2, x3, x4, x5, x6, x7, x8, x9] = std::array::from_fn(|_| x.clone());
    let (table, mut dtable) = (tensor(pass, &[s.l, s.width])?, pass.zeros(&[s.l, s.width])?);
    let half = cast::to_f16(pass, &x)?;
    let (wide2, wide3, gamma2) = (wide.clone(), wide.clone(), gamma.clone());
    Ok(vec![
        bytes("layer_norm/forward", 2 * count, move |pass| {
            layer_norm::forward(pass, &x1, &gamma, &gamma, 1e-6).map(drop)
        }),
        bytes("layer_norm/forward+backward", 5 * count, move |pass| {
            let (y, saved) = layer_norm::forward(pass, &x2, &gamma2, &gamma2, 1e-6)?;
            layer_norm::backward(pass, saved, &gamma2, &y, &mut dgamma, &mut dbeta).map(drop)
        }),
        bytes("gelu/forward", 2 * s.n * s.l * s.mlp, move |pass| {
            gelu::forward(pass, gelu::Gelu::Tanh, &wide).map(drop)
        }),
        bytes("gelu/forward_with_slope", 3 * s.n * s.l * s.mlp, move |pass| {
            gelu::forward_with_slope(pass, gelu::Gelu::Tanh, &wide2).map(drop)
        }),
        bytes("gelu/backward", 3 * s.n * s.l * s.mlp, move |pass| gelu::backward(pass, &wide3, &wide3).map(drop)),
        bytes("add/forward", 3 * count, move |pass| add::forward(pass, &x3, &x3).map(drop)),
        bytes("add/rows_forward", 2 * count, move |pass| add::forward_rows(pass, &x7, &table).map(drop)),
        bytes("add/rows_backward", count, move |pass| add::backward_rows(pass, &x8, &mut dtable)),
        bytes("column_sum", count, move |pass| column_sum::accumulate(pass, &x4, &mut sums)),
        bytes("l2_normalize/forward", 2 * count, move |pass| l2_normalize::forward(pass, &x5).map(drop)),
        bytes("l2_normalize/forward+backward", 5 * count, move |pass| {
            let (z, saved) = l2_normalize::forward(pass, &x9)?;
            l2_normalize::backward(pass, saved, &z).map(drop)
        }),
        bytes("cast/to_f16", count * 3 / 2, move |pass| cast::to_f16(pass, &x6).map(drop)),
        bytes("cast/to_f32", count * 3 / 2, move |pass| cast::to_f32(pass, &half).map(drop)),
    ])
}

fn embeddings(pass: &mut Pass, s: &Size<'_>) -> Result<Vec<Case>> {
    let (vocab, patch) = (4096, if s.name == "b16" { 16 } else { 8 });
    let side = patch * (s.l as f64).sqrt() as usize;
    let images = tensor(pass, &[s.n, 3, side, side])?;
    let (weight, bias) = (tensor(pass, &[s.width, 3, patch, patch])?, tensor(pass, &[s.width])?);
    let ids: Vec<u32> = (0..s.n * s.l).map(|i| (i * 7919 % vocab) as u32).collect();
    let ids = token_embedding::TokenIds::upload(pass, &ids, s.n, s.l, vocab)?;
    let (table, posemb) = (tensor(pass, &[vocab, s.width])?, tensor(pass, &[s.l, s.width])?);
    let kept: Vec<u32> = (0..s.n).flat_map(|_| (0..s.l as u32).step_by(2)).collect();
    let half = s.l.div_ceil(2);
    let kept = gather_tokens::KeptTokens::upload(pass, &kept, s.n, half, s.l)?;
    let x = tensor(pass, &[s.n * s.l, s.width])?;
    let gradient = tensor(pass, &[s.n * s.l, s.width])?;
    let (mut dweight, mut dbias) = (pass.zeros(weight.shape())?, pass.zeros(&[s.width])?);
    let (mut dtable, mut dposemb) = (pass.zeros(table.shape())?, pass.zeros(posemb.shape())?);
    let (images2, weight2, bias2, gradient2) = (images.clone(), weight.clone(), bias.clone(), gradient.clone());
    let (ids2, kept2) = (ids.clone(), kept.clone());
    let dkept = tensor(pass, &[s.n * half, s.width])?;
    let patches = 2.0 * (s.n * (side / patch).pow(2) * s.width * 3 * patch * patch) as f64;
    Ok(vec![
        flops("patch_embed/forward", patches, move |pass| {
            patch_embed::forward(pass, &images, patch, &weight, &bias).map(drop)
        }),
        flops("patch_embed/forward+backward", 2.0 * patches, move |pass| {
            let (_, saved) = patch_embed::forward(pass, &images2, patch, &weight2, &bias2)?;
            patch_embed::backward(pass, saved, &gradient2, &mut dweight, &mut dbias)
        }),
        bytes("token_embedding/backward", 2 * s.n * s.l * s.width, move |pass| {
            token_embedding::backward(pass, &ids2, &gradient, &mut dtable, &mut dposemb)
        }),
        bytes("gather_tokens/backward", 2 * s.n * half * s.width, move |pass| {
            gather_tokens::backward(pass, &dkept, &kept2).map(drop)
        }),
        bytes("token_embedding/forward", 2 * s.n * s.l * s.width, move |pass| {
            token_embedding::forward(pass, &ids, &table, &posemb).map(drop)
        }),
        bytes("gather_tokens/forward", 2 * s.n * half * s.width, move |pass| {
            gather_tokens::forward(pass, &x, &kept).map(drop)
        }),
    ])
}

fn resizes(pass: &mut Pass, s: &Size<'_>) -> Result<Vec<Case>> {
    let patch = if s.name == "b16" { 16 } else { 8 };
    let matrix = resize_kernel::matrix(resize_kernel::Resize::Bilinear, patch, 2 * patch);
    let matrix = pass.upload(&matrix, &[4 * patch * patch, patch * patch])?;
    let w = tensor(pass, &[s.width, 3, patch, patch])?;
    let dnew = tensor(pass, &[s.width, 3, 2 * patch, 2 * patch])?;
    let mut dw = pass.zeros(w.shape())?;
    let work = 2.0 * (s.width * 3 * 4 * patch.pow(4)) as f64;
    let matrix2 = matrix.clone();
    Ok(vec![
        flops("resize_kernel/forward", work, move |pass| {
            resize_kernel::forward(pass, &w, &matrix, 2 * patch).map(drop)
        }),
        flops("resize_kernel/backward", work, move |pass| resize_kernel::backward(pass, &dnew, &matrix2, &mut dw)),
    ])
}

fn losses(pass: &mut Pass, s: &Size<'_>) -> Result<Vec<Case>> {
    let (n, d) = (s.batch, s.width);
    let unit = |pass: &mut Pass, rows: usize| -> Result<Tensor> {
        let x = tensor(pass, &[rows, d])?;
        Ok(l2_normalize::forward(pass, &x)?.0)
    };
    let (image, text) = (unit(pass, n)?, unit(pass, n)?);
    let (log_scale, bias) = (pass.upload(&[2.3], &[1])?, pass.upload(&[-10.0], &[1])?);
    let (mut dscale, mut dbias, mut dscale2) = (pass.zeros(&[1])?, pass.zeros(&[1])?, pass.zeros(&[1])?);
    let logits = tensor(pass, &[n, 1024])?;
    let labels = softmax_cross_entropy::Labels::upload(pass, &vec![3; n], 1024)?;
    let pairs = 6.0 * (n * n * d) as f64;
    let (image2, text2, scale2) = (image.clone(), text.clone(), log_scale.clone());
    let (image3, text3, scale3, bias3) = (image.clone(), text.clone(), log_scale.clone(), bias.clone());
    let chunk: Vec<u32> = (0..n as u32 / 16).collect();
    let open: Vec<u32> = (0..n as u32).collect();
    let (mut conditional, mut diagonal) = (pass.zeros(&[n])?, pass.zeros(&[n])?);
    let (image4, text4, scale4, bias4) = (image.clone(), text.clone(), log_scale.clone(), bias.clone());
    let (logits2, labels2) = (logits.clone(), labels.clone());
    Ok(vec![
        flops("sigmoid_loss/forward_backward", pairs, move |pass| {
            let parameters = sigmoid_loss::LogitParameters { log_scale: &log_scale, bias: &bias };
            sigmoid_loss::forward_backward(pass, &image, &text, parameters, &mut dscale, &mut dbias).map(drop)
        }),
        flops("contrastive_softmax/forward_backward", pairs, move |pass| {
            contrastive_softmax::forward_backward(pass, &image2, &text2, &scale2, &mut dscale2).map(drop)
        }),
        bytes("softmax_cross_entropy/forward", n * 1024, move |pass| {
            softmax_cross_entropy::forward(pass, &logits, &labels).map(drop)
        }),
        bytes("softmax_cross_entropy/forward_backward", 2 * n * 1024, move |pass| {
            softmax_cross_entropy::forward_backward(pass, &logits2, &labels2).map(drop)
        }),
        bytes("selection_scores/diagonal", 2 * n * d, move |pass| {
            let candidates =
                selection_scores::Candidates { image: &image4, text: &text4, log_scale: &scale4, bias: &bias4 };
            selection_scores::diagonal(pass, 1.0, candidates, &mut diagonal)
        }),
        flops("selection_scores/condition_on", 4.0 * (n * d * chunk.len()) as f64, move |pass| {
            let candidates =
                selection_scores::Candidates { image: &image3, text: &text3, log_scale: &scale3, bias: &bias3 };
            let draw = selection_scores::Draw { open: &open, chunk: &chunk };
            selection_scores::condition_on(pass, 1.0, candidates, draw, &mut conditional)
        }),
    ])
}

fn optimisers(pass: &mut Pass, s: &Size<'_>) -> Result<Vec<Case>> {
    let shape = [s.mlp, s.width];
    let (mut parameter, gradient) = (tensor(pass, &shape)?, tensor(pass, &shape)?);
    let (mut mean, mut square) = (pass.zeros(&shape)?, pass.zeros(&shape)?);
    let norm = pass.upload(&[1.0], &[1])?;
    let count = s.mlp * s.width;
    let gradient2 = gradient.clone();
    let settings = adamw::AdamW {
        gradient_scale: 1.0,
        lr: 1e-3,
        beta1: 0.9,
        beta2: 0.95,
        eps: 1e-8,
        decay: 1e-4,
        step: 1,
        max_norm: Some(1.0),
        max_value: None,
    };
    Ok(vec![
        bytes("adamw/step", 7 * count, move |pass| {
            adamw::step(pass, &settings, &mut parameter, &gradient, [&mut mean, &mut square], &norm)
        }),
        bytes("global_norm", count, move |pass| global_norm::forward(pass, &[&gradient2]).map(drop)),
    ])
}

fn measure(group: &mut BenchmarkGroup<'_, Rates>, pass: &mut Pass, size: &Size<'_>, cases: Vec<Case>) {
    for mut case in cases {
        group.throughput(case.throughput);
        group.bench_function(format!("{}/{}", case.name, size.name), |bencher| {
            bencher.iter(|| {
                black_box((case.work)(pass)).expect("the shapes fit");
                pass.wait().expect("the device works");
            });
        });
    }
}

/// The product of a layer by every tile that it may be given; the usual one of a real GPU is in [`products`].
fn tiles(group: &mut BenchmarkGroup<'_, Rates>, open: &dyn Fn() -> Device, s: &Size<'_>) {
    let [m, n, k] = [s.n * s.l, s.mlp, s.width];
    for (class, tile) in open().tile_choices(matmul::Form::AB, [m, n, k]) {
        let device = open();
        device.use_tiles([(class, tile.to_string())].into());
        let pass = &mut device.pass();
        let (a, b) = (tensor(pass, &[m, k]).expect("a fits"), tensor(pass, &[k, n]).expect("b fits"));
        let product = move |pass: &mut Pass| matmul::forward(pass, matmul::Form::AB, &a, &b).map(drop);
        let case = flops("matmul/tile", 2.0 * (m * n * k) as f64, product);
        let size = Size { name: &format!("{tile}/{}", s.name), ..*s };
        measure(group, pass, &size, vec![case]);
    }
}

/// A word of the environment.
fn named(name: &str, default: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| default.to_string())
}

fn throughput(criterion: &mut Criterion<Rates>) {
    let request: DeviceRequest = named("JEST_BENCH_DEVICE", "cpu").parse().expect("JEST_BENCH_DEVICE names a device");
    let precision = named("JEST_BENCH_PRECISION", "f32").parse().expect("JEST_BENCH_PRECISION names a precision");
    let without_subgroups = named("JEST_BENCH_SUBGROUPS", "on") == "off";
    let limits = DeviceLimits { without_subgroups, ..Default::default() };
    let open =
        || Device::open(&request, DeviceOptions { precision, limits, ..Default::default() }).expect("the device opens");
    let device = open();
    let plain = if without_subgroups { " without subgroups" } else { "" };
    let mut group = criterion.benchmark_group(format!("{} {precision}{plain}", device.info().name));
    group.sample_size(10).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    let pass = &mut device.pass();
    for size in &SIZES {
        tiles(&mut group, &open, size);
        let rare = [rare::elements, rare::distillation];
        for cases in [products, attentions, rows, embeddings, resizes, losses, optimisers].into_iter().chain(rare) {
            let cases = cases(pass, size).expect("the inputs fit the device");
            measure(&mut group, pass, size, cases);
        }
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().with_measurement(Rates);
    targets = throughput
}
criterion_main!(benches);

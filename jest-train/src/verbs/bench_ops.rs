//! `jest bench ops` and `jest bench loss`: single operations at fixed sizes, timed.

use jest_kernels::ops::adamw::{self, AdamW};
use jest_kernels::ops::attention::{self, Attention, Mask};
use jest_kernels::ops::gelu::{self, Gelu};
use jest_kernels::ops::layer_norm;
use jest_kernels::ops::matmul::{self, Form};
use jest_kernels::ops::sigmoid_loss::{self, LogitParameters};
use jest_kernels::ops::softmax_cross_entropy::{self, Labels};
use jest_kernels::testing::{paired_embeddings, random};
use jest_kernels::{Device, Pass};
use serde_json::{Map, Value};

use super::bench::median;
use super::open;
use crate::cli::{BenchLossArgs, BenchOpsArgs};
use crate::profile::calls_at_once;
use crate::say::say;
use crate::{Result, resources};

/// One timed operation.
struct Timed {
    op: String,
    seconds: f64,
    work: Work,
}

/// What a call does: FLOPs of products, or words read and written, each once, where memory counts.
#[derive(Clone, Copy)]
enum Work {
    Flops(f64),
    Words(usize),
}

impl Timed {
    /// 1e9 a second, and of what.
    fn rate(&self) -> (f64, &'static str) {
        let (amount, unit) = match self.work {
            Work::Flops(flops) => (flops, "GFLOP/s"),
            Work::Words(words) => (4.0 * words as f64, "GB/s"),
        };
        (amount / self.seconds / 1e9, unit)
    }
}

/// What was timed on a device.
struct Bench {
    pass: Pass,
    calls: usize,
    repeats: usize,
    all: Vec<Timed>,
}

impl Bench {
    fn new(device: &Device, repeats: usize) -> Self {
        Self { pass: device.pass(), calls: calls_at_once(device), repeats, all: Vec::new() }
    }

    /// The median of a call's time.
    fn time(
        &mut self,
        op: String,
        work: Work,
        mut call: impl FnMut(&mut Pass) -> jest_kernels::Result<()>,
    ) -> Result<()> {
        let (pass, calls) = (&mut self.pass, self.calls);
        let seconds = median(self.repeats, || {
            (0..calls).try_for_each(|_| call(pass))?;
            Ok(pass.wait()?)
        })?;
        self.all.push(Timed { op, seconds: seconds / calls as f64, work });
        Ok(())
    }

    /// The JSON line also has what is in `more`.
    fn print(&self, json: bool, more: Map<String, Value>) {
        for timed in &self.all {
            let (rate, unit) = timed.rate();
            say!("{:<44} {:>10.2} ms {rate:>9.1} {unit}", timed.op, 1e3 * timed.seconds);
        }
        if json {
            let of = |value: fn(&Timed) -> Value| -> Value {
                self.all.iter().map(|timed| (timed.op.clone(), value(timed))).collect::<Map<_, _>>().into()
            };
            let mut line = open::setting(self.pass.device());
            line.extend(more);
            line.insert("seconds".into(), of(|timed| timed.seconds.into()));
            line.insert("rates".into(), of(|timed| serde_json::json!([timed.rate().0, timed.rate().1])));
            say!("{}", Value::from(line));
        }
    }
}

/// What is asked for; or square products of 1024 and 2048, and softmax cross-entropy with its gradient over 4096 x 4096.
pub(super) fn ops(args: &BenchOpsArgs) -> Result<()> {
    let device = open::device_in(&args.on, args.precision)?;
    let mut bench = Bench::new(&device, args.repeats);
    for sizes @ [m, k, n] in &args.products {
        product(&mut bench, &format!("{m}x{k}x{n}"), *sizes)?;
    }
    args.rows.iter().try_for_each(|shape| rows(&mut bench, *shape))?;
    args.attention.iter().try_for_each(|shape| attend(&mut bench, *shape))?;
    if bench.all.is_empty() {
        [1024, 2048].iter().try_for_each(|n| product(&mut bench, &n.to_string(), [*n; 3]))?;
        cross_entropy(&mut bench, [4096; 2])?;
    }
    bench.print(args.json, Map::new());
    Ok(())
}

/// The sigmoid loss of `batch` pairs with its gradients by both embeddings.
pub(super) fn loss(args: &BenchLossArgs) -> Result<()> {
    let device = open::device(&args.on)?;
    let mut bench = Bench::new(&device, args.repeats);
    let (n, d) = (args.batch, args.width);
    let [image, text] = paired_embeddings(n, d);
    let (image, text) = (bench.pass.upload(&image, &[n, d])?, bench.pass.upload(&text, &[n, d])?);
    let (log_scale, bias) = (bench.pass.upload(&[10f32.ln()], &[1])?, bench.pass.upload(&[-10.0], &[1])?);
    let (mut dscale, mut dbias) = (bench.pass.zeros(&[1])?, bench.pass.zeros(&[1])?);
    let before = resources::rss_mb();
    bench.time(format!("sigmoid_loss {n}x{d}"), Work::Flops(6.0 * (n * n * d) as f64), |pass| {
        let parameters = LogitParameters { log_scale: &log_scale, bias: &bias };
        sigmoid_loss::forward_backward(pass, &image, &text, parameters, &mut dscale, &mut dbias).map(drop)
    })?;
    let memory = [("rss_before_mb", before), ("peak_rss_mb", resources::peak_rss_mb())];
    bench.print(args.json, memory.map(|(key, size)| (key.to_string(), size.into())).into_iter().collect());
    Ok(())
}

fn product(bench: &mut Bench, name: &str, [m, k, n]: [usize; 3]) -> Result<()> {
    let (a, b) = (random(m * k, 1), random(k * n, 2));
    let (a, b) = (bench.pass.upload(&a, &[m, k])?, bench.pass.upload(&b, &[k, n])?);
    let op = format!("matmul {} {name}", bench.pass.device().precision());
    let flops = 2.0 * (m * n) as f64 * k as f64;
    bench.time(op, Work::Flops(flops), |pass| matmul::forward(pass, Form::AB, &a, &b).map(drop))
}

/// With its gradient.
fn cross_entropy(bench: &mut Bench, shape @ [rows, cols]: [usize; 2]) -> Result<()> {
    let logits = bench.pass.upload(&random(rows * cols, 1), &shape)?;
    let ids: Vec<u32> = (0..rows).map(|row| (row % cols) as u32).collect();
    let labels = Labels::upload(&mut bench.pass, &ids, cols)?;
    bench.time(format!("softmax_cross_entropy {rows}x{cols}"), Work::Words(2 * rows * cols), |pass| {
        softmax_cross_entropy::forward_backward(pass, &logits, &labels).map(drop)
    })
}

/// What moves memory and computes little.
fn rows(bench: &mut Bench, shape @ [rows, cols]: [usize; 2]) -> Result<()> {
    let (n, size) = (rows * cols, format!("{rows}x{cols}"));
    let x = bench.pass.upload(&random(n, 1), &shape)?;
    let mut to = bench.pass.zeros(&shape)?;
    bench.time(format!("copy {size}"), Work::Words(2 * n), |pass| pass.copy_rows(&x, &mut to, 0))?;
    let gamma = bench.pass.upload(&random(cols, 2), &[cols])?;
    bench.time(format!("layer_norm {size}"), Work::Words(2 * n), |pass| {
        layer_norm::forward(pass, &x, &gamma, &gamma, 1e-6).map(drop)
    })?;
    let (mut dgamma, mut dbeta) = (bench.pass.zeros(&[cols])?, bench.pass.zeros(&[cols])?);
    bench.time(format!("layer_norm with gradient {size}"), Work::Words(5 * n), |pass| {
        let (y, saved) = layer_norm::forward(pass, &x, &gamma, &gamma, 1e-6)?;
        layer_norm::backward(pass, saved, &gamma, &y, &mut dgamma, &mut dbeta).map(drop)
    })?;
    bench.time(format!("gelu {size}"), Work::Words(2 * n), |pass| gelu::forward(pass, Gelu::Tanh, &x).map(drop))?;
    cross_entropy(bench, shape)?;
    let (mut mean, mut square) = (bench.pass.zeros(&shape)?, bench.pass.zeros(&shape)?);
    let norm = bench.pass.upload(&[1.0], &[1])?;
    let settings = AdamW {
        lr: 1e-3,
        beta1: 0.9,
        beta2: 0.95,
        eps: 1e-8,
        decay: 1e-4,
        step: 1,
        gradient_scale: 1.0,
        max_norm: Some(1.0),
        max_value: None,
    };
    bench.time(format!("adamw {size}"), Work::Words(7 * n), |pass| {
        adamw::step(pass, &settings, &mut to, &x, [&mut mean, &mut square], &norm)
    })
}

/// Of a whole batch, with q, k and v in one tensor; without and with the gradient, which is two and a half times the work.
fn attend(bench: &mut Bench, [n, tokens, heads, head_dim]: [usize; 4]) -> Result<()> {
    let (q_len, k_len) = (tokens, tokens);
    let shape = Attention { n, heads, head_dim, q_len, k_len, mask: Mask::None, shared_query: false };
    let (rows, width) = (n * tokens, shape.width());
    let qkv = bench.pass.upload(&random(rows * 3 * width, 1), &[rows, 3 * width])?;
    let dy = bench.pass.upload(&random(rows * width, 2), &[rows, width])?;
    let name = format!("{} {n}x{tokens}x{heads}x{head_dim}", bench.pass.device().precision());
    let flops = 4.0 * (rows * tokens) as f64 * width as f64;
    bench.time(format!("attention {name}"), Work::Flops(flops), |pass| {
        attention::forward_packed(pass, &shape, &qkv, None).map(drop)
    })?;
    bench.time(format!("attention with gradient {name}"), Work::Flops(3.5 * flops), |pass| {
        let (_, saved) = attention::forward_packed(pass, &shape, &qkv, None)?;
        attention::backward_packed(pass, saved, &dy).map(drop)
    })
}

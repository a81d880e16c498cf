//! `jest bench ops` and `jest bench loss`: single operations at fixed sizes, timed.

use jest_kernels::ops::matmul::{self, Form};
use jest_kernels::ops::sigmoid_loss::{self, LogitParameters};
use jest_kernels::ops::softmax_cross_entropy::{self, Labels};
use jest_kernels::testing::{paired_embeddings, random};
use jest_kernels::{Pass, Tensor};

use super::bench::median;
use super::open;
use crate::cli::{BenchLossArgs, BenchOpsArgs};
use crate::{Result, resources};

/// One timed operation.
struct Timed {
    op: String,
    seconds: f64,
    /// Of products; 0 where memory counts.
    flops: f64,
    /// Words read and written, each once.
    words: usize,
}

impl Timed {
    fn rate(&self) -> (f64, &'static str) {
        if self.flops > 0.0 {
            (self.flops / self.seconds / 1e9, "GFLOP/s")
        } else {
            (4.0 * self.words as f64 / self.seconds / 1e9, "GB/s")
        }
    }
}

/// The products that are asked for; or square ones of 1024 and 2048, and softmax cross-entropy with its gradient over
/// 4096 x 4096.
pub(super) fn ops(args: &BenchOpsArgs) -> Result<()> {
    let device = open::open_device(&args.on.device, args.on.threads.unwrap_or(0), args.precision)?;
    let mut pass = device.pass();
    let mut all = Vec::new();
    for sizes @ [m, k, n] in &args.products {
        all.push(product(&mut pass, &format!("{m}x{k}x{n}"), *sizes, args.repeats)?);
    }
    if args.products.is_empty() {
        for n in [1024, 2048] {
            all.push(product(&mut pass, &n.to_string(), [n; 3], args.repeats)?);
        }
        all.push(cross_entropy(&mut pass, 4096, args.repeats)?);
    }
    print(&pass, &all, args.json, serde_json::Map::new());
    Ok(())
}

/// The sigmoid loss of `batch` pairs with its gradients by both embeddings.
pub(super) fn loss(args: &BenchLossArgs) -> Result<()> {
    let device = open::device(&args.on)?;
    let mut pass = device.pass();
    let (n, d) = (args.batch, args.width);
    let [image, text] = paired_embeddings(n, d);
    let (image, text) = (pass.upload(&image, &[n, d])?, pass.upload(&text, &[n, d])?);
    let (log_scale, bias) = (pass.upload(&[10f32.ln()], &[1])?, pass.upload(&[-10.0], &[1])?);
    let (mut dscale, mut dbias) = (pass.zeros(&[1])?, pass.zeros(&[1])?);
    let before = resources::rss_mb();
    let seconds = median(args.repeats, || {
        let parameters = LogitParameters { log_scale: &log_scale, bias: &bias };
        sigmoid_loss::forward_backward(&mut pass, &image, &text, parameters, &mut dscale, &mut dbias)?;
        Ok(pass.wait()?)
    })?;
    let (op, flops) = (format!("sigmoid_loss {n}x{d}"), 6.0 * (n * n * d) as f64);
    let memory = [("rss_before_mb", before), ("peak_rss_mb", resources::peak_rss_mb())];
    let memory = memory.map(|(key, size)| (key.to_string(), size.into())).into_iter().collect();
    print(&pass, &[Timed { op, seconds, flops, words: 0 }], args.json, memory);
    Ok(())
}

fn product(pass: &mut Pass, name: &str, [m, k, n]: [usize; 3], repeats: usize) -> Result<Timed> {
    let (a, b) = (pass.upload(&random(m * k, 1), &[m, k])?, pass.upload(&random(k * n, 2), &[k, n])?);
    let seconds = median(repeats, || {
        matmul::forward(pass, Form::AB, &a, &b)?;
        Ok(pass.wait()?)
    })?;
    Ok(Timed {
        op: format!("matmul {} {name}", pass.device().precision()),
        seconds,
        flops: 2.0 * (m * n) as f64 * k as f64,
        words: 0,
    })
}

fn cross_entropy(pass: &mut Pass, n: usize, repeats: usize) -> Result<Timed> {
    let logits: Tensor = pass.upload(&random(n * n, 1), &[n, n])?;
    let ids: Vec<u32> = (0..n as u32).collect();
    let labels = Labels::upload(pass, &ids, n)?;
    let seconds = median(repeats, || {
        softmax_cross_entropy::forward_backward(pass, &logits, &labels)?;
        Ok(pass.wait()?)
    })?;
    Ok(Timed { op: format!("softmax_cross_entropy {n}x{n}"), seconds, flops: 0.0, words: 2 * n * n })
}

/// The JSON line also has what is in `more`.
fn print(pass: &Pass, all: &[Timed], json: bool, mut more: serde_json::Map<String, serde_json::Value>) {
    for timed in all {
        let (rate, unit) = timed.rate();
        println!("{:<36} {:>10.2} ms {rate:>9.1} {unit}", timed.op, 1e3 * timed.seconds);
    }
    if json {
        let seconds: serde_json::Map<_, _> = all.iter().map(|t| (t.op.clone(), t.seconds.into())).collect();
        let device = pass.device();
        more.insert("device".into(), open::word(device).into());
        more.insert("threads".into(), device.threads().into());
        more.insert("seconds".into(), seconds.into());
        println!("{}", serde_json::Value::from(more));
    }
}

//! Sigmoid loss of a batch: `(1/n) sum_ij softplus(-z_ij L_ij)`, `L = t image · textᵀ + bias`, z = 2 I - 1.

mod cpu;
pub mod oracle;
#[cfg(test)]
mod tests;

use super::matmul::{self, Form};
use crate::catalog::{Kernel, Sent, Variant, parameters};
use crate::profile::Work;
use crate::rows::Bound;
use crate::stripes;
use crate::{Grid, Pass, Result, Tensor};

const OP: &str = "sigmoid_loss";

const SOURCE: &[&str] = &[
    include_str!("../../wgsl/reduce.wgsl"),
    include_str!("../../wgsl/exp_exact.wgsl"),
    include_str!("../../wgsl/softplus.wgsl"),
    include_str!("sigmoid_loss.wgsl"),
];
static LOSSES: Kernel = Kernel {
    name: "sigmoid_loss/losses",
    entry: "losses",
    parts: SOURCE,
    constants: &[("WG", 64)],
    parameters: Parameters::FIELDS,
};
static GRADIENT: Kernel = Kernel {
    name: "sigmoid_loss/gradient",
    entry: "gradient",
    parts: SOURCE,
    constants: &[("WG", 64)],
    parameters: Parameters::FIELDS,
};
static FINISH: Kernel = Kernel {
    name: "sigmoid_loss/finish",
    entry: "finish",
    parts: SOURCE,
    constants: &[("WG", 256)],
    parameters: Parameters::FIELDS,
};

pub(crate) fn variants() -> Vec<Variant> {
    let mut all = stripes::gpu::variants();
    all.extend([&LOSSES, &GRADIENT, &FINISH].map(Kernel::default_variant));
    all
}

parameters! {
    struct Parameters {
        rows: u32,
        n: u32,
        first: u32,
    }
}

/// What turns a cosine into a logit: `exp(log_scale) * cosine + bias`.
#[derive(Clone, Copy, Debug)]
pub struct LogitParameters<'a> {
    /// Logarithm of the logit scale: `[1]`.
    pub log_scale: &'a Tensor,
    /// Logit bias: `[1]`.
    pub bias: &'a Tensor,
}

impl LogitParameters<'_> {
    /// Refuses other shapes, types and devices.
    pub(crate) fn check(&self, pass: &Pass, op: &'static str) -> Result<()> {
        pass.admit(op, &[("log_scale", self.log_scale), ("bias", self.bias)])?;
        self.log_scale.expect_f32(op, "log_scale", &[1])?;
        self.bias.expect_f32(op, "bias", &[1])
    }

    fn logits(&self) -> cpu::Logits {
        cpu::Logits { scale: self.log_scale.f32()[0].exp(), bias: self.bias.f32()[0] }
    }
}

/// `loss = (1/n) sum_ij softplus(-z_ij (t image_i · text_j + bias))`.
///
/// # Shapes
/// image, text: [n, d]; loss: `[1]`.
///
/// # Errors
/// `Shape` when image and text differ, or a parameter is not a single number.
///
/// # Source
/// Zhai et al., "Sigmoid loss for language image pre-training": the sum is divided by n, not by n².
pub fn forward(pass: &mut Pass, image: &Tensor, text: &Tensor, parameters: LogitParameters<'_>) -> Result<Tensor> {
    let (n, d) = check(pass, image, text, parameters)?;
    if pass.cpu().is_none() {
        let stripe = stripes::gpu::rows(n);
        return pass.in_f32(|pass| forward_on_gpu(pass, image, text, parameters, stripe));
    }
    let mut scratch = stripes::cpu::Scratch::new(pass, n, 0)?;
    let mut loss = pass.empty_f32(&[1])?;
    let pairs = stripes::cpu::Pairs { image: image.f32(), text: text.f32(), d };
    if let Some(cpu) = pass.cpu() {
        let work = Work::products("sigmoid_loss/forward", 2.0 * (n * n * d) as f64, 2 * n * d);
        loss.f32_mut()[0] = cpu.run(work, || cpu::forward(pairs, parameters.logits(), &mut scratch)) as f32;
    }
    Ok(loss)
}

/// [`forward`] and its gradients: gives (loss, dimage, dtext), adds to `dlog_scale` and `dbias`. With
/// `G_ij = (sigmoid(L_ij) - [i = j]) / n`: `dimage = t G text`, `dtext = t Gᵀ image`,
/// `dlog_scale += sum G_ij t image_i · text_j`, `dbias += sum G_ij`.
///
/// The product is computed by stripes of rows: memory is O(n), never n².
///
/// # Shapes
/// image, text, dimage, dtext: [n, d]; loss, dlog_scale, dbias: `[1]`.
///
/// # Errors
/// As [`forward`].
pub fn forward_backward(
    pass: &mut Pass,
    image: &Tensor,
    text: &Tensor,
    parameters: LogitParameters<'_>,
    dlog_scale: &mut Tensor,
    dbias: &mut Tensor,
) -> Result<(Tensor, Tensor, Tensor)> {
    let (n, d) = check(pass, image, text, parameters)?;
    pass.admit(OP, &[("dlog_scale", dlog_scale), ("dbias", dbias)])?;
    dlog_scale.expect_f32(OP, "dlog_scale", &[1])?;
    dbias.expect_f32(OP, "dbias", &[1])?;
    if pass.cpu().is_none() {
        let stripe = stripes::gpu::rows(n);
        return pass.in_f32(|pass| gradients_on_gpu(pass, image, text, parameters, dlog_scale, dbias, stripe));
    }
    let mut scratch = stripes::cpu::Scratch::new(pass, n, d)?;
    let mut loss = pass.empty_f32(&[1])?;
    let (mut dimage, mut dtext) = (pass.empty_f32(&[n, d])?, pass.empty_f32(&[n, d])?);
    let pairs = stripes::cpu::Pairs { image: image.f32(), text: text.f32(), d };
    let logits = parameters.logits();
    if let Some(cpu) = pass.cpu() {
        let (dimage, dtext) = (dimage.f32_mut(), dtext.f32_mut());
        let work = Work::products("sigmoid_loss/gradient", 6.0 * (n * n * d) as f64, 4 * n * d);
        let sums = cpu.run(work, || cpu::forward_backward(pairs, logits, &mut scratch, dimage, dtext));
        loss.f32_mut()[0] = sums.loss as f32;
        dlog_scale.f32_mut()[0] += (sums.g_product * f64::from(logits.scale)) as f32;
        dbias.f32_mut()[0] += sums.g as f32;
    }
    Ok((loss, dimage, dtext))
}

fn check(pass: &Pass, image: &Tensor, text: &Tensor, parameters: LogitParameters<'_>) -> Result<(usize, usize)> {
    pass.admit(OP, &[("image", image), ("text", text)])?;
    let (n, d) = (image.rows(), image.cols());
    image.expect_f32(OP, "image", &[n, d])?;
    text.expect_f32(OP, "text", &[n, d])?;
    parameters.check(pass, OP)?;
    Ok((n, d))
}

fn forward_on_gpu(
    pass: &mut Pass,
    image: &Tensor,
    text: &Tensor,
    parameters: LogitParameters<'_>,
    stripe: usize,
) -> Result<Tensor> {
    let n = image.rows();
    let sums = pass.empty_f32(&[n, 3])?;
    for first in (0..n).step_by(stripe) {
        let rows = stripe.min(n - first);
        let part = stripes::gpu::take(pass, image, first, rows)?;
        let product = matmul::forward(pass, Form::ABt, &part, text)?;
        dispatch(pass, &LOSSES, parameters, [&product, &sums], first, 30.0)?;
    }
    let (mut dlog_scale, mut dbias) = (pass.zeros(&[1])?, pass.zeros(&[1])?);
    finish(pass, &sums, parameters, &mut dlog_scale, &mut dbias)
}

fn gradients_on_gpu(
    pass: &mut Pass,
    image: &Tensor,
    text: &Tensor,
    parameters: LogitParameters<'_>,
    dlog_scale: &mut Tensor,
    dbias: &mut Tensor,
    stripe: usize,
) -> Result<(Tensor, Tensor, Tensor)> {
    let n = image.rows();
    let sums = pass.empty_f32(&[n, 3])?;
    let (mut dimage, mut dtext) = (pass.empty_f32(image.shape())?, pass.zeros(text.shape())?);
    for first in (0..n).step_by(stripe) {
        let rows = stripe.min(n - first);
        let part = stripes::gpu::take(pass, image, first, rows)?;
        let g = matmul::forward(pass, Form::ABt, &part, text)?;
        dispatch(pass, &GRADIENT, parameters, [&g, &sums], first, 40.0)?;
        let dpart = matmul::forward(pass, Form::AB, &g, text)?;
        stripes::gpu::put(pass, dpart, &mut dimage, first)?;
        matmul::accumulate(pass, Form::AtB, &g, &part, &mut dtext)?;
    }
    let loss = finish(pass, &sums, parameters, dlog_scale, dbias)?;
    Ok((loss, dimage, dtext))
}

/// One workgroup a row of a stripe, of which `first` is the first, and `work` for each element.
fn dispatch(
    pass: &mut Pass,
    kernel: &'static Kernel,
    parameters: LogitParameters<'_>,
    [stripe, sums]: [&Tensor; 2],
    first: usize,
    work: f64,
) -> Result<()> {
    let n = stripe.cols();
    let [log_scale, bias, sums] = [parameters.log_scale, parameters.bias, sums].map(Bound::Whole);
    let bound = [Bound::Rows(stripe, n), log_scale, bias, sums];
    pass.dispatch_rows(&kernel.default_variant(), stripe.rows(), &bound, work * stripe.len() as f64, |rows| {
        let first = (first + rows.start) as u32;
        (Parameters { rows: rows.len() as u32, n: n as u32, first }, Grid::rows(rows.len()))
    })
}

/// Adds up the sums of all rows.
fn finish(
    pass: &mut Pass,
    sums: &Tensor,
    parameters: LogitParameters<'_>,
    dlog_scale: &mut Tensor,
    dbias: &mut Tensor,
) -> Result<Tensor> {
    dlog_scale.gpu_unique(pass)?;
    dbias.gpu_unique(pass)?;
    let loss = pass.empty_f32(&[1])?;
    let immediates = Parameters { rows: 0, n: sums.rows() as u32, first: 0 };
    let tensors = [sums, parameters.log_scale, &loss, dlog_scale, dbias];
    pass.dispatch(&FINISH.default_variant(), &tensors, immediates, Grid::rows(1), 3.0 * sums.rows() as f64)?;
    Ok(loss)
}

//! Softmax loss of a batch in both directions (CLIP): `-(1/2n) sum_i log softmax_row_i(i) + log softmax_col_i(i)` of
//! `L = t image · textᵀ`.

pub(super) mod cpu;
pub mod oracle;
#[cfg(test)]
mod tests;

use super::matmul::{self, Form};
use crate::catalog::{Kernel, Sent, Variant, parameters};
use crate::profile::Work;
use crate::stripes;
use crate::{Grid, Pass, Result, Tensor};

const OP: &str = "contrastive_softmax";

const SOURCE: &[&str] = &[
    include_str!("../../wgsl/reduce.wgsl"),
    include_str!("../../wgsl/reduce_max.wgsl"),
    include_str!("../../wgsl/exp_exact.wgsl"),
    include_str!("contrastive_softmax.wgsl"),
];
static ROWS: Kernel = Kernel {
    name: "contrastive_softmax/row_sums",
    entry: "row_sums",
    parts: SOURCE,
    constants: &[("WG", 64)],
    parameters: Parameters::FIELDS,
};
static COLS: Kernel = Kernel {
    name: "contrastive_softmax/col_sums",
    entry: "col_sums",
    parts: SOURCE,
    constants: &[("WG", 64)],
    parameters: Parameters::FIELDS,
};
static GRADIENT: Kernel = Kernel {
    name: "contrastive_softmax/gradient",
    entry: "gradient",
    parts: SOURCE,
    constants: &[("WG", 64)],
    parameters: Parameters::FIELDS,
};
static FINISH: Kernel = Kernel {
    name: "contrastive_softmax/finish",
    entry: "finish",
    parts: SOURCE,
    constants: &[("WG", 256)],
    parameters: Parameters::FIELDS,
};

pub(crate) fn variants() -> Vec<Variant> {
    [&ROWS, &COLS, &GRADIENT, &FINISH].map(Kernel::default_variant).to_vec()
}

parameters! {
    struct Parameters {
        rows: u32,
        n: u32,
        first: u32,
    }
}

/// `loss = -(1/2n) sum_i (log softmax of row i + log softmax of column i) at i`, of `L = exp(log_scale) image · textᵀ`.
///
/// # Shapes
/// image, text: [n, d]; log_scale, loss: `[1]`.
///
/// # Errors
/// `Shape` when image and text differ, or log_scale is not a single number.
///
/// # Source
/// Radford et al., "Learning transferable visual models from natural language supervision".
pub fn forward(pass: &mut Pass, image: &Tensor, text: &Tensor, log_scale: &Tensor) -> Result<Tensor> {
    let (n, d) = check(pass, image, text, log_scale)?;
    if pass.cpu().is_none() {
        let stripe = stripes::gpu::rows(n);
        let sides = pass.in_f32(|pass| Sides::sum(pass, image, text, log_scale, stripe))?;
        let (sums, mut dlog_scale) = (pass.zeros(&[n])?, pass.zeros(&[1])?);
        return sides.finish(pass, &sums, &mut dlog_scale);
    }
    let (mut scratch, mut memory) = (stripes::cpu::Scratch::new(pass, n, 0)?, cpu::Memory::new(pass, n)?);
    let mut loss = pass.empty_f32(&[1])?;
    let pairs = stripes::cpu::Pairs { image: image.f32(), text: text.f32(), d };
    let scale = log_scale.f32()[0].exp();
    if let Some(cpu) = pass.cpu() {
        let work = Work::products("contrastive_softmax/forward", 2.0 * (n * n * d) as f64, 2 * n * d);
        loss.f32_mut()[0] = cpu.run(work, || cpu::forward(pairs, scale, &mut scratch, &mut memory)) as f32;
    }
    Ok(loss)
}

/// [`forward`] and its gradients: gives (loss, dimage, dtext), adds to `dlog_scale`. With
/// `G_ij = ((p_row + p_col) / 2 - [i = j]) / n`: `dimage = t G text`, `dtext = t Gᵀ image`,
/// `dlog_scale += sum G_ij L_ij`.
///
/// The product is computed twice, by stripes of rows: memory is O(n), never n².
///
/// # Shapes
/// image, text, dimage, dtext: [n, d]; loss, log_scale, dlog_scale: `[1]`.
///
/// # Errors
/// As [`forward`].
pub fn forward_backward(
    pass: &mut Pass,
    image: &Tensor,
    text: &Tensor,
    log_scale: &Tensor,
    dlog_scale: &mut Tensor,
) -> Result<(Tensor, Tensor, Tensor)> {
    let (n, d) = check(pass, image, text, log_scale)?;
    pass.admit(OP, &[("dlog_scale", dlog_scale)])?;
    dlog_scale.expect_f32(OP, "dlog_scale", &[1])?;
    if pass.cpu().is_none() {
        let stripe = stripes::gpu::rows(n);
        return pass.in_f32(|pass| gradients_on_gpu(pass, image, text, log_scale, dlog_scale, stripe));
    }
    let (mut scratch, mut memory) = (stripes::cpu::Scratch::new(pass, n, d)?, cpu::Memory::new(pass, n)?);
    let mut loss = pass.empty_f32(&[1])?;
    let (mut dimage, mut dtext) = (pass.empty_f32(&[n, d])?, pass.empty_f32(&[n, d])?);
    let pairs = stripes::cpu::Pairs { image: image.f32(), text: text.f32(), d };
    let scale = log_scale.f32()[0].exp();
    if let Some(cpu) = pass.cpu() {
        let (dimage, dtext) = (dimage.f32_mut(), dtext.f32_mut());
        let work = Work::products("contrastive_softmax/gradient", 8.0 * (n * n * d) as f64, 4 * n * d);
        let memory = (&mut scratch, &mut memory);
        let (value, by_scale) = cpu.run(work, || cpu::forward_backward(pairs, scale, memory, dimage, dtext));
        loss.f32_mut()[0] = value as f32;
        dlog_scale.f32_mut()[0] += by_scale as f32;
    }
    Ok((loss, dimage, dtext))
}

fn check(pass: &Pass, image: &Tensor, text: &Tensor, log_scale: &Tensor) -> Result<(usize, usize)> {
    pass.admit(OP, &[("image", image), ("text", text), ("log_scale", log_scale)])?;
    let (n, d) = (image.rows(), image.cols());
    image.expect_f32(OP, "image", &[n, d])?;
    text.expect_f32(OP, "text", &[n, d])?;
    log_scale.expect_f32(OP, "log_scale", &[1])?;
    Ok((n, d))
}

/// Log-sum-exps of all rows and columns on a GPU.
pub(super) struct Sides {
    /// (max, sum, own logit) of each row: [n, 3].
    pub(super) by_row: Tensor,
    /// (max, sum) of each column: [n, 2].
    pub(super) by_col: Tensor,
    /// The product, when a single stripe covers it: the second pass need not compute it again.
    pub(super) product: Option<Tensor>,
}

impl Sides {
    pub(super) fn sum(
        pass: &mut Pass,
        image: &Tensor,
        text: &Tensor,
        log_scale: &Tensor,
        stripe: usize,
    ) -> Result<Self> {
        let n = image.rows();
        let (by_row, by_col) = (pass.empty_f32(&[n, 3])?, pass.empty_f32(&[n, 2])?);
        let mut last = None;
        for first in (0..n).step_by(stripe) {
            let rows = stripe.min(n - first);
            let part = stripes::gpu::take(pass, image, first, rows)?;
            let product = matmul::forward(pass, Form::ABt, &part, text)?;
            let immediates = Parameters { rows: rows as u32, n: n as u32, first: first as u32 };
            let flops = 20.0 * (rows * n) as f64;
            let tensors = [&product, log_scale, &by_row];
            pass.dispatch(&ROWS.default_variant(), &tensors, immediates, Grid::rows(rows), flops)?;
            let tensors = [&product, log_scale, &by_col];
            pass.dispatch(&COLS.default_variant(), &tensors, immediates, Grid::rows(n.div_ceil(64)), flops)?;
            last = Some(product);
        }
        Ok(Self { by_row, by_col, product: last.filter(|_| n <= stripe) })
    }

    /// Adds up all rows.
    fn finish(self, pass: &mut Pass, sums: &Tensor, dlog_scale: &mut Tensor) -> Result<Tensor> {
        dlog_scale.gpu_unique(pass)?;
        let loss = pass.empty_f32(&[1])?;
        let n = self.by_row.rows();
        let immediates = Parameters { rows: 0, n: n as u32, first: 0 };
        let tensors = [sums, &loss, &self.by_row, &self.by_col, dlog_scale];
        pass.dispatch(&FINISH.default_variant(), &tensors, immediates, Grid::rows(1), 20.0 * n as f64)?;
        Ok(loss)
    }
}

fn gradients_on_gpu(
    pass: &mut Pass,
    image: &Tensor,
    text: &Tensor,
    log_scale: &Tensor,
    dlog_scale: &mut Tensor,
    stripe: usize,
) -> Result<(Tensor, Tensor, Tensor)> {
    let n = image.rows();
    let mut sides = Sides::sum(pass, image, text, log_scale, stripe)?;
    let sums = pass.empty_f32(&[n])?;
    let (mut dimage, mut dtext) = (pass.empty_f32(image.shape())?, pass.zeros(text.shape())?);
    for first in (0..n).step_by(stripe) {
        let rows = stripe.min(n - first);
        let part = stripes::gpu::take(pass, image, first, rows)?;
        let g = match sides.product.take() {
            Some(product) => product,
            None => matmul::forward(pass, Form::ABt, &part, text)?,
        };
        let immediates = Parameters { rows: rows as u32, n: n as u32, first: first as u32 };
        let tensors = [&g, log_scale, &sides.by_row, &sides.by_col, &sums];
        pass.dispatch(&GRADIENT.default_variant(), &tensors, immediates, Grid::rows(rows), 30.0 * (rows * n) as f64)?;
        let dpart = matmul::forward(pass, Form::AB, &g, text)?;
        stripes::gpu::put(pass, dpart, &mut dimage, first)?;
        matmul::accumulate(pass, Form::AtB, &g, &part, &mut dtext)?;
    }
    let loss = sides.finish(pass, &sums, dlog_scale)?;
    Ok((loss, dimage, dtext))
}

//! Distillation of a contrastive model: `-(w/2n) sum_ij p_row log q_row + p_col log q_col`, with p and q the softmaxes over
//! rows and over columns of the teacher's and the student's `t image · textᵀ`.

mod cpu;
pub mod oracle;
#[cfg(test)]
mod tests;

use super::contrastive_softmax::Sides;
use super::matmul::{self, Form};
use crate::catalog::{Kernel, Sent, Variant, parameters};
use crate::profile::Work;
use crate::stripes;
use crate::{Grid, Pass, Result, Tensor};

const OP: &str = "contrastive_distillation";

const SOURCE: &[&str] = &[
    include_str!("../../wgsl/reduce.wgsl"),
    include_str!("../../wgsl/exp_exact.wgsl"),
    include_str!("contrastive_distillation.wgsl"),
];
static GRADIENT: Kernel = Kernel {
    name: "contrastive_distillation/gradient",
    entry: "gradient",
    parts: SOURCE,
    constants: &[("WG", 64)],
    parameters: Parameters::FIELDS,
};
static FINISH: Kernel = Kernel {
    name: "contrastive_distillation/finish",
    entry: "finish",
    parts: SOURCE,
    constants: &[("WG", 256)],
    parameters: Parameters::FIELDS,
};

pub(crate) fn variants() -> Vec<Variant> {
    [&GRADIENT, &FINISH].map(Kernel::default_variant).to_vec()
}

parameters! {
    struct Parameters {
        rows: u32,
        n: u32,
        first: u32,
        weight: f32,
    }
}

/// What a model makes of a batch.
///
/// # Shapes
/// image, text: [n, d], with a d of the model's own; log_scale: `[1]`, ln t.
#[derive(Clone, Copy, Debug)]
pub struct Embedded<'a> {
    /// Images.
    pub image: &'a Tensor,
    /// Texts.
    pub text: &'a Tensor,
    /// Logarithm of the scale of its logits.
    pub log_scale: &'a Tensor,
}

/// `loss = -(w/2n) sum_ij p_row log q_row + p_col log q_col` and its gradients by the student: gives (loss, dimage, dtext),
/// adds to `dlog_scale`. With `G_ij = w ((q_row - p_row) + (q_col - p_col)) / 2n`: `dimage = t G text`,
/// `dtext = t Gᵀ image`, `dlog_scale += sum G_ij L_ij`. The teacher has no gradients.
///
/// Both products are computed twice, by stripes of rows: memory is O(n), never n². It is least, and its gradient 0, where
/// the student's softmaxes are the teacher's; what is left there is the teacher's entropy.
///
/// # Shapes
/// dimage, dtext: as the student's; loss, dlog_scale: `[1]`.
///
/// # Errors
/// `Shape` when the embeddings of a model differ, or those of both in n, or a scale is not a single number.
///
/// # Source
/// Yang et al., "CLIP-KD"; Udandarao et al., "Active Data Curation Effectively Distills Large-Scale Multimodal Models".
pub fn forward_backward(
    pass: &mut Pass,
    student: Embedded<'_>,
    teacher: Embedded<'_>,
    weight: f32,
    dlog_scale: &mut Tensor,
) -> Result<(Tensor, Tensor, Tensor)> {
    let n = student.image.rows();
    check(pass, ["image", "text", "log_scale"], student, n)?;
    check(pass, ["teacher's image", "teacher's text", "teacher's log_scale"], teacher, n)?;
    pass.admit(OP, &[("dlog_scale", dlog_scale)])?;
    dlog_scale.expect_f32(OP, "dlog_scale", &[1])?;
    if pass.cpu().is_none() {
        let stripe = stripes::gpu::rows(n);
        return pass.in_f32(|pass| gradients_on_gpu(pass, [student, teacher], weight, dlog_scale, stripe));
    }
    let (d, theirs) = (student.image.cols(), teacher.image.cols());
    let mut scratch = stripes::cpu::Scratch::new(pass, n, d)?;
    let mut memories = [cpu::Memory::new(pass, n)?, cpu::Memory::new(pass, n)?];
    let mut loss = pass.empty_f32(&[1])?;
    let (mut dimage, mut dtext) = (pass.empty_f32(&[n, d])?, pass.empty_f32(&[n, d])?);
    let models = [student, teacher].map(|model| {
        let pairs = stripes::cpu::Pairs { image: model.image.f32(), text: model.text.f32(), d: model.image.cols() };
        (pairs, model.log_scale.f32()[0].exp())
    });
    if let Some(cpu) = pass.cpu() {
        let (dimage, dtext) = (dimage.f32_mut(), dtext.f32_mut());
        let flops = (n * n * (8 * d + 4 * theirs)) as f64;
        let work = Work::products("contrastive_distillation/gradient", flops, 4 * n * d + 2 * n * theirs);
        let memory = (&mut scratch, &mut memories);
        let (value, by_scale) = cpu.run(work, || cpu::forward_backward(models, weight, memory, dimage, dtext));
        loss.f32_mut()[0] = value as f32;
        dlog_scale.f32_mut()[0] += by_scale as f32;
    }
    Ok((loss, dimage, dtext))
}

fn check(pass: &Pass, names: [&'static str; 3], model: Embedded<'_>, n: usize) -> Result<()> {
    let Embedded { image, text, log_scale } = model;
    pass.admit(OP, &[(names[0], image), (names[1], text), (names[2], log_scale)])?;
    image.expect_f32(OP, names[0], &[n, image.cols()])?;
    text.expect_f32(OP, names[1], &[n, image.cols()])?;
    log_scale.expect_f32(OP, names[2], &[1])
}

/// Two tensors of equal shape `[m, c]`, one above the other.
fn stacked(pass: &mut Pass, parts: [&Tensor; 2]) -> Result<Tensor> {
    let (rows, cols) = (parts[0].rows(), parts[0].cols());
    let mut both = pass.zeros(&[2 * rows, cols])?;
    for (part, first) in parts.into_iter().zip([0, rows]) {
        pass.copy_rows(part, &mut both, first)?;
    }
    Ok(both)
}

fn gradients_on_gpu(
    pass: &mut Pass,
    models: [Embedded<'_>; 2],
    weight: f32,
    dlog_scale: &mut Tensor,
    stripe: usize,
) -> Result<(Tensor, Tensor, Tensor)> {
    let [student, teacher] = models;
    let (image, text, n) = (student.image, student.text, student.image.rows());
    let mut own = Sides::sum(pass, image, text, student.log_scale, stripe)?;
    let mut theirs = Sides::sum(pass, teacher.image, teacher.text, teacher.log_scale, stripe)?;
    let log_scales = stacked(pass, [student.log_scale, teacher.log_scale])?;
    let by_row = stacked(pass, [&own.by_row, &theirs.by_row])?;
    let by_col = stacked(pass, [&own.by_col, &theirs.by_col])?;
    let sums = pass.empty_f32(&[n, 2])?;
    let (mut dimage, mut dtext) = (pass.empty_f32(image.shape())?, pass.zeros(text.shape())?);
    for first in (0..n).step_by(stripe) {
        let rows = stripe.min(n - first);
        let part = stripes::gpu::take(pass, image, first, rows)?;
        let g = match own.product.take() {
            Some(product) => product,
            None => matmul::forward(pass, Form::ABt, &part, text)?,
        };
        let other = match theirs.product.take() {
            Some(product) => product,
            None => {
                let part = stripes::gpu::take(pass, teacher.image, first, rows)?;
                matmul::forward(pass, Form::ABt, &part, teacher.text)?
            }
        };
        let immediates = Parameters { rows: rows as u32, n: n as u32, first: first as u32, weight };
        let tensors = [&g, &other, &log_scales, &by_row, &by_col, &sums];
        pass.dispatch(&GRADIENT.default_variant(), &tensors, immediates, Grid::rows(rows), 60.0 * (rows * n) as f64)?;
        let dpart = matmul::forward(pass, Form::AB, &g, text)?;
        stripes::gpu::put(pass, dpart, &mut dimage, first)?;
        matmul::accumulate(pass, Form::AtB, &g, &part, &mut dtext)?;
    }
    dlog_scale.gpu_unique(pass)?;
    let loss = pass.empty_f32(&[1])?;
    let immediates = Parameters { rows: 0, n: n as u32, first: 0, weight };
    let tensors = [&sums, &loss, &*dlog_scale];
    pass.dispatch(&FINISH.default_variant(), &tensors, immediates, Grid::rows(1), 4.0 * n as f64)?;
    Ok((loss, dimage, dtext))
}

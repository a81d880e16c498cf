//! Conditional scores of joint selection under the sigmoid loss: what each candidate adds to the sub-batch drawn so far.
//!
//! With `L_ij = t image_i · text_j + bias`, a model's share of the score S is `S_xx = softplus(-L_xx)` and, off the
//! diagonal, `S_xk = softplus(L_xk)`. The conditional is `S_xx + sum_k (S_xk + S_kx)` over the picked k, with weight 1
//! for the learner and -1 for the reference.

mod cpu;
pub mod oracle;
#[cfg(test)]
mod tests;

use super::sigmoid_loss::LogitParameters;
use crate::catalog::{Kernel, Sent, Variant, parameters};
use crate::profile::Work;
use crate::rows::Bound;
use crate::{Grid, KernelError, Pass, Result, Tensor};

const OP: &str = "selection_scores";
/// Members of the chunk that one workgroup goes through: fixed, so sums repeat.
const PART: usize = 256;

const SOURCE: &[&str] = &[
    include_str!("../../wgsl/reduce.wgsl"),
    include_str!("../../wgsl/exp_exact.wgsl"),
    include_str!("../../wgsl/softplus.wgsl"),
    include_str!("selection_scores.wgsl"),
];
const SMALL: &[(&str, u32)] = &[("WG", 64), ("ROWS", 32), ("COLS", 32)];
/// 64 x 64 by 256 invocations, for adapters that are not emulated.
const LARGE: &[(&str, u32)] = &[("WG", 256), ("ROWS", 64), ("COLS", 64)];
static PARTIAL: Kernel = Kernel {
    name: "selection_scores/partial",
    entry: "partial",
    parts: SOURCE,
    constants: SMALL,
    parameters: Parameters::FIELDS,
};
static FINISH: Kernel = Kernel {
    name: "selection_scores/finish",
    entry: "finish",
    parts: SOURCE,
    constants: SMALL,
    parameters: Parameters::FIELDS,
};
static DIAGONAL: Kernel = Kernel {
    name: "selection_scores/diagonal",
    entry: "diagonal",
    parts: SOURCE,
    constants: SMALL,
    parameters: Parameters::FIELDS,
};

pub(crate) fn variants() -> Vec<Variant> {
    let mut all = [&PARTIAL, &FINISH, &DIAGONAL].map(Kernel::default_variant).to_vec();
    all.push(PARTIAL.with(LARGE));
    all
}

parameters! {
    struct Parameters {
        rows: u32,
        d: u32,
        chunk: u32,
        part: u32,
        layers: u32,
        weight: f32,
        first: u32,
    }
}

/// One model's view of the super-batch.
#[derive(Clone, Copy, Debug)]
pub struct Candidates<'a> {
    /// Image embeddings, unit rows: [B, d].
    pub image: &'a Tensor,
    /// Text embeddings, unit rows: [B, d].
    pub text: &'a Tensor,
    /// Logarithm of the logit scale: `[1]`.
    pub log_scale: &'a Tensor,
    /// Logit bias: `[1]`.
    pub bias: &'a Tensor,
}

impl Candidates<'_> {
    /// Refuses operands that do not fit; gives B and d.
    fn check(&self, pass: &Pass, conditional: &Tensor) -> Result<(usize, usize)> {
        let (rows, d) = (self.image.rows(), self.image.cols());
        pass.admit(OP, &[("image", self.image), ("text", self.text), ("conditional", conditional)])?;
        self.image.expect_f32(OP, "image", &[rows, d])?;
        self.text.expect_f32(OP, "text", &[rows, d])?;
        LogitParameters { log_scale: self.log_scale, bias: self.bias }.check(pass, OP)?;
        conditional.expect_f32(OP, "conditional", &[rows])?;
        Ok((rows, d))
    }

    fn model(&self, weight: f32) -> cpu::Model<'_> {
        let (scale, bias) = (self.log_scale.f32()[0].exp(), self.bias.f32()[0]);
        cpu::Model { image: self.image.f32(), text: self.text.f32(), d: self.image.cols(), weight, scale, bias }
    }
}

/// `conditional_x += weight * softplus(-(t image_x · text_x + bias))`.
///
/// # Shapes
/// image, text: [B, d]; conditional: `[B]`.
///
/// # Errors
/// `Shape` when the operands do not fit.
pub fn diagonal(pass: &mut Pass, weight: f32, candidates: Candidates<'_>, conditional: &mut Tensor) -> Result<()> {
    let (rows, d) = candidates.check(pass, conditional)?;
    if let Some(cpu) = pass.cpu() {
        let (model, conditional) = (candidates.model(weight), conditional.f32_mut());
        cpu.run(Work::words("selection_scores/diagonal", 2 * rows * d), || cpu::diagonal(model, conditional));
        return Ok(());
    }
    conditional.gpu_unique(pass)?;
    let [image, text] = [candidates.image, candidates.text].map(|tensor| Bound::Rows(tensor, d));
    let [log_scale, bias] = [candidates.log_scale, candidates.bias].map(Bound::Whole);
    let bound = [image, text, log_scale, bias, Bound::Rows(conditional, 1)];
    pass.dispatch_rows(&DIAGONAL.default_variant(), rows, &bound, (2 * rows * d) as f64, |rows| {
        let n = rows.len();
        (Parameters { rows: n as u32, d: d as u32, chunk: 0, part: 0, layers: 0, weight, first: 0 }, Grid::rows(n))
    })
}

/// Whom the scores are of, and whom they are to be conditioned on.
#[derive(Clone, Copy, Debug)]
pub struct Draw<'a> {
    /// Candidates that can still be drawn, none twice; no other's conditional is read or written.
    pub open: &'a [u32],
    /// Candidates just drawn.
    pub chunk: &'a [u32],
}

/// `conditional_x += weight * sum_k (softplus(t image_x · text_k + bias) + softplus(t text_x · image_k + bias))` for the
/// open candidates x, over the chunk.
///
/// An open candidate that is in the chunk itself counts itself as a stranger. No [B, chunk] matrix is stored.
///
/// # Shapes
/// image, text: [B, d]; open, chunk: any number of candidates; conditional: `[B]`.
///
/// # Errors
/// `Shape` when the operands do not fit; `Size` naming a member of the draw that is not below B.
pub fn condition_on(
    pass: &mut Pass,
    weight: f32,
    candidates: Candidates<'_>,
    draw: Draw<'_>,
    conditional: &mut Tensor,
) -> Result<()> {
    let (rows, d) = candidates.check(pass, conditional)?;
    let Draw { open, chunk } = draw;
    for (what, members) in [("member of the chunk", chunk), ("open candidate", open)] {
        if let Some(member) = members.iter().find(|member| **member as usize >= rows) {
            let rule = format!("below the {rows} candidates");
            return Err(KernelError::Size { op: OP, what, got: *member as usize, rule });
        }
    }
    if chunk.is_empty() || open.is_empty() {
        return Ok(());
    }
    if pass.cpu().is_none() {
        let large = !pass.device().info().software && open.len() >= 64 && chunk.len() >= 64;
        return condition_on_gpu(pass, weight, candidates, draw, conditional, if large { LARGE } else { SMALL });
    }
    let mut members = pass.empty_f32(&[2, chunk.len(), d])?;
    // In f64: two words each.
    let mut totals = pass.empty_f32(&[open.len(), 2])?;
    let model = candidates.model(weight);
    cpu::gather(model, chunk, members.f32_mut());
    if let Some(cpu) = pass.cpu() {
        let (totals, conditional) = (bytemuck::cast_slice_mut(totals.f32_mut()), conditional.f32_mut());
        let flops = 4.0 * (rows * chunk.len() * d) as f64;
        let work = Work::products("selection_scores/condition_on", flops, 2 * rows * d);
        cpu.run(work, || cpu::condition_on(model, members.f32(), open, totals, conditional));
    }
    Ok(())
}

/// [`condition_on`] with weight 1 by one of the two tiles, whatever the adapter would be given; false on the CPU device,
/// which has none.
pub(crate) fn condition_by_tile(
    pass: &mut Pass,
    candidates: Candidates<'_>,
    draw: Draw<'_>,
    large: bool,
    conditional: &mut Tensor,
) -> Result<bool> {
    if pass.cpu().is_some() {
        return Ok(false);
    }
    condition_on_gpu(pass, 1.0, candidates, draw, conditional, if large { LARGE } else { SMALL })?;
    Ok(true)
}

fn condition_on_gpu(
    pass: &mut Pass,
    weight: f32,
    candidates: Candidates<'_>,
    Draw { open, chunk }: Draw<'_>,
    conditional: &mut Tensor,
    constants: &[(&'static str, u32)],
) -> Result<()> {
    let (rows, d) = (open.len(), candidates.image.cols());
    let (members, open) = (pass.upload_u32(chunk, &[chunk.len()])?, pass.upload_u32(open, &[rows])?);
    // Both directions of each part.
    let layers = 2 * chunk.len().div_ceil(PART);
    let sums = pass.empty_f32(&[layers, rows])?;
    let parameters = Parameters {
        rows: rows as u32,
        d: d as u32,
        chunk: chunk.len() as u32,
        part: PART as u32,
        layers: layers as u32,
        weight,
        first: 0,
    };
    let variant = PARTIAL.with(constants);
    let tiles = rows.div_ceil(variant.constant("ROWS") as usize);
    let tensors = [candidates.image, candidates.text, candidates.log_scale, candidates.bias, &sums, &members, &open];
    let flops = 4.0 * (rows * chunk.len() * d) as f64;
    let most = pass.parts_of_a_dispatch(layers, flops).min(pass.group_limit() as usize);
    for first in (0..layers).step_by(most) {
        let count = most.min(layers - first);
        let (parameters, share) = (Parameters { first: first as u32, ..parameters }, count as f64 / layers as f64);
        pass.dispatch(&variant, &tensors, parameters, Grid::layers(tiles, count), flops * share)?;
    }
    conditional.gpu_unique(pass)?;
    let work = (layers * rows) as f64;
    let grid = Grid::rows(rows.div_ceil(64));
    pass.dispatch(&FINISH.default_variant(), &[&sums, conditional, &open], parameters, grid, work)
}

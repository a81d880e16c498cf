//! Softmax cross-entropy of rows with one right class each: `-(1/n) sum_i log softmax(row i) at label i`.

mod cpu;
pub mod oracle;
#[cfg(test)]
mod tests;

use crate::catalog::{Kernel, Sent, Variant, parameters};
use crate::profile::Work;
use crate::rows::Bound;
use crate::{Grid, KernelError, Pass, Result, Tensor};

const OP: &str = "softmax_cross_entropy";

const SOURCE: &[&str] = &[
    include_str!("../../wgsl/reduce.wgsl"),
    include_str!("../../wgsl/reduce_max.wgsl"),
    include_str!("softmax_cross_entropy.wgsl"),
];
static LOSSES: Kernel = Kernel {
    name: "softmax_cross_entropy/losses",
    entry: "losses",
    parts: SOURCE,
    constants: &[("WG", 64)],
    parameters: Parameters::FIELDS,
};
static GRADIENT: Kernel = Kernel {
    name: "softmax_cross_entropy/gradient",
    entry: "gradient",
    parts: SOURCE,
    constants: &[("WG", 64)],
    parameters: Parameters::FIELDS,
};
static FINISH: Kernel = Kernel {
    name: "softmax_cross_entropy/finish",
    entry: "finish",
    parts: SOURCE,
    constants: &[("WG", 256)],
    parameters: Parameters::FIELDS,
};

pub(crate) fn variants() -> Vec<Variant> {
    [&LOSSES, &GRADIENT, &FINISH].map(Kernel::default_variant).to_vec()
}

parameters! {
    struct Parameters {
        rows: u32,
        cols: u32,
        n: u32,
    }
}

/// The right class of each row, on a device; each is below the number of classes.
#[derive(Clone, Debug)]
pub struct Labels {
    ids: Tensor,
    classes: usize,
}

impl Labels {
    /// Labels of `ids.len()` rows.
    ///
    /// # Errors
    /// `Size` naming the first label that is not below `classes`; `Shape` without any label.
    pub fn upload(pass: &mut Pass, ids: &[u32], classes: usize) -> Result<Self> {
        if let Some((row, id)) = ids.iter().enumerate().find(|(_, id)| **id as usize >= classes) {
            let rule = format!("below the {classes} classes (row {row})");
            return Err(KernelError::Size { op: OP, what: "label", got: *id as usize, rule });
        }
        Ok(Self { ids: pass.upload_u32(ids, &[ids.len()])?, classes })
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.classes
    }
}

/// `loss = -(1/n) sum_i log softmax(logits_i) at label i`.
///
/// # Shapes
/// logits: [n, classes]; labels: n; loss: `[1]`.
///
/// # Errors
/// `Shape` when labels and logits do not fit.
pub fn forward(pass: &mut Pass, logits: &Tensor, labels: &Labels) -> Result<Tensor> {
    let (rows, parameters) = check(pass, logits, labels)?;
    if pass.cpu().is_none() {
        let by_row = pass.empty_f32(&[rows])?;
        let bound = [Bound::Rows(logits, labels.classes), Bound::Rows(&labels.ids, 1), Bound::Rows(&by_row, 1)];
        let flops = 12.0 * logits.len() as f64;
        pass.dispatch_rows(&LOSSES.default_variant(), rows, &bound, flops, |rows| {
            (Parameters { rows: rows.len() as u32, ..parameters }, Grid::rows(rows.len()))
        })?;
        return finish(pass, &by_row, parameters);
    }
    let (mut loss, mut by_block) = (pass.empty_f32(&[1])?, by_block(pass, rows, labels)?);
    if let Some(cpu) = pass.cpu() {
        let by_block = bytemuck::cast_slice_mut(by_block.f32_mut());
        let work = Work::words("softmax_cross_entropy/losses", logits.len());
        loss.f32_mut()[0] = cpu.run(work, || cpu::forward(logits.f32(), labels.ids.u32(), by_block)) as f32;
    }
    Ok(loss)
}

/// [`forward`] and its gradient: gives (loss, dlogits), `dlogits = (softmax(logits) - [j = label]) / n`.
///
/// # Shapes
/// As [`forward`]; dlogits as logits.
///
/// # Errors
/// As [`forward`].
pub fn forward_backward(pass: &mut Pass, logits: &Tensor, labels: &Labels) -> Result<(Tensor, Tensor)> {
    let (rows, parameters) = check(pass, logits, labels)?;
    let mut dlogits = pass.empty_f32(logits.shape())?;
    if pass.cpu().is_none() {
        let by_row = pass.empty_f32(&[rows])?;
        let [x_rows, dx_rows] = [logits, &dlogits].map(|tensor| Bound::Rows(tensor, labels.classes));
        let bound = [x_rows, Bound::Rows(&labels.ids, 1), Bound::Rows(&by_row, 1), dx_rows];
        let flops = 20.0 * logits.len() as f64;
        pass.dispatch_rows(&GRADIENT.default_variant(), rows, &bound, flops, |rows| {
            (Parameters { rows: rows.len() as u32, ..parameters }, Grid::rows(rows.len()))
        })?;
        return Ok((finish(pass, &by_row, parameters)?, dlogits));
    }
    let (mut loss, mut by_block) = (pass.empty_f32(&[1])?, by_block(pass, rows, labels)?);
    if let Some(cpu) = pass.cpu() {
        let (logits, ids, dlogits) = (logits.f32(), labels.ids.u32(), dlogits.f32_mut());
        let by_block = bytemuck::cast_slice_mut(by_block.f32_mut());
        let work = Work::words("softmax_cross_entropy/gradient", 2 * logits.len());
        loss.f32_mut()[0] = cpu.run(work, || cpu::forward_backward(logits, ids, dlogits, by_block)) as f32;
    }
    Ok((loss, dlogits))
}

/// Memory for the losses of the blocks of the CPU form, in f64: two words each.
fn by_block(pass: &mut Pass, rows: usize, labels: &Labels) -> Result<Tensor> {
    pass.empty_f32(&[cpu::blocks(rows, labels.classes), 2])
}

fn check(pass: &Pass, logits: &Tensor, labels: &Labels) -> Result<(usize, Parameters)> {
    pass.admit(OP, &[("logits", logits), ("labels", &labels.ids)])?;
    let rows = labels.ids.len();
    logits.expect_f32(OP, "logits", &[rows, labels.classes])?;
    Ok((rows, Parameters { rows: rows as u32, cols: labels.classes as u32, n: rows as u32 }))
}

/// The mean of all rows.
fn finish(pass: &mut Pass, by_row: &Tensor, parameters: Parameters) -> Result<Tensor> {
    let loss = pass.empty_f32(&[1])?;
    let work = by_row.len() as f64;
    pass.dispatch(&FINISH.default_variant(), &[by_row, &loss], parameters, Grid::rows(1), work)?;
    Ok(loss)
}

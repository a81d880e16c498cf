//! Softmax cross-entropy of rows with one right class each: `-(1/n) sum_i log softmax(row i) at label i`.

mod cpu;
pub mod oracle;
#[cfg(test)]
mod tests;

use crate::catalog::{Kernel, Sent, Variant, parameters};
use crate::profile::Work;
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
        let tensors = [logits, &labels.ids, &by_row];
        let flops = 12.0 * logits.len() as f64;
        pass.dispatch(&LOSSES.default_variant(), &tensors, parameters, Grid::rows(rows), flops)?;
        return finish(pass, &by_row, parameters);
    }
    let mut loss = pass.empty_f32(&[1])?;
    if let Some(cpu) = pass.cpu() {
        let work = Work::words("softmax_cross_entropy/losses", logits.len());
        loss.f32_mut()[0] = cpu.run(work, || cpu::forward(logits.f32(), labels.ids.u32())) as f32;
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
        let tensors = [logits, &labels.ids, &by_row, &dlogits];
        let flops = 20.0 * logits.len() as f64;
        pass.dispatch(&GRADIENT.default_variant(), &tensors, parameters, Grid::rows(rows), flops)?;
        return Ok((finish(pass, &by_row, parameters)?, dlogits));
    }
    let mut loss = pass.empty_f32(&[1])?;
    if let Some(cpu) = pass.cpu() {
        let dlogits = dlogits.f32_mut();
        let work = Work::words("softmax_cross_entropy/gradient", 2 * logits.len());
        loss.f32_mut()[0] = cpu.run(work, || cpu::forward_backward(logits.f32(), labels.ids.u32(), dlogits)) as f32;
    }
    Ok((loss, dlogits))
}

fn check(pass: &Pass, logits: &Tensor, labels: &Labels) -> Result<(usize, Parameters)> {
    pass.admit(OP, &[("logits", logits), ("labels", &labels.ids)])?;
    let rows = labels.ids.len();
    logits.expect_f32(OP, "logits", &[rows, labels.classes])?;
    Ok((rows, Parameters { rows: rows as u32, cols: labels.classes as u32 }))
}

/// The mean of all rows.
fn finish(pass: &mut Pass, by_row: &Tensor, parameters: Parameters) -> Result<Tensor> {
    let loss = pass.empty_f32(&[1])?;
    let work = by_row.len() as f64;
    pass.dispatch(&FINISH.default_variant(), &[by_row, &loss], parameters, Grid::rows(1), work)?;
    Ok(loss)
}

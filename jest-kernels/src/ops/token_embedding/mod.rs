//! Token embedding: `y[i * l + j] = table[ids[i, j]] + posemb[j]`.

mod cpu;
mod ids;
pub mod oracle;
#[cfg(test)]
mod tests;

pub use ids::TokenIds;

use super::add;
use crate::catalog::{Kernel, Sent, Variant, parameters};
use crate::profile::Work;
use crate::rows::Bound;
use crate::{Grid, Pass, Result, Tensor};

const OP: &str = "token_embedding";
const WG: usize = 64;

const SOURCE: &[&str] = &[include_str!("token_embedding.wgsl")];
const CONSTANTS: &[(&str, u32)] = &[("WG", WG as u32)];
static FORWARD: Kernel = Kernel {
    name: "token_embedding/forward",
    entry: "forward",
    parts: SOURCE,
    constants: CONSTANTS,
    parameters: Parameters::FIELDS,
};
static PIECES: Kernel = Kernel {
    name: "token_embedding/pieces",
    entry: "pieces",
    parts: SOURCE,
    constants: CONSTANTS,
    parameters: Parameters::FIELDS,
};
static FINISH: Kernel = Kernel {
    name: "token_embedding/finish",
    entry: "finish",
    parts: SOURCE,
    constants: CONSTANTS,
    parameters: Parameters::FIELDS,
};

pub(crate) fn variants() -> Vec<Variant> {
    [&FORWARD, &PIECES, &FINISH].map(Kernel::default_variant).to_vec()
}

parameters! {
    struct Parameters {
        rows: u32,
        cols: u32,
        length: u32,
        vocab: u32,
    }
}

/// `y[i * l + j] = table[ids[i, j]] + posemb[j]`.
///
/// # Shapes
/// table: [vocab, d]; posemb: [l, d], or with more rows, of which the first l are used; y: [n * l, d].
///
/// # Errors
/// `Shape` when a table does not fit, or posemb has fewer than l rows.
pub fn forward(pass: &mut Pass, ids: &TokenIds, table: &Tensor, posemb: &Tensor) -> Result<Tensor> {
    pass.admit(OP, &[("ids", &ids.ids), ("table", table), ("posemb", posemb)])?;
    let (rows, d) = (ids.ids.len(), table.cols());
    table.expect_f32(OP, "table", &[ids.vocab, d])?;
    expect_posemb("posemb", posemb, ids.l, d)?;
    let mut y = pass.empty_f32(&[rows, d])?;
    if let Some(cpu) = pass.cpu() {
        cpu.run(Work::words("token_embedding/forward", 2 * rows * d), || {
            cpu::forward(ids.ids.u32(), ids.l, table.f32(), posemb.f32(), d, y.f32_mut())
        });
        return Ok(y);
    }
    let tables = [table, posemb].map(Bound::Whole);
    let bound = [Bound::Rows(&ids.ids, ids.l), tables[0], tables[1], Bound::Rows(&y, ids.l * d)];
    pass.dispatch_rows(&FORWARD.default_variant(), rows / ids.l, &bound, y.len() as f64, |examples| {
        let rows = examples.len() * ids.l;
        (parameters(ids, rows, d), Grid::rows((rows * d).div_ceil(WG)))
    })?;
    Ok(y)
}

/// Adds the rows of dy to the rows of `dtable` that were looked up and to the first l rows of `dposemb`.
///
/// Rows of ids that do not occur are not touched. The order of each sum is fixed: positions ascend.
///
/// # Shapes
/// dy: [n * l, d]; dtable: [vocab, d]; dposemb: [l, d], or with more rows.
///
/// # Errors
/// As [`forward`].
pub fn backward(pass: &mut Pass, ids: &TokenIds, dy: &Tensor, dtable: &mut Tensor, dposemb: &mut Tensor) -> Result<()> {
    pass.admit(OP, &[("ids", &ids.ids), ("dy", dy), ("dtable", dtable), ("dposemb", dposemb)])?;
    let d = dtable.cols();
    dtable.expect_f32(OP, "dtable", &[ids.vocab, d])?;
    dy.expect_f32(OP, "dy", &[ids.ids.len(), d])?;
    expect_posemb("dposemb", dposemb, ids.l, d)?;
    add_to_table(pass, ids, dy, dtable)?;
    add::backward_first_rows(pass, dy, ids.l, dposemb)
}

fn add_to_table(pass: &mut Pass, ids: &TokenIds, dy: &Tensor, dtable: &mut Tensor) -> Result<()> {
    let d = dy.cols();
    let mut partial = pass.empty_f32(&[ids.partials.max(1), d])?;
    if let Some(cpu) = pass.cpu() {
        let (pieces, order, splits) = (ids.pieces.u32(), ids.order.u32(), ids.splits.as_ref().map(Tensor::u32));
        cpu.run(Work::words("token_embedding/backward", 2 * dy.len()), || {
            let (dtable, partial) = (dtable.f32_mut(), partial.f32_mut());
            cpu::pieces(pieces, order, dy.f32(), d, dtable, partial);
            cpu::finish(splits.unwrap_or_default(), partial, d, dtable);
        });
        return Ok(());
    }
    dtable.gpu_unique(pass)?;
    let pieces = ids.pieces.rows();
    let grid = Grid::layers(pieces, d.div_ceil(WG));
    let tensors = [&ids.pieces, &ids.order, dy, dtable, &partial];
    pass.dispatch(&PIECES.default_variant(), &tensors, parameters(ids, pieces, d), grid, dy.len() as f64)?;
    let Some(splits) = &ids.splits else { return Ok(()) };
    let grid = Grid::layers(splits.rows(), d.div_ceil(WG));
    let work = partial.len() as f64;
    pass.dispatch(&FINISH.default_variant(), &[splits, &partial, dtable], parameters(ids, splits.rows(), d), grid, work)
}

fn parameters(ids: &TokenIds, rows: usize, d: usize) -> Parameters {
    Parameters { rows: rows as u32, cols: d as u32, length: ids.l as u32, vocab: ids.vocab as u32 }
}

/// Refuses a position embedding with rows of another length, or with fewer than l rows.
fn expect_posemb(what: &'static str, posemb: &Tensor, l: usize, d: usize) -> Result<()> {
    posemb.expect_f32(OP, what, &[posemb.rows().max(l), d])
}

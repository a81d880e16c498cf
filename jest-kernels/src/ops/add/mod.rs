//! Sums: `a + b`, `out += x`, and a table added to the rows of every example (a position embedding).

pub(crate) mod cpu;
pub mod oracle;

use crate::catalog::{Kernel, Sent, Variant, parameters};
use crate::profile::Work;
use crate::rows::Bound;
use crate::{Grid, KernelError, Pass, Result, Tensor};

const OP: &str = "add";
const WG: usize = 64;
/// Examples that one dispatch of the gradient adds: emulated adapters end a loop after 65,535 rounds.
const EXAMPLES_PER_DISPATCH: usize = 32_768;

const SOURCE: &[&str] = &[include_str!("add.wgsl")];
const CONSTANTS: &[(&str, u32)] = &[("WG", WG as u32)];
static FORWARD: Kernel = Kernel {
    name: "add/forward",
    entry: "forward",
    parts: SOURCE,
    constants: CONSTANTS,
    parameters: Parameters::FIELDS,
};
static ACCUMULATE: Kernel = Kernel {
    name: "add/accumulate",
    entry: "accumulate",
    parts: SOURCE,
    constants: CONSTANTS,
    parameters: Parameters::FIELDS,
};
static FORWARD_ROWS: Kernel = Kernel {
    name: "add/forward_rows",
    entry: "forward_rows",
    parts: SOURCE,
    constants: CONSTANTS,
    parameters: Parameters::FIELDS,
};
static BACKWARD_ROWS: Kernel = Kernel {
    name: "add/backward_rows",
    entry: "backward_rows",
    parts: SOURCE,
    constants: CONSTANTS,
    parameters: Parameters::FIELDS,
};

pub(crate) fn variants() -> Vec<Variant> {
    [&FORWARD, &ACCUMULATE, &FORWARD_ROWS, &BACKWARD_ROWS].map(Kernel::default_variant).to_vec()
}

parameters! {
    struct Parameters {
        n: u32,
        period: u32,
        first: u32,
    }
}

/// `y = a + b`. The gradient by both is dy, so there is no backward.
///
/// # Shapes
/// a, b, y alike.
///
/// # Errors
/// `Shape` when a and b differ.
pub fn forward(pass: &mut Pass, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    pass.admit(OP, &[("a", a), ("b", b)])?;
    a.expect_f32(OP, "a", a.shape())?;
    b.expect_f32(OP, "b", a.shape())?;
    let mut y = pass.empty_f32(a.shape())?;
    if let Some(cpu) = pass.cpu() {
        cpu.run(Work::words("add/forward", 3 * a.len()), || cpu::forward(a.f32(), b.f32(), y.f32_mut()));
        return Ok(y);
    }
    let bound = [a, b, &y].map(|tensor| Bound::Rows(tensor, 1));
    pass.dispatch_rows(&FORWARD.default_variant(), a.len(), &bound, a.len() as f64, |elements| {
        let n = elements.len();
        (Parameters { n: n as u32, period: 0, first: 0 }, Grid::rows(n.div_ceil(WG)))
    })?;
    Ok(y)
}

/// `out += x`.
///
/// # Shapes
/// x, out alike.
///
/// # Errors
/// `Shape` when x and out differ.
pub fn accumulate(pass: &mut Pass, x: &Tensor, out: &mut Tensor) -> Result<()> {
    pass.admit(OP, &[("x", x), ("out", out)])?;
    x.expect_f32(OP, "x", x.shape())?;
    out.expect_f32(OP, "out", x.shape())?;
    if let Some(cpu) = pass.cpu() {
        cpu.run(Work::words("add/accumulate", 3 * x.len()), || cpu::accumulate(x.f32(), out.f32_mut()));
        return Ok(());
    }
    out.gpu_unique(pass)?;
    let bound = [x, out].map(|tensor| Bound::Rows(tensor, 1));
    pass.dispatch_rows(&ACCUMULATE.default_variant(), x.len(), &bound, x.len() as f64, |elements| {
        let n = elements.len();
        (Parameters { n: n as u32, period: 0, first: 0 }, Grid::rows(n.div_ceil(WG)))
    })
}

/// `y[i * l + j] = x[i * l + j] + table[j]`: the table is added to the rows of each example i. The gradient by x is dy.
///
/// # Shapes
/// x: [n * l, d]; table: [l, d]; y as x.
///
/// # Errors
/// `Shape` when the rows of x and of the table are not equally long; `Size` when l does not divide the rows of x.
pub fn forward_rows(pass: &mut Pass, x: &Tensor, table: &Tensor) -> Result<Tensor> {
    pass.admit(OP, &[("x", x), ("table", table)])?;
    x.expect_f32(OP, "x", x.shape())?;
    table.expect_f32(OP, "table", &[table.rows(), x.cols()])?;
    whole_examples("rows of x", x, table.rows())?;
    let mut y = pass.empty_f32(x.shape())?;
    if let Some(cpu) = pass.cpu() {
        cpu.run(Work::words("add/forward_rows", 2 * x.len()), || cpu::forward_rows(x.f32(), table.f32(), y.f32_mut()));
        return Ok(y);
    }
    let period = table.len();
    let bound = [Bound::Rows(x, period), Bound::Whole(table), Bound::Rows(&y, period)];
    pass.dispatch_rows(&FORWARD_ROWS.default_variant(), x.len() / period, &bound, x.len() as f64, |examples| {
        let n = examples.len() * period;
        (Parameters { n: n as u32, period: period as u32, first: 0 }, Grid::rows(n.div_ceil(WG)))
    })?;
    Ok(y)
}

/// `dtable[j] += sum_i dy[i * l + j]`, in the order of i.
///
/// # Shapes
/// dy: [n * l, d]; dtable: [l, d].
///
/// # Errors
/// As [`forward_rows`].
pub fn backward_rows(pass: &mut Pass, dy: &Tensor, dtable: &mut Tensor) -> Result<()> {
    backward_first_rows(pass, dy, dtable.rows(), dtable)
}

/// [`backward_rows`] into the first l rows of a table that may have more; the others are not touched.
pub(crate) fn backward_first_rows(pass: &mut Pass, dy: &Tensor, l: usize, dtable: &mut Tensor) -> Result<()> {
    pass.admit(OP, &[("dy", dy), ("dtable", dtable)])?;
    dy.expect_f32(OP, "dy", dy.shape())?;
    dtable.expect_f32(OP, "dtable", &[dtable.rows().max(l), dy.cols()])?;
    whole_examples("rows of dy", dy, l)?;
    let period = l * dy.cols();
    if let Some(cpu) = pass.cpu() {
        cpu.run(Work::words("add/backward_rows", dy.len()), || {
            cpu::backward_rows(dy.f32(), &mut dtable.f32_mut()[..period])
        });
        return Ok(());
    }
    dtable.gpu_unique(pass)?;
    let (grid, step) = (Grid::rows(period.div_ceil(WG)), EXAMPLES_PER_DISPATCH * period);
    let bound = [Bound::Rows(dy, period), Bound::Whole(dtable)];
    for examples in pass.slices(dy.len() / period, 1, &bound) {
        let len = examples.len() * period;
        for first in (0..len).step_by(step) {
            let last = (first + step).min(len);
            let parameters = Parameters { n: last as u32, period: period as u32, first: first as u32 };
            let (variant, work) = (BACKWARD_ROWS.default_variant(), (last - first) as f64);
            pass.dispatch_slice(&variant, &bound, examples.clone(), parameters, grid, work)?;
        }
    }
    Ok(())
}

fn whole_examples(what: &'static str, x: &Tensor, l: usize) -> Result<()> {
    if x.rows().is_multiple_of(l) {
        return Ok(());
    }
    Err(KernelError::Size { op: OP, what, got: x.rows(), rule: format!("a multiple of {l}, the rows of the table") })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;

    fn check(n: usize) {
        let (a, b) = (random(n, 1), random(n, 2));
        let want = oracle::forward(&wide(&a), &wide(&b));
        on_each_device(|pass| {
            let (a, mut out) = (pass.upload(&a, &[n]).unwrap(), pass.upload(&b, &[n]).unwrap());
            let untouched = out.clone();
            let y = forward(pass, &a, &out).unwrap();
            assert_within("y", &checked_read(pass, "y", &y), &want, |_| 2.0 * EPS);
            accumulate(pass, &a, &mut out).unwrap();
            assert_within("out", &checked_read(pass, "out", &out), &want, |_| 2.0 * EPS);
            assert_eq!(pass.read(&untouched).unwrap(), b, "a clone keeps its own value");
        });
    }

    fn check_rows(n: usize, l: usize, d: usize) {
        let (x, table) = (random(n * l * d, 1), random(l * d, 2));
        let want = oracle::forward_rows(&wide(&x), &wide(&table));
        let summed = oracle::backward_rows(&wide(&x), &wide(&table));
        on_each_device(|pass| {
            let (x, mut out) = (pass.upload(&x, &[n * l, d]).unwrap(), pass.upload(&table, &[l, d]).unwrap());
            let untouched = out.clone();
            let y = forward_rows(pass, &x, &out).unwrap();
            assert_within("y", &checked_read(pass, "y", &y), &want, |_| 2.0 * EPS);
            backward_rows(pass, &x, &mut out).unwrap();
            let tolerance = sum_tolerance(n, n as f64 + 1.0);
            assert_within("dtable", &checked_read(pass, "dtable", &out), &summed, |_| tolerance);
            assert_eq!(pass.read(&untouched).unwrap(), table, "a clone keeps its own value");
        });
    }

    #[test]
    fn matches_oracle_on_ragged_shapes() {
        for n in RAGGED {
            check(n);
            check_rows(3, n, 5);
            check_rows(n, 3, 11);
        }
        check_rows(1, 7, 769);
        check(20_001);
    }

    #[test]
    fn matches_oracle_beyond_one_dispatch_dimension() {
        check(65_537 * WG + 1);
        check_rows(65_537, 13, 5);
    }

    #[test]
    fn gradients_of_more_examples_than_one_dispatch_adds_are_whole() {
        // All sums are whole numbers, so they are exact.
        let n = 2 * EXAMPLES_PER_DISPATCH + 3;
        on_each_device(|pass| {
            let dy = pass.upload(&vec![1.0; n * 3], &[n * 3, 1]).unwrap();
            let mut dtable = pass.upload(&[0.0, 1.0, 2.0], &[3, 1]).unwrap();
            backward_rows(pass, &dy, &mut dtable).unwrap();
            let n = n as f32;
            assert_eq!(checked_read(pass, "dtable", &dtable), [n, n + 1.0, n + 2.0]);
        });
    }

    #[test]
    fn a_tensor_can_be_added_to_itself() {
        on_each_device(|pass| {
            let mut x = pass.upload(&[1.0, 2.0], &[2]).unwrap();
            let same = x.clone();
            accumulate(pass, &same, &mut x).unwrap();
            assert_eq!(pass.read(&x).unwrap(), [2.0, 4.0]);
            assert_eq!(pass.read(&same).unwrap(), [1.0, 2.0]);
            let y = forward(pass, &same, &same).unwrap();
            assert_eq!(pass.read(&y).unwrap(), [2.0, 4.0]);
        });
    }

    #[test]
    fn rows_beyond_the_first_are_not_touched() {
        on_each_device(|pass| {
            let dy = pass.upload(&[1.0, 2.0, 3.0, 4.0], &[4, 1]).unwrap();
            let mut dtable = pass.upload(&[1.0, 1.0, 7.0], &[3, 1]).unwrap();
            backward_first_rows(pass, &dy, 2, &mut dtable).unwrap();
            assert_eq!(checked_read(pass, "dtable", &dtable), [5.0, 7.0, 7.0]);
        });
    }

    #[test]
    fn oracle_backward_is_the_derivative() {
        let (x, table, dy) = (wide(&random(24, 1)), wide(&random(8, 2)), wide(&random(24, 3)));
        let dtable = oracle::backward_rows(&dy, &[0.0; 8]);
        assert_is_gradient("dtable", &table, &dy, |table| oracle::forward_rows(&x, table), &dtable);
        assert_is_gradient("dx", &x, &dy, |x| oracle::forward_rows(x, &table), &dy);
        assert_is_gradient("da", &x, &dy, |x| oracle::forward(x, &dy), &dy);
    }

    #[test]
    fn nan_is_not_hidden() {
        on_each_device(|pass| {
            let x = pass.upload(&[1.0, f32::NAN, 1.0], &[3, 1]).unwrap();
            let mut table = pass.upload(&[2.0], &[1, 1]).unwrap();
            let y = forward_rows(pass, &x, &table).unwrap();
            let y = pass.read(&y).unwrap();
            assert!(y[0] == 3.0 && y[1].is_nan() && y[2] == 3.0);
            backward_rows(pass, &x, &mut table).unwrap();
            assert!(pass.read(&table).unwrap()[0].is_nan());
        });
    }

    #[test]
    fn wrong_shapes_are_named() {
        on_each_device(|pass| {
            let (x, mut other) = (pass.zeros(&[4, 2]).unwrap(), pass.zeros(&[3, 2]).unwrap());
            let error = forward(pass, &x, &other).unwrap_err().to_string();
            assert_eq!(error, "add: b has shape [3, 2], expected [4, 2]");
            assert!(accumulate(pass, &x, &mut other).is_err());
            let error = forward_rows(pass, &x, &other).unwrap_err().to_string();
            assert_eq!(error, "add: rows of x is 4, but must be a multiple of 3, the rows of the table");
            assert!(backward_rows(pass, &x, &mut other).is_err());
            let narrow = pass.zeros(&[2, 1]).unwrap();
            let error = forward_rows(pass, &x, &narrow).unwrap_err().to_string();
            assert_eq!(error, "add: table has shape [2, 1], expected [2, 2]");
        });
    }
}

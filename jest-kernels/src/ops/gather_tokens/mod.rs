//! Keeping some tokens of each example: `y[i * k + j] = x[i * l + indices[i, j]]` (patch dropping, last-token pooling).

mod cpu;
pub mod oracle;
#[cfg(test)]
mod tests;

use std::cell::RefCell;

use crate::catalog::{Kernel, Sent, Variant, parameters};
use crate::profile::Work;
use crate::rows::Bound;
use crate::{Grid, KernelError, Pass, Result, Tensor};

const OP: &str = "gather_tokens";
const WG: usize = 64;

const SOURCE: &[&str] = &[include_str!("gather_tokens.wgsl")];
const CONSTANTS: &[(&str, u32)] = &[("WG", WG as u32)];
static FORWARD: Kernel = Kernel {
    name: "gather_tokens/forward",
    entry: "forward",
    parts: SOURCE,
    constants: CONSTANTS,
    parameters: Parameters::FIELDS,
};
static BACKWARD: Kernel = Kernel {
    name: "gather_tokens/backward",
    entry: "backward",
    parts: SOURCE,
    constants: CONSTANTS,
    parameters: Parameters::FIELDS,
};

pub(crate) fn variants() -> Vec<Variant> {
    [&FORWARD, &BACKWARD].map(Kernel::default_variant).to_vec()
}

parameters! {
    struct Parameters {
        n: u32,
        cols: u32,
        kept: u32,
        length: u32,
    }
}

thread_local! {
    /// The inverse in work; kept from call to call.
    static INVERSE: RefCell<Vec<u32>> = const { RefCell::new(Vec::new()) };
}

/// Which k of the l tokens of each of n examples are kept.
#[derive(Clone, Debug)]
pub struct KeptTokens {
    /// [n * k]
    indices: Tensor,
    /// [n * l]: slot plus 1 of a kept token, 0 of a dropped one.
    inverse: Tensor,
    n: usize,
    k: usize,
    l: usize,
}

impl KeptTokens {
    /// Puts n rows of k indices below l on the device; each row ascends strictly.
    ///
    /// # Errors
    /// `Shape` unless there are n * k indices; `Size` for an index that is not below l or does not ascend, with its
    /// example and slot.
    pub fn upload(pass: &mut Pass, indices: &[u32], n: usize, k: usize, l: usize) -> Result<KeptTokens> {
        if indices.len() != n * k {
            let (expected, got) = (vec![n, k], vec![indices.len()]);
            return Err(KernelError::Shape { op: OP, what: "indices", expected, got });
        }
        INVERSE.with_borrow_mut(|inverse| {
            inverse.clear();
            inverse.resize(n * l, 0);
            for (at, index) in indices.iter().enumerate() {
                let (example, slot) = (at / k, at % k);
                let lowest = if slot == 0 { 0 } else { indices[at - 1] as usize + 1 };
                let got = *index as usize;
                if !(lowest..l).contains(&got) {
                    let rule = format!("at least {lowest} and below {l} (example {example}, slot {slot})");
                    return Err(KernelError::Size { op: OP, what: "index", got, rule });
                }
                inverse[example * l + got] = slot as u32 + 1;
            }
            let (indices, inverse) = (pass.upload_u32(indices, &[n * k])?, pass.upload_u32(inverse, &[n * l])?);
            Ok(KeptTokens { indices, inverse, n, k, l })
        })
    }

    /// Tokens kept of each example.
    pub fn k(&self) -> usize {
        self.k
    }
}

/// `y[i * k + j] = x[i * l + indices[i, j]]`.
///
/// # Shapes
/// x: [n * l, d]; y: [n * k, d].
///
/// # Errors
/// `Shape` when x has another number of rows.
pub fn forward(pass: &mut Pass, x: &Tensor, kept: &KeptTokens) -> Result<Tensor> {
    pass.admit(OP, &[("x", x), ("kept tokens", &kept.indices)])?;
    let KeptTokens { n, k, l, .. } = *kept;
    let d = x.cols();
    x.expect_f32(OP, "x", &[n * l, d])?;
    let mut y = pass.empty_f32(&[n * k, d])?;
    if let Some(cpu) = pass.cpu() {
        cpu.run(Work::words("gather_tokens/forward", 2 * n * k * d), || {
            cpu::forward(x.f32(), kept.indices.u32(), k, l, d, y.f32_mut())
        });
        return Ok(y);
    }
    dispatch(pass, &FORWARD, kept, [x, &kept.indices, &y])?;
    Ok(y)
}

/// `dx[i * l + indices[i, j]] = dy[i * k + j]`, and 0 for dropped tokens.
///
/// # Shapes
/// dy: [n * k, d]; dx: [n * l, d].
///
/// # Errors
/// `Shape` when dy has another number of rows.
pub fn backward(pass: &mut Pass, dy: &Tensor, kept: &KeptTokens) -> Result<Tensor> {
    pass.admit(OP, &[("dy", dy), ("kept tokens", &kept.inverse)])?;
    let KeptTokens { n, k, l, .. } = *kept;
    let d = dy.cols();
    dy.expect_f32(OP, "dy", &[n * k, d])?;
    let mut dx = pass.empty_f32(&[n * l, d])?;
    if let Some(cpu) = pass.cpu() {
        cpu.run(Work::words("gather_tokens/backward", n * (k + l) * d), || {
            cpu::backward(dy.f32(), kept.inverse.u32(), k, l, d, dx.f32_mut())
        });
        return Ok(dx);
    }
    dispatch(pass, &BACKWARD, kept, [dy, &kept.inverse, &dx])?;
    Ok(dx)
}

/// One invocation for each element of the third tensor.
fn dispatch(pass: &mut Pass, kernel: &'static Kernel, kept: &KeptTokens, tensors: [&Tensor; 3]) -> Result<()> {
    let (len, cols) = (tensors[2].len(), tensors[2].cols());
    let bound = tensors.map(|tensor| Bound::Rows(tensor, tensor.len() / kept.n));
    pass.dispatch_rows(&kernel.default_variant(), kept.n, &bound, len as f64, |examples| {
        let n = examples.len() * (len / kept.n);
        let parameters = Parameters { n: n as u32, cols: cols as u32, kept: kept.k as u32, length: kept.l as u32 };
        (parameters, Grid::rows(n.div_ceil(WG)))
    })
}

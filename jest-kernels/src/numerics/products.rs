//! Matrix products: every form and end, in each precision, by each tile of the kernels and each level of the processor.

use half::{bf16 as Bf16, f16};

use super::{Case, SHAPES, Trial};
use crate::bf16::{self, Level};
use crate::ops::gelu::{self, Gelu};
use crate::ops::matmul::{self, Form, by_hand};
use crate::testing::wide;
use crate::{Precision, Result};

/// Rows, and depth; 64 columns.
const COLS: usize = 64;
/// Rows and columns of products by hand: they end within tiles, in whole vectors of four.
const TILES: &[[usize; 2]] = &[[132, 148]];
/// Depths of those.
const TILE_DEPTHS: usize = 44;

pub(super) const CASES: &[Case] = &[
    Case { shapes: SHAPES, run: forms },
    Case { shapes: SHAPES, run: layers },
    Case { shapes: SHAPES, run: slopes },
    Case { shapes: SHAPES, run: levels },
    Case { shapes: TILES, run: tiles },
];

/// A precision of products, and how it rounds an operand.
type Rounding = (Precision, fn(f32) -> f32);

/// What this device can multiply in.
fn precisions(t: &Trial<'_>) -> Vec<Rounding> {
    let all: [Rounding; 3] = [
        (Precision::F32, |x| x),
        (Precision::F16, |x| f16::from_f32(x).to_f32()),
        (Precision::Bf16, |x| Bf16::from_f32(x).to_f32()),
    ];
    let has = |one: Precision| t.pass.cpu().is_some() || one == Precision::F32 || one == t.pass.device().precision();
    all.into_iter().filter(|(one, _)| has(*one)).collect()
}

/// Inner products over `cols`; operands are rounded first, so that what is shown is the error of the sums.
fn forms(t: &mut Trial<'_>) -> Result<()> {
    let (m, k, n) = (t.rows, t.cols, COLS);
    for (precision, round) in precisions(t) {
        let (a, b) = (rounded(t, 1, m * k, round), rounded(t, 2, k * n, round));
        for form in Form::ALL {
            let (a_shape, b_shape) = form.shapes(m, n, k);
            let (a, b) = (t.given(a.clone(), &a_shape)?, t.given(b.clone(), &b_shape)?);
            let want = form.oracle()(m, n, k, &a.wide(), &b.wide());
            let y = t.pass.in_precision(precision, |pass| matmul::forward(pass, form, &a.tensor, &b.tensor))?;
            t.compare(format!("matmul {precision} {}: y", form.name()), &y, &want)?;
            let mut out = t.pass.zeros(&[m, n])?;
            t.pass.in_precision(precision, |pass| matmul::accumulate(pass, form, &a.tensor, &b.tensor, &mut out))?;
            t.compare(format!("matmul {precision} {}: accumulated", form.name()), &out, &want)?;
        }
        let (a, b) = (t.given(a, &[1, m, k])?, t.given(b, &[1, k, n])?);
        let want = matmul::oracle::ab(m, n, k, &a.wide(), &b.wide());
        let y = t.pass.in_precision(precision, |pass| matmul::batched(pass, Form::AB, &a.tensor, &b.tensor))?;
        t.compare(format!("matmul {precision} batched: y"), &y, &want)?;
    }
    Ok(())
}

fn rounded(t: &Trial<'_>, seed: u64, len: usize, round: fn(f32) -> f32) -> Vec<f32> {
    crate::testing::random(len, seed).iter().map(|x| round(x * t.magnitude)).collect()
}

/// Linear layers against the oracle on operands as they are: the rounding of operands is part of what is shown.
fn layers(t: &mut Trial<'_>) -> Result<()> {
    let (m, k, n) = (t.rows, t.cols, COLS);
    let (x, w, bias, dy) = (t.input(1, &[m, k])?, t.unit(2, &[n, k])?, t.unit(3, &[n])?, t.unit(4, &[m, n])?);
    let mut want = matmul::oracle::abt(m, n, k, &x.wide(), &w.wide());
    want.iter_mut().enumerate().for_each(|(i, y)| *y += f64::from(bias.values[i % n]));
    let want_dx = matmul::oracle::ab(m, k, n, &dy.wide(), &w.wide());
    let want_dw = matmul::oracle::atb(n, k, m, &dy.wide(), &x.wide());
    for (precision, _) in precisions(t) {
        let y = t.pass.in_precision(precision, |pass| matmul::linear(pass, &x.tensor, &w.tensor, &bias.tensor))?;
        t.compare(format!("linear {precision}: y"), &y, &want)?;
        for kind in Gelu::ALL {
            let both = |pass: &mut _| matmul::linear_gelu(pass, kind, &x.tensor, &w.tensor, &bias.tensor);
            let (y, _) = t.pass.in_precision(precision, both)?;
            t.compare(format!("linear_gelu {precision} {}: y", kind.name()), &y, &gelu::oracle::forward(kind, &want))?;
        }
        let (mut dw, mut dbias) = (t.pass.zeros(&[n, k])?, t.pass.zeros(&[n])?);
        let dx = t.pass.in_precision(precision, |pass| {
            matmul::linear_backward(pass, &x.tensor, &w.tensor, &dy.tensor, &mut dw, &mut dbias)
        })?;
        t.compare(format!("linear {precision}: dx"), &dx, &want_dx)?;
        t.compare(format!("linear {precision}: dw"), &dw, &want_dw)?;
    }
    Ok(())
}

/// Slopes of GELU behind a layer whose weights are within 1 over the root of the depth: farther from 0 they are 0 and 1.
/// Operands are rounded first.
fn slopes(t: &mut Trial<'_>) -> Result<()> {
    let (m, k, n) = (t.rows, t.cols, COLS);
    let bias = t.unit(3, &[n])?;
    for (precision, round) in precisions(t) {
        let x = rounded(t, 1, m * k, round);
        let w = crate::testing::random(n * k, 2).iter().map(|w| round(w / (k as f32).sqrt())).collect();
        let (x, w) = (t.given(x, &[m, k])?, t.given(w, &[n, k])?);
        let mut pre = matmul::oracle::abt(m, n, k, &x.wide(), &w.wide());
        pre.iter_mut().enumerate().for_each(|(i, y)| *y += f64::from(bias.values[i % n]));
        for kind in Gelu::ALL {
            let both = |pass: &mut _| matmul::linear_gelu(pass, kind, &x.tensor, &w.tensor, &bias.tensor);
            let (_, slope) = t.pass.in_precision(precision, both)?;
            let want = gelu::oracle::slope(kind, &pre);
            t.compare(format!("linear_gelu {precision} {}: slope", kind.name()), &slope, &want)?;
        }
    }
    Ok(())
}

/// Products on the CPU device by everything that this processor has: of rounded operands, and of f32 in parts.
fn levels(t: &mut Trial<'_>) -> Result<()> {
    if t.pass.cpu().is_none() {
        return Ok(());
    }
    let (m, k, n) = (t.rows, t.cols, COLS);
    let round = |x: f32| Bf16::from_f32(x).to_f32();
    let (a, b) = (rounded(t, 1, m * k, round), rounded(t, 2, n * k, round));
    let want = matmul::oracle::abt(m, n, k, &wide(&a), &wide(&b));
    for (level, name) in [(Level::Plain, "plain"), (Level::Avx512, "AVX-512"), (Level::Amx, "AMX")] {
        if level <= bf16::level() {
            let y = t.given(bf16::product(level, (m, n, k), &a, &b), &[m, n])?;
            t.compare(format!("matmul bf16 by {name}: y"), &y.tensor, &want)?;
        }
    }
    let (a, b) = (rounded(t, 1, m * k, |x| x), rounded(t, 2, n * k, |x| x));
    let want = matmul::oracle::abt(m, n, k, &wide(&a), &wide(&b));
    if let Some(level) = bf16::split() {
        let y = t.given(bf16::product(level, (m, n, k), &a, &b), &[m, n])?;
        t.compare("matmul f32 by AMX, in three parts: y".to_owned(), &y.tensor, &want)?;
    }
    Ok(())
}

/// Every kernel of every tile, dispatched whatever the adapter would be given.
fn tiles(t: &mut Trial<'_>) -> Result<()> {
    if t.pass.cpu().is_some() {
        return Ok(());
    }
    let halves = t.pass.device().precision() == Precision::F16;
    for product in by_hand::every_tile(t.pass, (t.rows, t.cols, TILE_DEPTHS), t.magnitude, halves)? {
        t.compare(product.name, &product.y, &product.want)?;
    }
    Ok(())
}

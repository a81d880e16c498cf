//! Operations on elements, rows and columns, and the optimiser.

use half::f16;

use super::{Case, SHAPES, Trial};
use crate::Result;
use crate::ops::gelu::Gelu;
use crate::ops::{
    adamw, add, cast, column_scale, column_sum, gelu, global_norm, l2_normalize, layer_norm, scale, tanh,
};

pub(super) const CASES: &[Case] = &[
    Case { shapes: SHAPES, run: optimizer },
    Case { shapes: SHAPES, run: sums },
    Case { shapes: SHAPES, run: tables },
    Case { shapes: SHAPES, run: casts },
    Case { shapes: SHAPES, run: column_scales },
    Case { shapes: SHAPES, run: column_sums },
    Case { shapes: SHAPES, run: gelus },
    Case { shapes: SHAPES, run: norm },
    Case { shapes: SHAPES, run: unit_rows },
    Case { shapes: SHAPES, run: layer_norms },
    Case { shapes: SHAPES, run: scaled },
    Case { shapes: SHAPES, run: tanhs },
];

/// Gradients within the magnitude, running means as such gradients leave them, and clipping to norm 1.
fn optimizer(t: &mut Trial<'_>) -> Result<()> {
    let shape = [t.rows, t.cols];
    let (mut p, g, mut m, mut v) = (t.unit(1, &shape)?, t.input(2, &shape)?, t.input(3, &shape)?, t.input(4, &shape)?);
    v.values.iter_mut().for_each(|v| *v *= *v);
    v.tensor = t.pass.upload(&v.values, &shape)?;
    let norm = g.wide().iter().map(|g| g * g).sum::<f64>().sqrt() as f32;
    let (lr, beta1, beta2, eps) = (1e-3, 0.9, 0.95, 1e-8);
    let (max_norm, max_value) = (Some(1.0), None);
    let settings =
        adamw::AdamW { lr, beta1, beta2, eps, decay: 1e-7, step: 3, gradient_scale: 1.0, max_norm, max_value };
    let mut want = adamw::oracle::State { parameter: p.wide(), mean: m.wide(), square: v.wide() };
    adamw::oracle::step(&settings, &mut want, &g.wide(), f64::from(norm));
    let norm = t.pass.upload(&[norm], &[1])?;
    adamw::step(t.pass, &settings, &mut p.tensor, &g.tensor, [&mut m.tensor, &mut v.tensor], &norm)?;
    t.compare("adamw: parameter", &p.tensor, &want.parameter)?;
    t.compare("adamw: mean", &m.tensor, &want.mean)?;
    t.compare("adamw: square", &v.tensor, &want.square)
}

fn sums(t: &mut Trial<'_>) -> Result<()> {
    let shape = [t.rows, t.cols];
    let (a, mut b) = (t.input(1, &shape)?, t.input(2, &shape)?);
    let want = add::oracle::forward(&a.wide(), &b.wide());
    let y = add::forward(t.pass, &a.tensor, &b.tensor)?;
    t.compare("add: y", &y, &want)?;
    add::accumulate(t.pass, &a.tensor, &mut b.tensor)?;
    t.compare("add: accumulated", &b.tensor, &want)
}

/// A table of as many rows as one of four examples.
fn tables(t: &mut Trial<'_>) -> Result<()> {
    let (x, table) = (t.input(1, &[4 * t.rows, t.cols])?, t.input(2, &[t.rows, t.cols])?);
    let y = add::forward_rows(t.pass, &x.tensor, &table.tensor)?;
    t.compare("add rows: y", &y, &add::oracle::forward_rows(&x.wide(), &table.wide()))?;
    let mut dtable = table.tensor.clone();
    add::backward_rows(t.pass, &x.tensor, &mut dtable)?;
    t.compare("add rows: dtable", &dtable, &add::oracle::backward_rows(&x.wide(), &table.wide()))
}

fn casts(t: &mut Trial<'_>) -> Result<()> {
    let x = t.input(1, &[t.rows, t.cols])?;
    let stored = cast::to_f16(t.pass, &x.tensor)?;
    let back = cast::to_f32(t.pass, &stored)?;
    t.compare("cast: to f16 and back", &back, &cast::oracle::to_f16(&x.wide()))?;
    let bits: Vec<f16> = t.pass.read_f16(&stored)?;
    let want: Vec<f64> = bits.iter().map(|x| cast::oracle::to_f32(x.to_bits())).collect();
    t.compare("cast: to f32", &back, &want)
}

fn column_scales(t: &mut Trial<'_>) -> Result<()> {
    let shape = [t.rows, t.cols];
    let (x, scale, dy) = (t.input(1, &shape)?, t.unit(2, &[t.cols])?, t.unit(3, &shape)?);
    let mut dscale = t.pass.zeros(&[t.cols])?;
    let y = column_scale::forward(t.pass, &x.tensor, &scale.tensor)?;
    let dx = column_scale::backward(t.pass, &x.tensor, &scale.tensor, &dy.tensor, &mut dscale)?;
    let (want_dx, want_dscale) = column_scale::oracle::backward(&x.wide(), &scale.wide(), &dy.wide());
    t.compare("column_scale: y", &y, &column_scale::oracle::forward(&x.wide(), &scale.wide()))?;
    t.compare("column_scale: dx", &dx, &want_dx)?;
    t.compare("column_scale: dscale", &dscale, &want_dscale)
}

fn column_sums(t: &mut Trial<'_>) -> Result<()> {
    let (x, mut out) = (t.input(1, &[t.cols, t.rows])?, t.input(2, &[t.rows])?);
    let want = column_sum::oracle::accumulate(&x.wide(), &out.wide());
    column_sum::accumulate(t.pass, &x.tensor, &mut out.tensor)?;
    t.compare("column_sum: out", &out.tensor, &want)
}

fn gelus(t: &mut Trial<'_>) -> Result<()> {
    let shape = [t.rows, t.cols];
    let (x, dy) = (t.input(1, &shape)?, t.unit(2, &shape)?);
    for kind in Gelu::ALL {
        let name = kind.name();
        let y = gelu::forward(t.pass, kind, &x.tensor)?;
        t.compare(format!("gelu {name}: y"), &y, &gelu::oracle::forward(kind, &x.wide()))?;
        let (_, slope) = gelu::forward_with_slope(t.pass, kind, &x.tensor)?;
        let want = gelu::oracle::slope(kind, &x.wide());
        t.compare(format!("gelu {name}: slope"), &slope, &want)?;
        let dx = gelu::backward(t.pass, &slope, &dy.tensor)?;
        t.compare(format!("gelu {name}: dx"), &dx, &gelu::oracle::backward(&want, &dy.wide()))?;
    }
    Ok(())
}

fn norm(t: &mut Trial<'_>) -> Result<()> {
    let (a, b) = (t.input(1, &[t.rows, t.cols])?, t.input(2, &[t.cols])?);
    let norm = global_norm::forward(t.pass, &[&a.tensor, &b.tensor])?;
    t.compare("global_norm: norm", &norm, &[global_norm::oracle::forward(&[a.wide(), b.wide()])])
}

fn unit_rows(t: &mut Trial<'_>) -> Result<()> {
    let shape = [t.rows, t.cols];
    let (x, dz, eps) = (t.input(1, &shape)?, t.unit(2, &shape)?, 1e-12);
    let (z, saved) = l2_normalize::forward(t.pass, &x.tensor)?;
    let dx = l2_normalize::backward(t.pass, saved, &dz.tensor)?;
    t.compare("l2_normalize: z", &z, &l2_normalize::oracle::forward(&x.wide(), t.cols, eps))?;
    t.compare("l2_normalize: dx", &dx, &l2_normalize::oracle::backward(&x.wide(), &dz.wide(), t.cols, eps))
}

fn layer_norms(t: &mut Trial<'_>) -> Result<()> {
    let (shape, eps) = ([t.rows, t.cols], 1e-6f32);
    let (x, gamma, beta, dy) = (t.input(1, &shape)?, t.unit(2, &[t.cols])?, t.unit(3, &[t.cols])?, t.unit(4, &shape)?);
    let (mut dgamma, mut dbeta) = (t.pass.zeros(&[t.cols])?, t.pass.zeros(&[t.cols])?);
    let (y, saved) = layer_norm::forward(t.pass, &x.tensor, &gamma.tensor, &beta.tensor, eps)?;
    let dx = layer_norm::backward(t.pass, saved, &gamma.tensor, &dy.tensor, &mut dgamma, &mut dbeta)?;
    let want = layer_norm::oracle::backward(&x.wide(), &gamma.wide(), &dy.wide(), f64::from(eps));
    let want_y = layer_norm::oracle::forward(&x.wide(), &gamma.wide(), &beta.wide(), f64::from(eps));
    t.compare("layer_norm: y", &y, &want_y)?;
    t.compare("layer_norm: dx", &dx, &want.dx)?;
    t.compare("layer_norm: dgamma", &dgamma, &want.dgamma)?;
    t.compare("layer_norm: dbeta", &dbeta, &want.dbeta)
}

fn scaled(t: &mut Trial<'_>) -> Result<()> {
    let mut x = t.input(1, &[t.rows, t.cols])?;
    scale::in_place(t.pass, &mut x.tensor, 0.3)?;
    t.compare("scale: x", &x.tensor, &scale::oracle::in_place(&x.wide(), f64::from(0.3f32)))
}

fn tanhs(t: &mut Trial<'_>) -> Result<()> {
    let shape = [t.rows, t.cols];
    let (x, dy) = (t.input(1, &shape)?, t.unit(2, &shape)?);
    let y = tanh::forward(t.pass, &x.tensor)?;
    t.compare("tanh: y", &y, &tanh::oracle::forward(&x.wide()))?;
    let taken = crate::testing::wide(&t.pass.read(&y)?);
    let dx = tanh::backward(t.pass, &y, &dy.tensor)?;
    t.compare("tanh: dx", &dx, &tanh::oracle::backward(&taken, &dy.wide()))
}

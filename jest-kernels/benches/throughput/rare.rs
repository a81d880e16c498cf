//! Operations that some models and objectives have alone.

use jest_kernels::ops::{column_scale, contrastive_distillation, l2_normalize, mean_pool, scale, tanh};
use jest_kernels::{Pass, Result, Tensor};

use super::{Case, Size, bytes, flops, tensor};

pub(crate) fn elements(pass: &mut Pass, s: &Size<'_>) -> Result<Vec<Case>> {
    let (rows, count) = (s.n * s.l, s.n * s.l * s.width);
    let x = tensor(pass, &[rows, s.width])?;
    let (mut scaled, columns) = (tensor(pass, &[rows, s.width])?, tensor(pass, &[s.width])?);
    let mut dcolumns = pass.zeros(&[s.width])?;
    let lengths: Vec<u32> = (0..s.n).map(|example| 1 + (example % s.l) as u32).collect();
    let counted = mean_pool::Counted::upload(pass, &lengths, s.l)?;
    let pooled = tensor(pass, &[s.n, s.width])?;
    let [x1, x2, x3, x4, x5] = std::array::from_fn(|_| x.clone());
    let (columns2, counted2) = (columns.clone(), counted.clone());
    Ok(vec![
        bytes("column_scale/forward", 2 * count, move |pass| column_scale::forward(pass, &x1, &columns).map(drop)),
        bytes("column_scale/backward", 3 * count, move |pass| {
            column_scale::backward(pass, &x2, &columns2, &x2, &mut dcolumns).map(drop)
        }),
        bytes("mean_pool/forward", count, move |pass| mean_pool::forward(pass, &x3, &counted).map(drop)),
        bytes("mean_pool/backward", count, move |pass| mean_pool::backward(pass, &pooled, &counted2).map(drop)),
        bytes("scale", 2 * count, move |pass| scale::in_place(pass, &mut scaled, 1.0)),
        bytes("tanh/forward", 2 * count, move |pass| tanh::forward(pass, &x4).map(drop)),
        bytes("tanh/backward", 3 * count, move |pass| tanh::backward(pass, &x5, &x5).map(drop)),
    ])
}

pub(crate) fn distillation(pass: &mut Pass, s: &Size<'_>) -> Result<Vec<Case>> {
    let (n, d) = (s.batch, s.width);
    let unit = |pass: &mut Pass| -> Result<Tensor> {
        let x = tensor(pass, &[n, d])?;
        Ok(l2_normalize::forward(pass, &x)?.0)
    };
    let (image, text, log_scale) = (unit(pass)?, unit(pass)?, pass.upload(&[2.3], &[1])?);
    let mut dscale = pass.zeros(&[1])?;
    // Logits of both models, twice, and two gradients.
    let pairs = 12.0 * (n * n * d) as f64;
    Ok(vec![flops("contrastive_distillation/forward_backward", pairs, move |pass| {
        let model = || contrastive_distillation::Embedded { image: &image, text: &text, log_scale: &log_scale };
        contrastive_distillation::forward_backward(pass, model(), model(), 1.0, &mut dscale).map(drop)
    })])
}

//! Losses, the optimiser, resized weights and pixels.

use std::fs;
use std::path::Path;

use jest_data::{Limits, Preprocess};
use jest_kernels::ops::resize_kernel::{self, Resize};
use jest_kernels::ops::{adamw, contrastive_softmax, global_norm, sigmoid_loss};
use jest_kernels::{Pass, Tensor};

use super::checks::{Checks, Expected};
use crate::{Result, TrainError};

const LOSS: f64 = 1e-5;
const ADAMW: f64 = 1e-6;
const PI_RESIZE: f64 = 1e-4;
/// Largest patch size and grid, whose resize matrix is to fit into memory.
const LARGEST_RESIZED: usize = 512;
/// Largest side of a picture.
const LARGEST: usize = 8192;

/// Both objectives and their gradients, from unit rows, t and bias.
pub(super) fn losses(pass: &mut Pass, path: &Path, checks: &mut Checks) -> Result<()> {
    let mut expected = Expected::open(path)?;
    let mut upload = |pass: &mut Pass, name| -> Result<Tensor> {
        let tensor = expected.tensor(name)?;
        Ok(pass.upload(&tensor.values, &tensor.shape)?)
    };
    let (image, text) = (upload(pass, "image")?, upload(pass, "text")?);
    let (scale, bias) = (expected.number("scale")?, expected.number("bias")?);
    let (log_scale, bias) = (pass.upload(&[scale.ln()], &[1])?, pass.upload(&[bias], &[1])?);
    for objective in ["sigmoid", "softmax"] {
        let (mut dscale, mut dbias) = (pass.zeros(&[1])?, pass.zeros(&[1])?);
        let (loss, dimage, dtext) = if objective == "sigmoid" {
            let logits = sigmoid_loss::LogitParameters { log_scale: &log_scale, bias: &bias };
            sigmoid_loss::forward_backward(pass, &image, &text, logits, &mut dscale, &mut dbias)?
        } else {
            contrastive_softmax::forward_backward(pass, &image, &text, &log_scale, &mut dscale)?
        };
        // By t itself: the derivative by its logarithm, divided by t.
        let parts = [("loss", &loss, 1.0), ("grad_image", &dimage, 1.0), ("grad_text", &dtext, 1.0)];
        for (part, ours, divisor) in
            parts.into_iter().chain([("grad_scale", &dscale, scale), ("grad_bias", &dbias, 1.0)])
        {
            let ours: Vec<f32> = pass.read(ours)?.iter().map(|value| value / divisor).collect();
            let name = format!("{objective}.{part}");
            checks.compare(&name, &ours, &expected.floats(&name)?, LOSS);
        }
    }
    Ok(())
}

/// Steps of AdamW after clipping the global norm to 1.
pub(super) fn adamw(pass: &mut Pass, path: &Path, checks: &mut Checks) -> Result<()> {
    let mut expected = Expected::open(path)?;
    let start = expected.tensor("param0")?;
    let mut parameter = pass.upload(&start.values, &start.shape)?;
    let (mut mean, mut square) = (pass.zeros(&start.shape)?, pass.zeros(&start.shape)?);
    for k in 1..=expected.beginning("grad").len() as u64 {
        let gradient = expected.tensor(&format!("grad{k}"))?;
        let gradient = pass.upload(&gradient.values, &gradient.shape)?;
        let norm = global_norm::forward(pass, &[&gradient])?;
        let name = format!("norm{k}");
        checks.compare(&name, &pass.read(&norm)?, &expected.floats(&name)?, ADAMW);
        let settings = adamw::AdamW {
            gradient_scale: 1.0,
            lr: 1e-3,
            beta1: 0.9,
            beta2: 0.95,
            eps: 1e-8,
            decay: 1e-3 * 1e-4,
            step: k,
            max_norm: Some(1.0),
            max_value: None,
        };
        adamw::step(pass, &settings, &mut parameter, &gradient, [&mut mean, &mut square], &norm)?;
        let name = format!("param{k}");
        checks.compare(&name, &pass.read(&parameter)?, &expected.floats(&name)?, ADAMW);
    }
    Ok(())
}

/// `weight16` at other patch sizes, `pos16` on other grids; bicubic with antialias.
pub(super) fn pi_resize(pass: &mut Pass, path: &Path, checks: &mut Checks) -> Result<()> {
    const STORED: usize = 16;
    let mut expected = Expected::open(path)?;
    let weight = expected.tensor("weight16")?;
    let uploaded = pass.upload(&weight.values, &weight.shape)?;
    let positions = expected.floats("pos16")?;
    for name in expected.names() {
        let (of_weight, size) = match (name.strip_prefix("weight"), name.strip_prefix("pos")) {
            (Some(size), _) => (true, size),
            (_, size) => (false, size.unwrap_or("none")),
        };
        let Some(size) = size.parse().ok().filter(|size| (1..=LARGEST_RESIZED).contains(size)) else {
            checks.refuse(&name, &format!("is neither weightN nor posN with N in 1..={LARGEST_RESIZED}"));
            continue;
        };
        if size == STORED {
            continue;
        }
        let want = expected.floats(&name)?;
        let stored = if of_weight { weight.values.len() } else { positions.len() };
        if want.len() * STORED * STORED != stored * size * size {
            checks.refuse(
                &name,
                &format!("has {} values, which is not the stored tensor at {size} x {size}", want.len()),
            );
            continue;
        }
        let ours = if of_weight {
            let matrix = resize_kernel::matrix(Resize::BicubicAntialias, STORED, size);
            let matrix = pass.upload(&matrix, &[size * size, STORED * STORED])?;
            let resized = resize_kernel::forward(pass, &uploaded, &matrix, size)?;
            pass.read(&resized)?
        } else {
            resize_kernel::resize_grid(Resize::BicubicAntialias, &positions, STORED, size)?
        };
        checks.compare(&name, &ours, &want, PI_RESIZE);
    }
    Ok(())
}

/// `FILE.SIZE` is FILE.png at SIZE x SIZE.
pub(super) fn preprocess(folder: &Path, checks: &mut Checks) -> Result<()> {
    let mut expected = Expected::open(&folder.join("expected.safetensors"))?;
    for name in expected.names() {
        let named = name.rsplit_once('.').and_then(|(file, size)| Some((file, size.parse::<usize>().ok()?)));
        let Some((file, size)) = named.filter(|(_, size)| (1..=LARGEST).contains(size)) else {
            checks.refuse(&name, &format!("is not FILE.SIZE with SIZE in 1..={LARGEST}"));
            continue;
        };
        let want = expected.floats(&name)?;
        if want.len() != 3 * size * size {
            checks.refuse(
                &name,
                &format!("has {} values; an RGB picture of that size has {}", want.len(), 3 * size * size),
            );
            continue;
        }
        let path = folder.join(format!("{file}.png"));
        let bytes = fs::read(&path).map_err(TrainError::storage("read", &path))?;
        let mut pixels = Vec::new();
        match jest_data::decode_rgb(&bytes, &Limits::default()) {
            Ok(image) => {
                let preprocess = Preprocess::siglip(size);
                preprocess.normalize(&preprocess.resize(&image), &mut pixels);
                checks.compare_exactly(&name, &pixels, &want);
            }
            Err((reason, why)) => checks.refuse(&name, &format!("{}: {} {why}", path.display(), reason.word())),
        }
    }
    Ok(())
}

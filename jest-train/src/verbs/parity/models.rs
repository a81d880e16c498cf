//! Models of Hugging Face's transformers: outputs, loss and every gradient.

use std::path::Path;

use jest_kernels::ops::matmul::{self, Form};
use jest_kernels::ops::{contrastive_softmax, sigmoid_loss};
use jest_kernels::{Pass, Tensor};
use jest_model::{ModelConfig, NamedTensor, TwoTowers, View};

use super::checks::{Checks, Expected, largest};
use crate::Result;

/// Embeddings, logits and loss.
const OUTPUT: f64 = 2e-5;
/// Gradients, relative to their own size or this share of the largest of the file.
const GRADIENT: f64 = 1e-4;
const GRADIENT_FLOOR: f64 = 1e-3;

/// `config.json`, `model.safetensors` and `expected.safetensors` of a `SiglipModel`, a `CLIPModel` or a
/// `VisionTextDualEncoderModel`.
pub(super) fn hugging_face(pass: &mut Pass, folder: &Path, checks: &mut Checks) -> Result<()> {
    let mut expected = Expected::open(&folder.join("expected.safetensors"))?;
    let mut model = TwoTowers::load(pass, folder)?;
    let images = expected.tensor("pixel_values")?;
    let images = pass.upload(&images.values, &images.shape)?;
    let (_, ids) = expected.indices("input_ids")?;
    let lengths = lengths(model.config(), &ids);
    let (image, image_saved) = model.encode_images(pass, &images, &View::default())?;
    let (text, text_saved) = model.encode_texts(pass, &ids, &lengths, &View::default())?;
    for (name, ours) in [("image_embeds", &image), ("text_embeds", &text)] {
        checks.compare(name, &pass.read(ours)?, &expected.floats(name)?, OUTPUT);
    }
    let cosines = matmul::forward(pass, Form::ABt, &text, &image)?;
    let (t, bias) = (pass.read(model.logit_scale.value())?[0].exp(), pass.read(model.logit_bias.value())?[0]);
    let logits: Vec<f32> = pass.read(&cosines)?.iter().map(|cosine| t * cosine + bias).collect();
    checks.compare("logits_per_text", &logits, &expected.floats("logits_per_text")?, OUTPUT);
    let [loss, dimage, dtext] = loss(pass, &mut model, &image, &text)?;
    checks.compare("loss", &pass.read(&loss)?, &expected.floats("loss")?, OUTPUT);
    model.backward_images(pass, image_saved, &dimage)?;
    model.backward_texts(pass, text_saved, &dtext)?;
    gradients(pass, &model, &mut expected, checks)
}

/// The loss that the library trains such a model with, and its gradients by both embeddings.
fn loss(pass: &mut Pass, model: &mut TwoTowers, image: &Tensor, text: &Tensor) -> Result<[Tensor; 3]> {
    let biased = model.config().has_logit_bias();
    let TwoTowers { logit_scale, logit_bias, .. } = model;
    let (scale, dscale) = logit_scale.value_and_grad();
    let (loss, dimage, dtext) = if biased {
        let (bias, dbias) = logit_bias.value_and_grad();
        let logits = sigmoid_loss::LogitParameters { log_scale: scale, bias };
        sigmoid_loss::forward_backward(pass, image, text, logits, dscale, dbias)?
    } else {
        contrastive_softmax::forward_backward(pass, image, text, scale, dscale)?
    };
    Ok([loss, dimage, dtext])
}

fn gradients(pass: &mut Pass, model: &TwoTowers, expected: &mut Expected, checks: &mut Checks) -> Result<()> {
    let wanted = expected.beginning("grad.");
    let mut floor = 0.0;
    for (name, _) in &wanted {
        floor = f64::max(floor, GRADIENT_FLOOR * largest(&expected.floats(name)?));
    }
    let ours = model.gradients(pass)?;
    for NamedTensor { name, values, .. } in &ours {
        let name = format!("grad.{name}");
        checks.compare_above(&name, values, &expected.floats(&name)?, floor, GRADIENT);
    }
    // A gradient that we do not have at all.
    for (name, parameter) in wanted {
        if !ours.iter().any(|ours| ours.name == parameter) {
            checks.fail(&name);
        }
    }
    Ok(())
}

/// Tokens of each text up to its first end mark; all of them when it has none.
fn lengths(config: &ModelConfig, ids: &[u32]) -> Vec<u32> {
    let end = |row: &[u32]| row.iter().position(|id| *id == config.text.eos_id).map_or(row.len(), |at| at + 1);
    ids.chunks(config.text.tokens).map(|row| end(row) as u32).collect()
}

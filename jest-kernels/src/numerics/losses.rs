//! Losses and the scores of selection. Embeddings are unit rows; the magnitude is the scale of the logits, t.

use super::{Case, Given, SHAPES, Trial};
use crate::Result;
use crate::ops::contrastive_distillation::{self, Embedded};
use crate::ops::contrastive_softmax;
use crate::ops::selection_scores::{self, Candidates, Draw};
use crate::ops::sigmoid_loss::{self, LogitParameters};
use crate::ops::softmax_cross_entropy::{self, Labels};
use crate::testing::paired_embeddings;

/// Pairs, and width of their embeddings.
const PAIRS: &[[usize; 2]] = &[[64, 64], [257, 33], [130, 192]];
const BIAS: f32 = -3.0;

pub(super) const CASES: &[Case] = &[
    Case { shapes: PAIRS, run: sigmoid },
    Case { shapes: PAIRS, run: softmax },
    Case { shapes: PAIRS, run: distillation },
    Case { shapes: PAIRS, run: scores },
    Case { shapes: SHAPES, run: cross_entropy },
];

/// Images and texts, and the logarithm of the scale and the bias of their logits.
struct Model {
    image: Given,
    text: Given,
    log_scale: Given,
    bias: Given,
}

impl Model {
    /// `shift` sets the embeddings of one model apart from another's.
    fn new(t: &mut Trial<'_>, shift: usize) -> Result<Self> {
        let (n, d, log_scale) = (t.rows, t.cols, t.magnitude.ln());
        let [image, text] = paired_embeddings(n + shift, d).map(|rows| rows[shift * d..].to_vec());
        Ok(Self {
            image: t.given(image, &[n, d])?,
            text: t.given(text, &[n, d])?,
            log_scale: t.given(vec![log_scale], &[1])?,
            bias: t.given(vec![BIAS], &[1])?,
        })
    }

    fn log_scale(&self) -> f64 {
        f64::from(self.log_scale.values[0])
    }
}

fn sigmoid(t: &mut Trial<'_>) -> Result<()> {
    let model = Model::new(t, 0)?;
    let (d, image, text, log_scale) = (t.cols, model.image.wide(), model.text.wide(), model.log_scale());
    let parameters = LogitParameters { log_scale: &model.log_scale.tensor, bias: &model.bias.tensor };
    let want_loss = [sigmoid_loss::oracle::forward(d, &image, &text, log_scale, f64::from(BIAS))];
    let loss = sigmoid_loss::forward(t.pass, &model.image.tensor, &model.text.tensor, parameters)?;
    t.compare("sigmoid_loss: loss alone", &loss, &want_loss)?;
    let (mut dlog_scale, mut dbias) = (t.pass.zeros(&[1])?, t.pass.zeros(&[1])?);
    let inputs = (&model.image.tensor, &model.text.tensor);
    let (loss, dimage, dtext) =
        sigmoid_loss::forward_backward(t.pass, inputs.0, inputs.1, parameters, &mut dlog_scale, &mut dbias)?;
    let want = sigmoid_loss::oracle::backward(d, &image, &text, log_scale, f64::from(BIAS));
    t.compare("sigmoid_loss: loss", &loss, &want_loss)?;
    t.compare("sigmoid_loss: dimage", &dimage, &want.dimage)?;
    t.compare("sigmoid_loss: dtext", &dtext, &want.dtext)?;
    t.compare("sigmoid_loss: dlog_scale", &dlog_scale, &[want.dlog_scale])?;
    t.compare("sigmoid_loss: dbias", &dbias, &[want.dbias])
}

fn softmax(t: &mut Trial<'_>) -> Result<()> {
    let model = Model::new(t, 0)?;
    let (d, image, text, log_scale) = (t.cols, model.image.wide(), model.text.wide(), model.log_scale());
    let Model { image: images, text: texts, log_scale: stored, .. } = &model;
    let want_loss = [contrastive_softmax::oracle::forward(d, &image, &text, log_scale)];
    let loss = contrastive_softmax::forward(t.pass, &images.tensor, &texts.tensor, &stored.tensor)?;
    t.compare("contrastive_softmax: loss alone", &loss, &want_loss)?;
    let mut dlog_scale = t.pass.zeros(&[1])?;
    let (loss, dimage, dtext) =
        contrastive_softmax::forward_backward(t.pass, &images.tensor, &texts.tensor, &stored.tensor, &mut dlog_scale)?;
    let want = contrastive_softmax::oracle::backward(d, &image, &text, log_scale);
    t.compare("contrastive_softmax: loss", &loss, &want_loss)?;
    t.compare("contrastive_softmax: dimage", &dimage, &want.dimage)?;
    t.compare("contrastive_softmax: dtext", &dtext, &want.dtext)?;
    t.compare("contrastive_softmax: dlog_scale", &dlog_scale, &[want.dlog_scale])
}

/// From a teacher of other embeddings, with a scale of 10.
fn distillation(t: &mut Trial<'_>) -> Result<()> {
    let (model, mut teacher) = (Model::new(t, 0)?, Model::new(t, 1)?);
    teacher.log_scale = t.given(vec![10f32.ln()], &[1])?;
    let wide = [&model, &teacher].map(|model| (model.image.wide(), model.text.wide(), model.log_scale()));
    let [ours, theirs] = wide.each_ref().map(|(image, text, log_scale)| contrastive_distillation::oracle::Model {
        d: t.cols,
        image,
        text,
        log_scale: *log_scale,
    });
    let [student, teacher] = [&model, &teacher].map(|model| Embedded {
        image: &model.image.tensor,
        text: &model.text.tensor,
        log_scale: &model.log_scale.tensor,
    });
    let mut dlog_scale = t.pass.zeros(&[1])?;
    let (loss, dimage, dtext) =
        contrastive_distillation::forward_backward(t.pass, student, teacher, 1.0, &mut dlog_scale)?;
    let want = contrastive_distillation::oracle::backward(ours, theirs);
    t.compare("contrastive_distillation: loss", &loss, &[contrastive_distillation::oracle::forward(ours, theirs)])?;
    t.compare("contrastive_distillation: dimage", &dimage, &want.dimage)?;
    t.compare("contrastive_distillation: dtext", &dtext, &want.dtext)?;
    t.compare("contrastive_distillation: dlog_scale", &dlog_scale, &[want.dlog_scale])
}

/// The first third is drawn, the rest is open.
fn scores(t: &mut Trial<'_>) -> Result<()> {
    let model = Model::new(t, 0)?;
    let Model { image, text, log_scale, bias } = &model;
    let candidates =
        Candidates { image: &image.tensor, text: &text.tensor, log_scale: &log_scale.tensor, bias: &bias.tensor };
    let (wide_image, wide_text) = (image.wide(), text.wide());
    let exact = selection_scores::oracle::Candidates {
        d: t.cols,
        image: &wide_image,
        text: &wide_text,
        log_scale: model.log_scale(),
        bias: f64::from(BIAS),
    };
    let mut want = vec![0.0; t.rows];
    let mut conditional = t.pass.zeros(&[t.rows])?;
    selection_scores::oracle::diagonal(1.0, exact, &mut want);
    selection_scores::diagonal(t.pass, 1.0, candidates, &mut conditional)?;
    t.compare("selection_scores: diagonal", &conditional, &want)?;
    let all: Vec<u32> = (0..t.rows as u32).collect();
    let (chunk, open) = all.split_at(t.rows / 3);
    let mut want = vec![0.0; t.rows];
    selection_scores::oracle::condition_on(1.0, exact, open, chunk, &mut want);
    let mut conditional = t.pass.zeros(&[t.rows])?;
    selection_scores::condition_on(t.pass, 1.0, candidates, Draw { open, chunk }, &mut conditional)?;
    t.compare("selection_scores: condition_on", &conditional, &want)?;
    for (name, large) in [("small", false), ("large", true)] {
        let mut conditional = t.pass.zeros(&[t.rows])?;
        if selection_scores::condition_by_tile(t.pass, candidates, Draw { open, chunk }, large, &mut conditional)? {
            t.compare(format!("selection_scores: condition_on, {name} tile"), &conditional, &want)?;
        }
    }
    Ok(())
}

/// Logits within the magnitude.
fn cross_entropy(t: &mut Trial<'_>) -> Result<()> {
    let logits = t.input(1, &[t.rows, t.cols])?;
    let ids: Vec<u32> = (0..t.rows).map(|row| (row * 5 % t.cols) as u32).collect();
    let labels = Labels::upload(t.pass, &ids, t.cols)?;
    let want_loss = [softmax_cross_entropy::oracle::forward(t.cols, &logits.wide(), &ids)];
    let loss = softmax_cross_entropy::forward(t.pass, &logits.tensor, &labels)?;
    t.compare("softmax_cross_entropy: loss alone", &loss, &want_loss)?;
    let (loss, dlogits) = softmax_cross_entropy::forward_backward(t.pass, &logits.tensor, &labels)?;
    t.compare("softmax_cross_entropy: loss", &loss, &want_loss)?;
    let want = softmax_cross_entropy::oracle::backward(t.cols, &logits.wide(), &ids);
    t.compare("softmax_cross_entropy: dlogits", &dlogits, &want)
}

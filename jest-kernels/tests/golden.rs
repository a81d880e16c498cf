//! Losses and selection scores against numbers of other implementations: `fixtures/`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use jest_kernels::testing::{checked_read, fixture, on_each_device};
use jest_kernels::{DeviceKind, Pass, Tensor, ops::contrastive_softmax, ops::selection_scores, ops::sigmoid_loss};
use safetensors::SafeTensors;

/// Named values of one file.
struct Golden {
    bytes: Vec<u8>,
}

impl Golden {
    fn open(file: &str) -> Self {
        let path = fixture(file);
        Self { bytes: std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())) }
    }

    fn floats(&self, name: &str) -> Vec<f32> {
        let tensors = SafeTensors::deserialize(&self.bytes).unwrap();
        let data = tensors.tensor(name).unwrap().data().to_vec();
        data.as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()
    }

    /// The picks that the scores were computed for, a chunk each.
    fn chunks(&self) -> Vec<Vec<u32>> {
        let tensors = SafeTensors::deserialize(&self.bytes).unwrap();
        let picks = tensors.tensor("picks").unwrap();
        let draws = picks.shape()[1];
        let picks: Vec<_> =
            picks.data().as_chunks::<8>().0.iter().map(|&bytes| i64::from_le_bytes(bytes) as u32).collect();
        picks.chunks(draws).map(<[u32]>::to_vec).collect()
    }

    fn upload(&self, pass: &mut Pass, name: &str) -> Tensor {
        let shape = SafeTensors::deserialize(&self.bytes).unwrap().tensor(name).unwrap().shape().to_vec();
        pass.upload(&self.floats(name), &shape).unwrap()
    }
}

/// Holds `max|got - want|` to a fraction of `max|want|`.
fn assert_close(pass: &Pass, name: &str, got: &[f32], want: &[f32]) {
    assert_eq!(got.len(), want.len());
    let limit = if pass.device().info().kind == DeviceKind::Cpu { 1e-5 } else { 1e-4 };
    let size = want.iter().fold(0.0f64, |top, value| top.max(f64::from(value.abs())));
    for (got, want) in got.iter().zip(want) {
        let error = (f64::from(*got) - f64::from(*want)).abs();
        assert!(error <= limit * size, "{name} on {}: {got}, golden {want}", pass.device().info().name);
    }
}

/// Both embeddings, the logarithm of the scale, the bias, and the scale.
fn loss_inputs(pass: &mut Pass, golden: &Golden) -> ([Tensor; 4], f32) {
    let [image, text, bias] = ["image", "text", "bias"].map(|name| golden.upload(pass, name));
    let scale = golden.floats("scale")[0];
    let log_scale = pass.upload(&[scale.ln()], &[1]).unwrap();
    ([image, text, log_scale, bias], scale)
}

/// Compares one objective's loss and gradients, in the order of `names`.
fn assert_losses(pass: &mut Pass, golden: &Golden, objective: &str, results: &[(&str, &Tensor, f32)]) {
    for (name, tensor, factor) in results {
        let got = checked_read(pass, name, tensor);
        let want: Vec<_> = golden.floats(&format!("{objective}.{name}")).iter().map(|value| value * factor).collect();
        assert_close(pass, &format!("{objective}.{name}"), &got, &want);
    }
}

#[test]
fn sigmoid_loss_matches_open_clip() {
    let golden = Golden::open("losses.safetensors");
    on_each_device(|pass| {
        let ([image, text, log_scale, bias], scale) = loss_inputs(pass, &golden);
        let parameters = sigmoid_loss::LogitParameters { log_scale: &log_scale, bias: &bias };
        let [mut dlog_scale, mut dbias] = [0; 2].map(|_| pass.zeros(&[1]).unwrap());
        let (loss, dimage, dtext) =
            sigmoid_loss::forward_backward(pass, &image, &text, parameters, &mut dlog_scale, &mut dbias).unwrap();
        let only = sigmoid_loss::forward(pass, &image, &text, parameters).unwrap();
        let results = [
            ("loss", &loss, 1.0),
            ("loss", &only, 1.0),
            ("grad_image", &dimage, 1.0),
            ("grad_text", &dtext, 1.0),
            // By the logarithm: t times the derivative by t.
            ("grad_scale", &dlog_scale, scale),
            ("grad_bias", &dbias, 1.0),
        ];
        assert_losses(pass, &golden, "sigmoid", &results);
    });
}

#[test]
fn contrastive_softmax_matches_open_clip() {
    let golden = Golden::open("losses.safetensors");
    on_each_device(|pass| {
        let ([image, text, log_scale, _], scale) = loss_inputs(pass, &golden);
        let mut dlog_scale = pass.zeros(&[1]).unwrap();
        let (loss, dimage, dtext) =
            contrastive_softmax::forward_backward(pass, &image, &text, &log_scale, &mut dlog_scale).unwrap();
        let only = contrastive_softmax::forward(pass, &image, &text, &log_scale).unwrap();
        let results = [
            ("loss", &loss, 1.0),
            ("loss", &only, 1.0),
            ("grad_image", &dimage, 1.0),
            ("grad_text", &dtext, 1.0),
            ("grad_scale", &dlog_scale, scale),
        ];
        assert_losses(pass, &golden, "softmax", &results);
    });
}

/// Embeddings and logit parameters of one model.
fn scored_model(pass: &mut Pass, golden: &Golden, model: &str) -> [Tensor; 4] {
    let [image, text] = ["image", "text"].map(|name| golden.upload(pass, &format!("{model}.{name}")));
    let scale_bias = golden.floats(&format!("{model}.scale_bias"));
    let [log_scale, bias] = [scale_bias[0].ln(), scale_bias[1]].map(|value| pass.upload(&[value], &[1]).unwrap());
    [image, text, log_scale, bias]
}

fn candidates([image, text, log_scale, bias]: &[Tensor; 4]) -> selection_scores::Candidates<'_> {
    selection_scores::Candidates { image, text, log_scale, bias }
}

#[test]
fn selection_scores_match_numpy() {
    let golden = Golden::open("jest_scores.safetensors");
    on_each_device(|pass| {
        for (kind, weights) in
            [("learnability", [1.0, -1.0]), ("easy_reference", [0.0, -1.0]), ("hard_learner", [1.0, 0.0])]
        {
            let models = ["learner", "reference"].map(|model| scored_model(pass, &golden, model));
            let weighted = || models.iter().zip(weights).filter(|(_, weight)| *weight != 0.0);
            let mut open = [true; 96];
            let mut conditional = pass.zeros(&[96]).unwrap();
            for (model, weight) in weighted() {
                selection_scores::diagonal(pass, weight, candidates(model), &mut conditional).unwrap();
            }
            for (k, chunk) in golden.chunks().iter().enumerate() {
                let name = format!("sigmoid.{kind}.{k}");
                let only_open = |scores: Vec<f32>| -> Vec<f32> {
                    scores.into_iter().zip(open).filter_map(|(score, open)| open.then_some(score)).collect()
                };
                let got = checked_read(pass, &name, &conditional);
                assert!(got.iter().all(|score| score.is_finite()));
                assert_close(pass, &name, &only_open(got), &only_open(golden.floats(&name)));
                chunk.iter().for_each(|member| open[*member as usize] = false);
                let left: Vec<u32> = (0..96).filter(|x| open[*x as usize]).collect();
                let draw = selection_scores::Draw { open: &left, chunk };
                for (model, weight) in weighted() {
                    selection_scores::condition_on(pass, weight, candidates(model), draw, &mut conditional).unwrap();
                }
            }
        }
    });
}

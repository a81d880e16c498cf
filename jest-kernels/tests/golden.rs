//! Losses and selection scores against numbers of other implementations: `fixtures/`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use jest_kernels::testing::{checked_read, on_each_device};
use jest_kernels::{DeviceKind, Pass, Tensor, ops::contrastive_softmax, ops::sigmoid_loss};
use safetensors::SafeTensors;

/// Named values of one file.
struct Golden {
    bytes: Vec<u8>,
}

impl Golden {
    fn open(file: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures").join(file);
        Self { bytes: std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())) }
    }

    fn floats(&self, name: &str) -> Vec<f32> {
        let tensors = SafeTensors::deserialize(&self.bytes).unwrap();
        let data = tensors.tensor(name).unwrap().data().to_vec();
        data.as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()
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

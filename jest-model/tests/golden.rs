//! Outputs, loss and every gradient of Hugging Face's `SiglipModel`, `CLIPModel` and `VisionTextDualEncoderModel`
//! (transformers 5.23, torch 2.15).

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use jest_kernels::ops::contrastive_softmax;
use jest_kernels::ops::matmul::{self, Form};
use jest_kernels::ops::sigmoid_loss::{self, LogitParameters};
use jest_kernels::{Device, DeviceKind, Pass, Tensor, testing};
use jest_model::{Family, ModelConfig, NamedTensor, Parameters, TwoTowers, View};
use safetensors::SafeTensors;
use serde_json::Value;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures").join(name)
}

fn floats(file: &SafeTensors<'_>, name: &str) -> Vec<f32> {
    let bytes = file.tensor(name).unwrap();
    bytes.data().chunks_exact(4).map(|word| f32::from_le_bytes(word.try_into().unwrap())).collect()
}

fn largest(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |top, value| value.abs().max(top))
}

/// `max|got - want| <= limit * max(max|want|, floor)`; NaN fails.
#[track_caller]
fn assert_close(what: &str, got: &[f32], want: &[f32], floor: f32, limit: f32) {
    assert_eq!(got.len(), want.len(), "{what}");
    let scale = largest(want).max(floor);
    for (index, (got, want)) in got.iter().zip(want).enumerate() {
        let error = (got - want).abs() / scale;
        assert!(error <= limit, "{what}[{index}] = {got}, expected {want}: off by {error:.2e}, allowed {limit:.0e}");
    }
}

/// Loss, and its gradients by both embeddings.
fn loss(pass: &mut Pass, model: &mut TwoTowers, image: &Tensor, text: &Tensor) -> (Tensor, Tensor, Tensor) {
    let biased = model.config().has_logit_bias();
    let TwoTowers { logit_scale, logit_bias, .. } = model;
    let (scale, dscale) = logit_scale.value_and_grad();
    if !biased {
        return contrastive_softmax::forward_backward(pass, image, text, scale, dscale).unwrap();
    }
    let (bias, dbias) = logit_bias.value_and_grad();
    let logits = LogitParameters { log_scale: scale, bias };
    sigmoid_loss::forward_backward(pass, image, text, logits, dscale, dbias).unwrap()
}

fn agrees_on(device: &Device, folder: &Path) {
    let slack = if device.info().kind == DeviceKind::Cpu { 1.0 } else { 10.0 };
    let bytes = std::fs::read(folder.join("expected.safetensors")).unwrap();
    let expected = SafeTensors::deserialize(&bytes).unwrap();
    let pixels = floats(&expected, "pixel_values");
    let ids = expected.tensor("input_ids").unwrap();
    let ids: Vec<u32> =
        ids.data().chunks_exact(8).map(|word| i64::from_le_bytes(word.try_into().unwrap()) as u32).collect();
    let n = 5;

    let pass = &mut device.pass();
    let mut model = TwoTowers::load(pass, folder).unwrap();
    // The end mark is the first of its kind: CLIP pads with it.
    let end = |row: &[u32]| row.iter().position(|id| *id == model.config().text.eos_id).map_or(16, |at| at as u32 + 1);
    let lengths: Vec<u32> = ids.chunks(16).map(end).collect();
    let images = pass.upload(&pixels, &[n, 3, 32, 32]).unwrap();
    let (image, vision) = model.encode_images(pass, &images, &View::default()).unwrap();
    let (text, saved) = model.encode_texts(pass, &ids, &lengths, &View::default()).unwrap();
    let limit = 2e-5 * slack;
    assert_close("image_embeds", &pass.read(&image).unwrap(), &floats(&expected, "image_embeds"), 0.0, limit);
    assert_close("text_embeds", &pass.read(&text).unwrap(), &floats(&expected, "text_embeds"), 0.0, limit);

    let (t, bias) =
        (pass.read(model.logit_scale.value()).unwrap()[0].exp(), pass.read(model.logit_bias.value()).unwrap());
    let cosines = matmul::forward(pass, Form::ABt, &text, &image).unwrap();
    let logits: Vec<f32> = pass.read(&cosines).unwrap().iter().map(|cosine| t * cosine + bias[0]).collect();
    assert_close("logits_per_text", &logits, &floats(&expected, "logits_per_text"), 0.0, limit);

    let (loss, dimage, dtext) = loss(pass, &mut model, &image, &text);
    assert_close("loss", &pass.read(&loss).unwrap(), &floats(&expected, "loss"), 0.0, limit);

    model.backward_images(pass, vision, &dimage).unwrap();
    model.backward_texts(pass, saved, &dtext).unwrap();
    let gradients = model.gradients(pass).unwrap();
    let wanted: Vec<_> = expected.names().into_iter().filter(|name| name.starts_with("grad.")).collect();
    assert_eq!(gradients.len(), wanted.len());
    let floor = 1e-3 * wanted.iter().fold(0f32, |top, name| largest(&floats(&expected, name)).max(top));
    for NamedTensor { name, shape, values } in &gradients {
        let name = format!("grad.{name}");
        assert_eq!(expected.tensor(&name).unwrap().shape(), shape, "{name}");
        assert_close(&name, values, &floats(&expected, &name), floor, 1e-4 * slack);
    }
}

const TINY: [&str; 4] = ["hf_siglip_tiny", "hf_clip_tiny", "hf_dual_pooler", "hf_dual_mean"];

#[test]
fn the_cpu_device_agrees_with_transformers() {
    TINY.iter().for_each(|name| agrees_on(testing::devices()[0], &folder(name)));
}

#[test]
fn the_wgsl_kernels_agree_with_transformers() {
    TINY.iter().for_each(|name| agrees_on(testing::devices()[1], &folder(name)));
}

#[test]
fn names_and_shapes_are_those_of_transformers() {
    // Of all: blocks with qkv, out, fc1, fc2; text head; patches. The pooling head has five, a projection and a pooler are one.
    let all = [2 + 5, 2 + 1, 2 + 1 + 1, 2 + 1].map(|others| 2 * 4 * 2 + others);
    for (name, kernels) in TINY.into_iter().zip(all) {
        let pass = &mut testing::devices()[0].pass();
        let model = TwoTowers::load(pass, &folder(name)).unwrap();
        let bytes = std::fs::read(folder(name).join("model.safetensors")).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let mut copy = Vec::new();
        model.write_weights(pass, &mut copy, &Default::default()).unwrap();
        let copy = SafeTensors::deserialize(&copy).unwrap();
        let (mut ours, mut theirs) = (copy.names(), file.names());
        ours.sort_unstable();
        theirs.sort_unstable();
        assert_eq!(ours, theirs);
        for name in theirs {
            let (ours, theirs) = (copy.tensor(name).unwrap(), file.tensor(name).unwrap());
            assert_eq!((ours.shape(), ours.data()), (theirs.shape(), theirs.data()), "{name}");
        }
        assert_eq!(model.parameters().iter().filter(|param| param.is_kernel()).count(), kernels, "{name}");
    }
}

#[test]
fn configurations_are_read_as_transformers_writes_them() {
    for name in TINY {
        let config = ModelConfig::open(&folder(name)).unwrap();
        let again = ModelConfig::from_hf_json(&config.to_hf_json(), Path::new("config.json")).unwrap();
        assert_eq!(again, config);
        let wanted = std::fs::read_to_string(folder(name).join("config.json")).unwrap();
        let (wanted, got): (Value, Value) =
            (serde_json::from_str(&wanted).unwrap(), serde_json::from_str(&config.to_hf_json()).unwrap());
        // Ids of special tokens are the tokenizer's, and these two keys belong to the library.
        let own = ["bos_token_id", "eos_token_id", "pad_token_id", "initializer_range", "initializer_factor"];
        // Of features that are off, and of the library's own objects.
        let bookkeeping = [
            "add_cross_attention",
            "apply_layernorm",
            "architectures",
            "classifier_dropout",
            "dtype",
            "out_features",
            "out_indices",
            "reshape_hidden_states",
            "stage_names",
            "tie_word_embeddings",
            "use_cache",
        ];
        let dual = config.family == Family::Dual;
        let passed_over = |key: &str| own.contains(&key) || (dual && bookkeeping.contains(&key));
        for tower in ["text_config", "vision_config"] {
            for (key, value) in wanted[tower].as_object().unwrap().iter().filter(|(key, _)| !passed_over(key)) {
                assert_eq!(&got[tower][key], value, "{name}: {tower}.{key}");
            }
        }
        assert_eq!(got["projection_dim"], wanted["projection_dim"], "{name}");
        // Texts that are means of tokens are ours alone.
        let (architecture, kind) = if name == "hf_dual_mean" { ("Jest", "jest_") } else { ("", "") };
        let [written, known] =
            [&got, &wanted].map(|json| (json["architectures"][0].as_str(), json["model_type"].as_str()));
        let (Some(class), Some(of)) = known else { panic!("{name} names its class") };
        assert_eq!(written, (Some(&*format!("{architecture}{class}")), Some(&*format!("{kind}{of}"))), "{name}");
    }
}

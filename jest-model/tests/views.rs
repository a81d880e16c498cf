//! Gradients of both towers under every view, held against central differences.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use jest_kernels::{Device, DeviceOptions, DeviceRequest, Pass, Precision, testing};
use jest_model::{
    Activation, ModelConfig, Parameters, TextConfig, TextPadding, TextPool, TwoTowers, View, VisionConfig,
};

const N: usize = 3;

fn config(padding: TextPadding, pool: TextPool) -> ModelConfig {
    let (gelu, layer_norm_eps) = (Activation::Erf, 1e-6);
    let vision = VisionConfig {
        image_size: 12,
        patch_size: 4,
        width: 8,
        depth: 2,
        num_heads: 2,
        mlp_dim: 12,
        gelu,
        layer_norm_eps,
    };
    let text = TextConfig {
        tokens: 6,
        vocab_size: 11,
        width: 10,
        depth: 1,
        num_heads: 2,
        mlp_dim: 9,
        padding,
        pool,
        eos_id: 1,
        gelu,
        layer_norm_eps,
    };
    ModelConfig::new(vision, text)
}

fn siglip() -> ModelConfig {
    config(TextPadding::Attended, TextPool::Last)
}

/// A class token, causal texts, projections to as many columns as the batch has gradients for.
fn clip() -> ModelConfig {
    let mut config = siglip().into_clip();
    (config.vision.width, config.embedding_dim) = (12, Some(8));
    config
}

/// A model in which no parameter is zero or one, so that nothing hides.
fn model(pass: &mut Pass, config: &ModelConfig) -> TwoTowers {
    let mut model = TwoTowers::new(pass, config, 5).unwrap();
    for (seed, param) in model.parameters_mut().into_iter().enumerate() {
        let noise = testing::random(param.value().len(), 100 + seed as u64);
        let moved: Vec<f32> =
            pass.read(param.value()).unwrap().iter().zip(noise).map(|(value, noise)| value + 0.2 * noise).collect();
        param.set(pass.upload(&moved, param.value().shape()).unwrap());
    }
    model
}

/// Inputs of both towers and the gradients by their embeddings.
struct Batch {
    pixels: Vec<f32>,
    ids: Vec<u32>,
    lengths: Vec<u32>,
    dimage: Vec<f32>,
    dtext: Vec<f32>,
}

fn batch() -> Batch {
    let ids = testing::random(N * 6, 2).iter().map(|value| ((value + 1.0) * 5.4) as u32).collect();
    let [dimage, dtext] = [3, 4].map(|seed| testing::random(N * 8, seed));
    Batch { pixels: testing::random(N * 3 * 144, 1), ids, lengths: vec![6, 2, 4], dimage, dtext }
}

/// Both embeddings and `sum(dz * z)`.
fn embed(pass: &mut Pass, model: &TwoTowers, batch: &Batch, view: &View) -> (Vec<f32>, Vec<f32>, f64) {
    let images = pass.upload(&batch.pixels, &[N, 3, 12, 12]).unwrap();
    let image = model.embed_images(pass, &images, view).unwrap();
    let text = model.embed_texts(pass, &batch.ids, &batch.lengths, view).unwrap();
    let (image, text) = (pass.read(&image).unwrap(), pass.read(&text).unwrap());
    let dot = |z: &[f32], dz: &[f32]| z.iter().zip(dz).map(|(z, dz)| f64::from(*z) * f64::from(*dz)).sum::<f64>();
    let value = dot(&image, &batch.dimage) + dot(&text, &batch.dtext);
    (image, text, value)
}

/// Adds the gradients of `sum(dz * z)`; gives the embeddings.
fn backward(pass: &mut Pass, model: &mut TwoTowers, batch: &Batch, view: &View) -> (Vec<f32>, Vec<f32>) {
    let images = pass.upload(&batch.pixels, &[N, 3, 12, 12]).unwrap();
    let (image, vision) = model.encode_images(pass, &images, view).unwrap();
    let (text, saved) = model.encode_texts(pass, &batch.ids, &batch.lengths, view).unwrap();
    let (dimage, dtext) = (pass.upload(&batch.dimage, &[N, 8]).unwrap(), pass.upload(&batch.dtext, &[N, 8]).unwrap());
    model.backward_images(pass, vision, &dimage).unwrap();
    model.backward_texts(pass, saved, &dtext).unwrap();
    (pass.read(&image).unwrap(), pass.read(&text).unwrap())
}

/// Moves parameter `index` along a random direction and along its gradient: the value must change as the gradient says.
fn check(config: &ModelConfig, view: &View) {
    let (pass, batch) = (&mut testing::devices()[0].pass(), batch());
    let mut model = model(pass, config);
    backward(pass, &mut model, &batch, view);
    let gradients: Vec<Vec<f32>> = model.parameters().iter().map(|param| pass.read(&param.grad).unwrap()).collect();
    let names: Vec<String> = model.parameters().iter().map(|param| param.name().to_string()).collect();
    for (index, (gradient, name)) in gradients.iter().zip(&names).enumerate() {
        // Not of the embeddings.
        if name.starts_with("logit_") {
            continue;
        }
        let random = testing::random(gradient.len(), 900 + index as u64);
        for direction in [&random, gradient] {
            let length = direction.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
            if length < 1e-3 {
                continue;
            }
            let step = 0.02;
            let mut values = [0.0; 2];
            for (value, sign) in values.iter_mut().zip([1.0, -1.0]) {
                let mut moved = model.clone();
                let param = moved.parameters_mut().swap_remove(index);
                let mut elements = pass.read(param.value()).unwrap();
                for (element, along) in elements.iter_mut().zip(direction) {
                    *element += (sign * step * f64::from(*along) / length) as f32;
                }
                param.set(pass.upload(&elements, param.value().shape()).unwrap());
                *value = embed(pass, &moved, &batch, view).2;
            }
            let differences = (values[0] - values[1]) / (2.0 * step);
            let says: f64 = gradient.iter().zip(direction).map(|(g, v)| f64::from(*g) * f64::from(*v) / length).sum();
            let error = (differences - says).abs();
            assert!(error <= 2e-3 + 0.01 * says.abs(), "{name} under {view:?}: {says}, differences say {differences}");
        }
    }
}

/// Square roots of the summed squares of a - b and of b.
fn distance(a: &[f32], b: &[f32]) -> (f32, f32) {
    let norm = |values: &mut dyn Iterator<Item = f32>| values.map(|v| v * v).sum::<f32>().sqrt();
    (norm(&mut a.iter().zip(b).map(|(a, b)| a - b)), norm(&mut b.iter().copied()))
}

#[test]
fn products_in_bf16_lie_beside_those_in_f32() {
    let all = |precision| {
        let options = DeviceOptions { threads: 2, precision, ..DeviceOptions::default() };
        let (pass, batch) = (&mut Device::open(&DeviceRequest::Cpu, options).unwrap().pass(), batch());
        [siglip(), clip()].map(|config| {
            let mut model = model(pass, &config);
            let (image, text) = backward(pass, &mut model, &batch, &View::default());
            let mut named = vec![("image".to_string(), image), ("text".to_string(), text)];
            for param in model.parameters() {
                named.push((param.name().to_string(), pass.read(&param.grad).unwrap()));
            }
            named
        })
    };
    for (plain, rounded) in all(Precision::F32).into_iter().zip(all(Precision::Bf16)) {
        // Shifts of all keys change no weights: that gradient is rounding alone.
        let whole = plain.iter().map(|(_, values)| distance(values, values).1).fold(0.0, f32::max);
        for ((name, plain), (_, rounded)) in plain.iter().zip(&rounded) {
            let (error, size) = distance(rounded, plain);
            // A rounding is at most 2^-8 of a value; some dozens lie between the pixels and a gradient.
            assert!(error <= 0.04 * size + 2e-3 * whole, "{name}: {error} of {size}");
        }
        assert_ne!(plain, rounded, "operands are rounded");
    }
}

#[test]
fn gradients_are_derivatives_of_the_stored_model() {
    check(&siglip(), &View::default());
}

#[test]
fn gradients_are_derivatives_with_larger_patches() {
    check(&siglip(), &View::patches(6));
}

#[test]
fn gradients_are_derivatives_with_smaller_patches() {
    check(&siglip(), &View::patches(3));
}

#[test]
fn gradients_are_derivatives_with_dropped_patches_and_cut_texts() {
    let view = View { patch_size: Some(3), keep_tokens: Some(5), text_tokens: Some(4), seed: 9 };
    check(&siglip(), &view);
    check(&siglip(), &View { keep_tokens: Some(4), ..View::default() });
}

#[test]
fn gradients_are_derivatives_with_masked_padding() {
    check(&config(TextPadding::Masked, TextPool::Eos), &View::default());
    check(&config(TextPadding::Masked, TextPool::Last), &View { text_tokens: Some(3), ..View::default() });
    check(&config(TextPadding::Attended, TextPool::Eos), &View::default());
}

#[test]
fn gradients_are_derivatives_with_a_class_token() {
    check(&clip(), &View::default());
    check(&clip(), &View { patch_size: Some(3), keep_tokens: Some(5), text_tokens: Some(4), seed: 9 });
    check(&clip(), &View::patches(6));
}

#[test]
fn a_causal_text_depends_on_nothing_after_its_end() {
    let (pass, batch) = (&mut testing::devices()[0].pass(), batch());
    let model = model(pass, &clip());
    let mut padded = batch.ids.clone();
    padded[6 + 2..12].fill(10);
    padded[12 + 4..18].fill(10);
    let mut embed = |ids: &[u32]| {
        let z = model.embed_texts(pass, ids, &batch.lengths, &View::default()).unwrap();
        pass.read(&z).unwrap()
    };
    assert_eq!(embed(&batch.ids), embed(&padded));
    padded[13] = (padded[13] + 1) % 11;
    assert_ne!(embed(&batch.ids)[16..], embed(&padded)[16..]);
}

const VIEWS: [View; 4] = [
    View { patch_size: None, keep_tokens: None, text_tokens: None, seed: 0 },
    View { patch_size: Some(6), keep_tokens: None, text_tokens: None, seed: 0 },
    View { patch_size: None, keep_tokens: Some(5), text_tokens: Some(4), seed: 1 },
    View { patch_size: Some(3), keep_tokens: Some(7), text_tokens: Some(1), seed: 2 },
];

#[test]
fn embedding_and_encoding_give_the_same_bytes() {
    let (pass, batch) = (&mut testing::devices()[0].pass(), batch());
    let mut model = model(pass, &siglip());
    for view in &VIEWS {
        let (image, text, _) = embed(pass, &model, &batch, view);
        assert_eq!((image, text), backward(pass, &mut model, &batch, view), "{view:?}");
    }
}

#[test]
fn gradients_of_two_backward_passes_add_up() {
    let (pass, batch) = (&mut testing::devices()[0].pass(), batch());
    let mut model = model(pass, &siglip());
    let read = |model: &TwoTowers| -> Vec<Vec<f32>> {
        model.parameters().iter().map(|param| testing::devices()[0].pass().read(&param.grad).unwrap()).collect()
    };
    for view in &VIEWS {
        model.zero_gradients(pass).unwrap();
        backward(pass, &mut model, &batch, view);
        let once = read(&model);
        backward(pass, &mut model, &batch, view);
        for (once, twice) in once.iter().zip(read(&model)) {
            let scale = once.iter().fold(0f32, |top, value| value.abs().max(top)).max(1e-6);
            assert!(once.iter().zip(twice).all(|(once, twice)| (2.0 * once - twice).abs() <= 1e-5 * scale));
        }
    }
}

#[test]
fn devices_agree_under_every_view() {
    devices_agree(&config(TextPadding::Masked, TextPool::Eos));
    devices_agree(&clip());
}

fn devices_agree(config: &ModelConfig) {
    let batch = batch();
    let results = testing::devices().map(|device| {
        let pass = &mut device.pass();
        let mut model = model(pass, config);
        let embeddings = VIEWS.map(|view| backward(pass, &mut model, &batch, &view));
        let gradients: Vec<_> = model.gradients(pass).unwrap().into_iter().map(|tensor| tensor.values).collect();
        (embeddings, gradients)
    });
    let [(cpu, cpu_gradients), (gpu, gpu_gradients)] = results;
    let close = |a: &[f32], b: &[f32]| {
        let scale = a.iter().fold(0f32, |top, value| value.abs().max(top)).max(0.1);
        a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 2e-5 * scale)
    };
    for ((image, text), (other_image, other_text)) in cpu.iter().zip(&gpu) {
        assert!(close(image, other_image) && close(text, other_text));
    }
    assert!(cpu_gradients.iter().zip(&gpu_gradients).all(|(cpu, gpu)| close(cpu, gpu)));
}

#[test]
fn masked_padding_has_no_say() {
    let (pass, batch) = (&mut testing::devices()[0].pass(), batch());
    let model = model(pass, &config(TextPadding::Masked, TextPool::Eos));
    let mut padded = batch.ids.clone();
    padded[6 + 2..12].fill(10);
    padded[12 + 4..18].fill(10);
    let mut embed = |ids: &[u32]| {
        let z = model.embed_texts(pass, ids, &batch.lengths, &View::default()).unwrap();
        pass.read(&z).unwrap()
    };
    assert_eq!(embed(&batch.ids), embed(&padded));
    padded[12] = (padded[12] + 1) % 11;
    assert_ne!(embed(&batch.ids)[16..], embed(&padded)[16..]);
}

#[test]
fn the_end_token_of_a_masked_text_is_the_last_token_of_a_cut_one() {
    let (pass, batch) = (&mut testing::devices()[0].pass(), batch());
    let masked = model(pass, &config(TextPadding::Masked, TextPool::Eos));
    let plain = model(pass, &siglip());
    let z = masked.embed_texts(pass, &batch.ids, &batch.lengths, &View::default()).unwrap();
    let z = pass.read(&z).unwrap();
    for (text, length) in batch.lengths.iter().enumerate() {
        let view = View { text_tokens: Some(*length as usize), ..View::default() };
        let cut = plain.embed_texts(pass, &batch.ids, &batch.lengths, &view).unwrap();
        let (cut, rows) = (pass.read(&cut).unwrap(), text * 8..text * 8 + 8);
        assert!(z[rows.clone()].iter().zip(&cut[rows]).all(|(z, cut)| (z - cut).abs() <= 1e-6), "text {text}");
    }
}

#[test]
fn kept_patches_change_with_the_seed_only() {
    let (pass, batch) = (&mut testing::devices()[0].pass(), batch());
    let model = model(pass, &siglip());
    let mut embed = |seed| embed(pass, &model, &batch, &View { keep_tokens: Some(4), seed, ..View::default() }).0;
    assert_eq!(embed(1), embed(1));
    assert_ne!(embed(1), embed(2));
}

#[test]
fn inputs_that_do_not_fit_are_named() {
    let (pass, batch) = (&mut testing::devices()[0].pass(), batch());
    let model = model(pass, &siglip());
    let view = View::default();
    let images = pass.zeros(&[2, 3, 16, 16]).unwrap();
    let said = model.embed_images(pass, &images, &view).unwrap_err().to_string();
    assert_eq!(said, "images has shape [2, 3, 16, 16], expected [2, 3, 12, 12]");
    let said = model.embed_texts(pass, &batch.ids[1..], &batch.lengths, &view).unwrap_err().to_string();
    assert_eq!(said, "token ids has shape [17], expected [3, 6]");
    let said = model.embed_texts(pass, &batch.ids, &[6, 7, 1], &view).unwrap_err().to_string();
    assert_eq!(said, "length 7 of text 1 is not within 1..=6");
    let said = model.embed_texts(pass, &[11; 6], &[6], &view).unwrap_err().to_string();
    assert!(said.contains("token id is 11"), "{said}");
    let view = View { text_tokens: Some(7), ..View::default() };
    assert!(model.embed_texts(pass, &batch.ids, &batch.lengths, &view).is_err());
}

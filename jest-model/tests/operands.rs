//! What scoring and bf16 may leave out of a forward pass, and what they may not.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use jest_kernels::{Device, DeviceOptions, Pass, Precision, testing};
use jest_model::{ModelConfig, Parameters, Preset, TwoTowers, View};

const IMAGES: usize = 3;

fn images(pass: &mut Pass, config: &ModelConfig) -> jest_kernels::Tensor {
    let side = config.vision.image_size;
    let pixels: Vec<f32> = (0..IMAGES * 3 * side * side).map(|i| (i as f32 * 0.37).sin()).collect();
    pass.upload(&pixels, &[IMAGES, 3, side, side]).unwrap()
}

fn rounding() -> Pass {
    let options = DeviceOptions { threads: 2, checked: true, precision: Precision::Bf16, ..Default::default() };
    Device::open(&"cpu".parse().unwrap(), options).unwrap().pass()
}

/// Every parameter by so much more, as an update would have it.
fn move_all(pass: &mut Pass, model: &mut TwoTowers, by: f32) {
    for param in model.parameters_mut() {
        let moved: Vec<f32> = pass.read(param.value()).unwrap().iter().map(|x| x + by).collect();
        param.set(pass.upload(&moved, param.value().shape()).unwrap());
    }
}

#[test]
fn weights_are_rounded_anew_after_a_change() {
    let (pass, config) = (&mut rounding(), Preset::Mu.config());
    let (mut used, mut fresh) = (TwoTowers::new(pass, &config, 0).unwrap(), TwoTowers::new(pass, &config, 0).unwrap());
    let images = images(pass, &config);
    let before = used.embed_images(pass, &images, &View::default()).unwrap();
    let before = pass.read(&before).unwrap();
    // One model has computed with its weights before they change, the other has not.
    [&mut used, &mut fresh].into_iter().for_each(|model| move_all(pass, model, 0.01));
    let [used, fresh] = [&used, &fresh].map(|model| {
        let z = model.embed_images(pass, &images, &View::default()).unwrap();
        pass.read(&z).unwrap()
    });
    assert_eq!(used, fresh);
    assert_ne!(used, before);
}

#[test]
fn a_forward_pass_without_a_backward_has_the_same_bits() {
    let clip = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/hf_clip_tiny");
    let passes = testing::devices().into_iter().map(|device| device.pass()).chain([rounding()]);
    for mut pass in passes {
        let pass = &mut pass;
        let siglip = TwoTowers::new(pass, &Preset::Mu.config(), 0).unwrap();
        let clip = TwoTowers::load(pass, &clip).unwrap();
        // Scaled layers in one tower, norms behind in the other.
        let dual = TwoTowers::new(pass, &Preset::Mu.config().into_dual(), 0).unwrap();
        for mut model in [siglip, clip, dual] {
            let config = model.config().clone();
            // From biases of 0 alone, a bias that is left out would not be seen.
            move_all(pass, &mut model, 0.02);
            let images = images(pass, &config);
            let (tokens, words) = (config.text.tokens, config.text.vocab_size as u32);
            let ids: Vec<u32> = (0..(IMAGES * tokens) as u32).map(|i| i * 7 % words).collect();
            let lengths = [tokens as u32; IMAGES];
            let view = View::default();
            let (image, _) = model.encode_images(pass, &images, &view).unwrap();
            let (text, _) = model.encode_texts(pass, &ids, &lengths, &view).unwrap();
            let alone = [
                model.embed_images(pass, &images, &view).unwrap(),
                model.embed_texts(pass, &ids, &lengths, &view).unwrap(),
            ];
            for (with, without) in [image, text].iter().zip(&alone) {
                assert_eq!(pass.read(with).unwrap(), pass.read(without).unwrap());
            }
        }
    }
}

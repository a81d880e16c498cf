//! Models read at other sizes than they were stored at, against what timm, open_clip and scipy make of the same tables.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use jest_kernels::{Pass, testing};
use jest_model::{
    Fate, Import, Interpolation, ModelError, NewSizes, Parameters, Report, Resizing, TensorFile, TextPositions,
    TwoTowers, View,
};

const KERNEL: &str = "vision_model.embeddings.patch_embedding.weight";
const IMAGE_POSITIONS: &str = "vision_model.embeddings.position_embedding.weight";
const TEXT_POSITIONS: &str = "text_model.embeddings.position_embedding.weight";
const TOKENS: &str = "text_model.embeddings.token_embedding.weight";

fn pass() -> Pass {
    testing::devices()[0].pass()
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures").join(name)
}

fn golden(name: &str) -> Vec<f32> {
    TensorFile::open(&fixture("interchange/resized.safetensors")).unwrap().tensor(name).unwrap().values
}

fn import(folder: &str, sizes: NewSizes, how: Resizing) -> (TwoTowers, Report) {
    let mut source = Import::open(&fixture(folder)).unwrap();
    source.resize(&sizes, how).unwrap();
    let mut report = Report::default();
    let model = source.read(&mut pass(), &mut report).unwrap();
    assert_eq!(model.config(), source.config());
    (model, report)
}

fn refused(folder: &str, sizes: NewSizes, how: Resizing) -> ModelError {
    Import::open(&fixture(folder)).unwrap().resize(&sizes, how).unwrap_err()
}

fn values(model: &TwoTowers, name: &str) -> Vec<f32> {
    let param = model.parameters().into_iter().find(|param| param.name() == name).unwrap();
    pass().read(param.value()).unwrap()
}

fn close(what: &str, got: &[f32], want: &[f32], limit: f32) {
    assert_eq!(got.len(), want.len(), "{what}");
    let top = want.iter().fold(0.0f32, |top, value| top.max(value.abs()));
    let error = got.iter().zip(want).fold(0.0f32, |worst, (a, b)| worst.max((a - b).abs()));
    assert!(error <= limit * top, "{what}: {error:e} of {top}");
}

const KINDS: [(&str, Interpolation); 2] = [("bicubic", Interpolation::Bicubic), ("bilinear", Interpolation::Bilinear)];

#[test]
fn kernels_and_positions_are_those_of_timm_and_big_vision() {
    for (kind, interpolation) in KINDS {
        let how = Resizing { interpolation: Some(interpolation), ..Resizing::default() };
        for side in [4, 12] {
            let sizes = NewSizes { image_size: Some(4 * side), patch_size: Some(side), ..NewSizes::default() };
            let (model, report) = import("hf_siglip_tiny", sizes, how);
            close(kind, &values(&model, KERNEL), &golden(&format!("siglip.kernel{side}.{kind}")), 1e-4);
            assert_eq!(report.resized().count(), 1, "{report}");
        }
        for grid in [2, 3, 7] {
            let sizes = NewSizes { image_size: Some(8 * grid), ..NewSizes::default() };
            let (model, report) = import("hf_siglip_tiny", sizes, how);
            let name = format!("siglip.position{grid}.{kind}");
            close(&name, &values(&model, IMAGE_POSITIONS), &golden(&name), 1e-5);
            assert_eq!(report.resized().count(), 1, "{report}");
        }
    }
}

#[test]
fn a_clip_of_another_size_is_that_of_open_clip() {
    for (image_size, tokens) in [(48, 10), (24, 21)] {
        let sizes = NewSizes { image_size: Some(image_size), text_tokens: Some(tokens), ..NewSizes::default() };
        let (model, _) = import("hf_clip_tiny", sizes, Resizing::default());
        let golden = |part: &str| golden(&format!("clip{image_size}.{part}"));
        close("positions", &values(&model, IMAGE_POSITIONS), &golden("position"), 1e-5);
        close("positions of texts", &values(&model, TEXT_POSITIONS), &golden("text_position"), 1e-5);

        let mut file = TensorFile::open(&fixture("interchange/resized.safetensors")).unwrap();
        let ids = file.indices(&format!("clip{image_size}.ids")).unwrap().1;
        let lengths: Vec<u32> =
            ids.chunks(tokens).map(|row| row.iter().position(|id| *id == 98).unwrap() as u32 + 1).collect();
        let pass = &mut pass();
        let images = pass.upload(&golden("images"), &[2, 3, image_size, image_size]).unwrap();
        let z = model.embed_images(pass, &images, &View::default()).unwrap();
        close("images", &pass.read(&z).unwrap(), &golden("image_embeds"), 2e-5);
        let z = model.embed_texts(pass, &ids, &lengths, &View::default()).unwrap();
        close("texts", &pass.read(&z).unwrap(), &golden("text_embeds"), 2e-5);
    }
}

#[test]
fn a_vocabulary_keeps_its_rows_and_gets_those_of_a_new_model() {
    let (stored, _) = import("hf_siglip_tiny", NewSizes::default(), Resizing::default());
    let (old, width) = (values(&stored, TOKENS), stored.config().text.width);
    let how = Resizing { seed: 7, ..Resizing::default() };
    let (larger, report) = import("hf_siglip_tiny", NewSizes { vocab_size: Some(100), ..NewSizes::default() }, how);
    let rows = values(&larger, TOKENS);
    assert_eq!(rows[..old.len()], old);
    let fresh = values(&TwoTowers::new(&mut pass(), larger.config(), 7).unwrap(), TOKENS);
    assert_eq!(rows[old.len()..], fresh[old.len()..]);
    let said = "rows of ids 0..96 are kept, those of 96..100 drawn as in a new model with seed 7";
    assert!(report.to_string().contains(said), "{report}");
    let sizes = NewSizes { vocab_size: Some(5), ..NewSizes::default() };
    let (smaller, _) = import("hf_siglip_tiny", sizes, how);
    assert_eq!(values(&smaller, TOKENS), old[..5 * width]);
    // CLIP's end mark is its last id.
    let said = refused("hf_clip_tiny", NewSizes { vocab_size: Some(98), ..NewSizes::default() }, how).to_string();
    assert_eq!(said, "text.vocab_size is 98, but must be above 98, the id that ends a text: rows are kept by id");
}

#[test]
fn truncated_positions_are_the_first_ones() {
    let how = Resizing { text_positions: Some(TextPositions::Truncate), ..Resizing::default() };
    let (stored, report) = import("hf_siglip_tiny", NewSizes::default(), how);
    assert_eq!(report.resized().count(), 0);
    let sizes = |tokens| NewSizes { text_tokens: Some(tokens), ..NewSizes::default() };
    let (shorter, _) = import("hf_siglip_tiny", sizes(9), how);
    let width = stored.config().text.width;
    assert_eq!(values(&shorter, TEXT_POSITIONS), values(&stored, TEXT_POSITIONS)[..9 * width]);
    let said = refused("hf_siglip_tiny", sizes(17), how).to_string();
    assert!(said.starts_with("text.tokens is 17, but must be within 1..=16 when positions are truncated"), "{said}");
}

#[test]
fn what_is_resized_is_reported_and_the_rest_stays() {
    let sizes = NewSizes { image_size: Some(64), patch_size: Some(16), text_tokens: Some(8), vocab_size: Some(96) };
    let (stored, _) = import("hf_siglip_tiny", NewSizes::default(), Resizing::default());
    let (model, report) = import("hf_siglip_tiny", sizes, Resizing::default());
    let resized: Vec<&String> =
        report.0.iter().filter(|(_, fate)| matches!(fate, Fate::Resized(..))).map(|(name, _)| name).collect();
    assert_eq!(resized, [TEXT_POSITIONS, KERNEL], "{report}");
    for param in stored.parameters().into_iter().filter(|param| ![TEXT_POSITIONS, KERNEL].contains(&param.name())) {
        assert_eq!(values(&model, param.name()), values(&stored, param.name()), "{}", param.name());
    }
    assert!(report.to_string().ends_with("(2 of them resized), 0 ignored, 0 wrong"), "{report}");
    let said = refused("hf_siglip_tiny", NewSizes { patch_size: Some(12), ..NewSizes::default() }, Resizing::default());
    assert!(said.to_string().contains("vision.patch_size 12 does not divide vision.image_size 32"), "{said}");
}

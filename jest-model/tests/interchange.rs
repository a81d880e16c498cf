//! Models in the files of other libraries: what is written is read back to the byte, and what does not fit is said.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use jest_kernels::{Pass, testing};
use jest_model::{
    Fate, Format, Import, ModelConfig, Parameters, Preset, Report, TensorFile, TextPadding, TextPool, TwoTowers,
};

const OPEN_CLIP: Format<'static> = Format::OpenClip { preprocess_cfg: &serde_json::Value::Null };

fn pass() -> Pass {
    testing::devices()[0].pass()
}

fn clip() -> ModelConfig {
    let mut config = Preset::Mu.config().into_clip();
    (config.text.width, config.embedding_dim, config.text.eos_id) = (32, Some(24), 511);
    config
}

fn bytes(model: &TwoTowers) -> Vec<u8> {
    let mut bytes = Vec::new();
    model.write_weights(&mut pass(), &mut bytes, &BTreeMap::new()).unwrap();
    bytes
}

fn import(path: &Path) -> (TwoTowers, Report) {
    let mut report = Report::default();
    let model = Import::open(path).unwrap().read(&mut pass(), &mut report).unwrap();
    (model, report)
}

#[test]
fn what_is_exported_is_imported_to_the_byte() {
    for (config, formats) in
        [(Preset::Mu.config(), &[Format::HuggingFace][..]), (clip(), &[Format::HuggingFace, OPEN_CLIP])]
    {
        let model = TwoTowers::new(&mut pass(), &config, 1).unwrap();
        for format in formats {
            let folder = tempfile::tempdir().unwrap();
            model.export(&mut pass(), folder.path(), *format, &BTreeMap::new()).unwrap();
            let (again, report) = import(folder.path());
            assert_eq!(bytes(&again), bytes(&model), "{format:?}");
            let same = ModelConfig { init_logit_scale: config.init_logit_scale, ..again.config().clone() };
            assert_eq!(same, config, "{format:?}");
            assert!(report.0.values().all(|fate| matches!(fate, Fate::Mapped(_))), "{report}");
            assert_eq!(model.parameters().len(), again.parameters().len());
        }
    }
}

#[test]
fn open_clips_names_and_shapes_are_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let model = TwoTowers::new(&mut pass(), &clip(), 1).unwrap();
    model.export(&mut pass(), folder.path(), OPEN_CLIP, &BTreeMap::new()).unwrap();
    let file = TensorFile::open(&folder.path().join("open_clip_model.safetensors")).unwrap();
    for (name, shape) in [
        ("logit_scale", &[][..]),
        ("token_embedding.weight", &[512, 32]),
        ("positional_embedding", &[16, 32]),
        ("transformer.resblocks.1.attn.in_proj_weight", &[96, 32]),
        ("text_projection", &[32, 24]),
        ("visual.class_embedding", &[64]),
        ("visual.positional_embedding", &[17, 64]),
        ("visual.transformer.resblocks.0.mlp.c_fc.bias", &[256]),
        ("visual.proj", &[64, 24]),
    ] {
        assert_eq!(file.shape(name), Some(shape), "{name}");
    }
    assert_eq!(file.names().count(), 14 + 2 * 2 * 12, "as open_clip has them");
}

#[test]
fn every_tensor_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let model = TwoTowers::new(&mut pass(), &clip(), 1).unwrap();
    model.export(&mut pass(), folder.path(), OPEN_CLIP, &BTreeMap::new()).unwrap();
    let path = folder.path().join("open_clip_model.safetensors");
    let raw = fs::read(&path).unwrap();
    let text = String::from_utf8_lossy(&raw).replacen("\"visual.proj\"", "\"visual.prof\"", 1);
    assert_ne!(text.len(), 0);
    let at = raw.windows(13).position(|part| part == b"\"visual.proj\"").unwrap();
    let mut changed = raw.clone();
    changed[at..at + 13].copy_from_slice(b"\"visual.prof\"");
    fs::write(&path, changed).unwrap();
    let mut report = Report::default();
    let said = Import::open(folder.path()).unwrap().read(&mut pass(), &mut report).unwrap_err().to_string();
    assert!(said.contains("visual.proj: expected [64, 24], missing"), "{said}");
    assert!(report.to_string().contains("wrong   visual.prof: found [64, 24], not expected"), "{report}");
    assert!(report.to_string().ends_with(", 2 wrong"), "{report}");
    assert!(report.to_string().contains("mapped  text_projection -> text_projection.weight"), "{report}");
}

#[test]
fn what_another_library_cannot_compute_is_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    for (padding, pool) in [
        (TextPadding::Attended, TextPool::Eos),
        (TextPadding::Masked, TextPool::Last),
        (TextPadding::Masked, TextPool::Eos),
    ] {
        let mut config = Preset::Mu.config();
        (config.text.padding, config.text.pool) = (padding, pool);
        let model = TwoTowers::new(&mut pass(), &config, 1).unwrap();
        let said = model.export(&mut pass(), &out, Format::HuggingFace, &BTreeMap::new()).unwrap_err().to_string();
        assert!(said.contains("text.padding is masked or text.pool is eos") && !out.exists(), "{said}");
        // Its own checkpoint is not one of transformers', whose classes would compute something else of the same tensors.
        let json = config.to_hf_json();
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(
            (&value["architectures"][0], &value["model_type"]),
            (&"JestSiglipModel".into(), &"jest_siglip".into())
        );
        assert_eq!(ModelConfig::from_hf_json(&json, Path::new("config.json")).unwrap(), config);
        // As it was written before it had a word of its own.
        let before = json.replace("jest_siglip", "siglip").replace("JestSiglipModel", "SiglipModel");
        assert_eq!(ModelConfig::from_hf_json(&before, Path::new("config.json")).unwrap(), config);
    }
    let model = TwoTowers::new(&mut pass(), &Preset::Mu.config(), 1).unwrap();
    let said = model.export(&mut pass(), &out, OPEN_CLIP, &BTreeMap::new()).unwrap_err().to_string();
    assert!(said.contains("no trunk of timm") && !out.exists(), "{said}");
}

//! Towers on their own, as transformers saves them: read into the model they were taken from, alone, or beside another.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use jest_kernels::{Pass, testing};
use jest_model::{
    Fate, Import, ModelConfig, NamedTensor, NewSizes, Parameters, Report, Resizing, TensorFile, Tower, TowerImport,
    TwoTowers, tensor_file,
};

fn pass() -> Pass {
    testing::devices()[0].pass()
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures").join(name)
}

fn open(path: &Path, tower: Tower) -> TowerImport {
    TowerImport::open(path, tower).unwrap()
}

fn read(mut source: Import) -> (TwoTowers, Report) {
    let mut report = Report::default();
    let model = source.read(&mut pass(), &mut report).unwrap();
    (model, report)
}

fn values(model: &TwoTowers, of: impl Fn(&str) -> bool) -> Vec<(String, Vec<f32>)> {
    let params = model.parameters().into_iter().filter(|param| of(param.name()));
    params.map(|param| (param.name().to_string(), pass().read(param.value()).unwrap())).collect()
}

fn no_logits(name: &str) -> bool {
    !name.starts_with("logit_")
}

/// A copy of a folder whose tensors have other names; `None` leaves one out.
fn renamed(from: &Path, to: &Path, name: impl Fn(&str) -> Option<String>) {
    let mut file = TensorFile::open(&from.join("model.safetensors")).unwrap();
    let names: Vec<String> = file.names().map(str::to_string).collect();
    let all: Vec<(String, NamedTensor)> =
        names.iter().filter_map(|old| Some((name(old)?, file.tensor(old).unwrap()))).collect();
    let tensors: Vec<_> = all.iter().map(|(name, tensor)| (name.clone(), tensor.shape.clone())).collect();
    fs::create_dir_all(to).unwrap();
    let path = to.join("model.safetensors");
    let mut out = fs::File::create(&path).unwrap();
    let metadata = BTreeMap::new();
    tensor_file::write(&mut out, &path, &metadata, &tensors, |index| Ok(all[index].1.values.clone())).unwrap();
    fs::copy(from.join("config.json"), to.join("config.json")).unwrap();
}

#[test]
fn towers_come_back_into_the_model_they_were_taken_from() {
    let place = tempfile::tempdir().unwrap();
    let (named, bare) = (fixture("interchange/siglip_vision"), place.path().join("bare"));
    // The fifth version of the library leaves the tower's name out where it made the tower itself.
    renamed(&named, &bare, |name| name.strip_prefix("vision_model.").map(str::to_string));
    for (whole, image, text) in [
        ("hf_siglip_tiny", bare, fixture("hf_siglip_tiny")),
        ("hf_siglip_tiny", named, fixture("interchange/siglip.npz")),
        ("hf_clip_tiny", fixture("hf_clip_tiny"), fixture("interchange/clip_text")),
    ] {
        let (want, _) = read(Import::open(&fixture(whole)).unwrap());
        let joined = Import::join(open(&image, Tower::Image), open(&text, Tower::Text), 3).unwrap();
        let (model, report) = read(joined);
        assert_eq!(values(&model, no_logits), values(&want, no_logits), "{whole}");
        let same = ModelConfig { init_logit_scale: want.config().init_logit_scale, ..model.config().clone() };
        assert_eq!(same, *want.config(), "{whole}");
        assert_eq!(report.0.get("logit_scale"), Some(&Fate::Drawn), "{report}");
    }
}

#[test]
fn what_no_file_holds_is_that_of_a_new_model() {
    let place = tempfile::tempdir().unwrap();
    let alone = place.path().join("alone");
    // `CLIPTextModel`: no projection, and in the fifth version no name of the tower.
    renamed(&fixture("interchange/clip_text"), &alone, |name| name.strip_prefix("text_model.").map(str::to_string));
    let (whole, _) = read(Import::open(&fixture("hf_clip_tiny")).unwrap());
    let source = Import::towers(whole.config(), vec![open(&alone, Tower::Text)], 5).unwrap();
    let (model, report) = read(source);
    let fresh = TwoTowers::new(&mut pass(), whole.config(), 5).unwrap();
    let read_from_file = |name: &str| name.starts_with("text_model.");
    assert_eq!(values(&model, read_from_file), values(&whole, read_from_file));
    assert_eq!(values(&model, |name| !read_from_file(name)), values(&fresh, |name| !read_from_file(name)));
    assert_eq!(report.0.get("text_projection.weight"), Some(&Fate::Drawn), "{report}");
    // The tower at other sizes, the rest as it was.
    let mut source = Import::towers(whole.config(), vec![open(&alone, Tower::Text)], 5).unwrap();
    source.resize(&NewSizes { text_tokens: Some(9), ..NewSizes::default() }, Resizing::default()).unwrap();
    let (shorter, report) = read(source);
    assert_eq!((shorter.config().text.tokens, report.resized().count()), (9, 1));
    assert_eq!(values(&shorter, |name| name.starts_with("vision")), values(&fresh, |name| name.starts_with("vision")));
}

#[test]
fn what_does_not_go_together_is_named() {
    let (image, text) = (fixture("interchange/siglip_vision"), fixture("interchange/clip_text"));
    let said = TowerImport::open(&image, Tower::Text).unwrap_err().to_string();
    assert!(said.ends_with("siglip_vision holds one tower on its own, not the text tower"), "{said}");
    let said = Import::join(open(&image, Tower::Image), open(&text, Tower::Text), 0).unwrap_err().to_string();
    assert!(said.contains("the tower's family is Clip, the model's is Siglip"), "{said}");
    let said = Import::open(&image).unwrap_err().to_string();
    assert!(said.contains("model_type is siglip_vision_model") && said.contains("init_image"), "{said}");
    let (whole, _) = read(Import::open(&fixture("hf_clip_tiny")).unwrap());
    let rest = ModelConfig { embedding_dim: Some(25), ..whole.config().clone() };
    let said = Import::towers(&rest, vec![open(&text, Tower::Text)], 0).unwrap_err().to_string();
    assert!(said.contains("clip_text") && said.contains("length of an embedding is 24, the model's is 25"), "{said}");

    let place = tempfile::tempdir().unwrap();
    renamed(&text, place.path(), |name| Some(name.replace("layers.1.mlp.fc1.weight", "layers.1.mlp.fc9.weight")));
    let mut source = Import::towers(whole.config(), vec![open(place.path(), Tower::Text)], 0).unwrap();
    let said = source.read(&mut pass(), &mut Report::default()).unwrap_err().to_string();
    assert!(said.contains("text_model.encoder.layers.1.mlp.fc1.weight: expected [64, 32], missing"), "{said}");
    // A configuration that claims more than there is, before memory is asked for.
    let config = fs::read_to_string(text.join("config.json")).unwrap();
    fs::write(place.path().join("config.json"), config.replace("\"vocab_size\": 99", "\"vocab_size\": 4000000"))
        .unwrap();
    let mut source = Import::towers(whole.config(), vec![open(place.path(), Tower::Text)], 0).unwrap();
    let said = source.read(&mut pass(), &mut Report::default()).unwrap_err().to_string();
    assert!(said.contains("damaged"), "{said}");
}

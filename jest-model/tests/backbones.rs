//! DINOv2 and BERT as they are published: read alone, with projections anew, at other sizes; written and read again.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jest_kernels::{Pass, testing};
use jest_model::{
    Fate, Format, ImageHead, Import, Interpolation, Locked, ModelConfig, NewSizes, Param, Parameters, Report, Resizing,
    TensorFile, TextPool, Tower, TowerImport, TwoTowers, View,
};

const IMAGE_POSITIONS: &str = "vision_model.embeddings.position_embedding.weight";

fn pass() -> Pass {
    testing::devices()[0].pass()
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures").join(name)
}

fn golden(name: &str) -> Vec<f32> {
    TensorFile::open(&fixture("interchange/backbones.safetensors")).unwrap().tensor(name).unwrap().values
}

fn join(seed: u64) -> Import {
    let open = |name, tower| TowerImport::open(&fixture(name), tower).unwrap();
    Import::join(open("interchange/dinov2", Tower::Image), open("interchange/bert", Tower::Text), seed).unwrap()
}

fn read(source: &mut Import) -> (TwoTowers, Report) {
    let mut report = Report::default();
    let model = source.read(&mut pass(), &mut report);
    (model.unwrap_or_else(|error| panic!("{error}\n{report}")), report)
}

fn close(what: &str, got: &[f32], want: &[f32], limit: f32) {
    assert_eq!(got.len(), want.len(), "{what}");
    let top = want.iter().fold(0.0f32, |top, value| top.max(value.abs()));
    let error = got.iter().zip(want).fold(0.0f32, |worst, (a, b)| worst.max((a - b).abs()));
    assert!(error <= limit * top, "{what}: {error:e} of {top}");
}

/// Rows of unit length.
fn unit(rows: &[f32], d: usize) -> Vec<f32> {
    let mut all = rows.to_vec();
    for row in all.chunks_mut(d) {
        let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt();
        row.iter_mut().for_each(|x| *x /= norm);
    }
    all
}

/// `[rows, cols]` with ones on its diagonal.
fn eye(param: &mut Param) {
    let (rows, cols) = (param.value().rows(), param.value().cols());
    let values: Vec<f32> = (0..rows * cols).map(|at| if at / cols == at % cols { 1.0 } else { 0.0 }).collect();
    param.set(pass().upload(&values, &[rows, cols]).unwrap());
}

#[test]
fn pictures_of_other_sizes_are_seen_as_by_transformers() {
    for side in [24, 72] {
        let mut source = join(0);
        source.resize(&NewSizes { image_size: Some(side), ..NewSizes::default() }, Resizing::default()).unwrap();
        let (mut model, report) = read(&mut source);
        let said: Vec<String> = report.resized().collect();
        assert!(said[0].contains("cubic without antialias") && said.len() == 1, "{said:?}");
        let positions = model.parameters().into_iter().find(|param| param.name() == IMAGE_POSITIONS).unwrap();
        let positions = pass().read(positions.value()).unwrap();
        close("positions", &positions, &golden(&format!("position{side}")), 1e-5);
        let ImageHead::Class(projection) = &mut model.vision.head else { panic!("no projection") };
        eye(&mut projection.weight);
        let pass = &mut pass();
        let images = pass.upload(&golden(&format!("images{side}")), &[2, 3, side, side]).unwrap();
        let z = model.embed_images(pass, &images, &View::default()).unwrap();
        let want = unit(&golden(&format!("pooled{side}")), 16);
        close("pooled", &pass.read(&z).unwrap(), &want, 2e-5);
    }
    // Another way to resize gives other positions.
    let mut source = join(0);
    let how = Resizing { interpolation: Some(Interpolation::Bicubic), ..Resizing::default() };
    source.resize(&NewSizes { image_size: Some(24), ..NewSizes::default() }, how).unwrap();
    assert!(read(&mut source).1.to_string().contains("bicubic with antialias"));
}

#[test]
fn texts_are_means_as_by_transformers_and_shorter_ones_the_same() {
    let mut file = TensorFile::open(&fixture("interchange/backbones.safetensors")).unwrap();
    let ids = file.indices("ids").unwrap().1;
    let want = golden("mean");
    let (wide, narrow) = (24, 16);
    for tokens in [16, 14] {
        let mut source = join(0);
        source.resize(&NewSizes { text_tokens: Some(tokens), ..NewSizes::default() }, Resizing::default()).unwrap();
        let (mut model, _) = read(&mut source);
        assert_eq!((model.config().text.pool, model.config().embedding_dim()), (TextPool::Mean, narrow));
        eye(&mut model.text.head.weight);
        // The first text alone has more than 14 tokens.
        let rows = if tokens == 16 { 0..5 } else { 1..5 };
        let cut: Vec<u32> = rows.clone().flat_map(|row| &ids[row * 16..][..tokens]).copied().collect();
        let lengths: Vec<u32> =
            cut.chunks(tokens).map(|row| row.iter().position(|id| *id == 2).unwrap() as u32 + 1).collect();
        let z = model.embed_texts(&mut pass(), &cut, &lengths, &View::default()).unwrap();
        let pooled: Vec<f32> = rows.flat_map(|row| &want[row * wide..][..narrow]).copied().collect();
        close("means", &pass().read(&z).unwrap(), &unit(&pooled, narrow), 2e-5);
    }
}

#[test]
fn what_backbones_hold_is_kept_and_the_rest_is_drawn_or_said() {
    let (model, report) = read(&mut join(3));
    for name in ["visual_projection.weight", "text_projection.weight", "logit_scale"] {
        assert_eq!(report.0.get(name), Some(&Fate::Drawn), "{report}");
    }
    for name in ["embeddings.mask_token", "pooler.dense.weight", "pooler.dense.bias"] {
        assert!(matches!(report.0.get(name), Some(Fate::Ignored(_))), "{report}");
    }
    let fresh = TwoTowers::new(&mut pass(), model.config(), 3).unwrap();
    let value = |model: &TwoTowers, name: &str| {
        let param = model.parameters().into_iter().find(|param| param.name() == name).unwrap();
        pass().read(param.value()).unwrap()
    };
    assert_eq!(value(&model, "visual_projection.weight"), value(&fresh, "visual_projection.weight"));
    // Every other tensor comes back to the byte, under its own name.
    let folder = tempfile::tempdir().unwrap();
    model.save(&mut pass(), folder.path(), &BTreeMap::new()).unwrap();
    let mut written = TensorFile::open(&folder.path().join("model.safetensors")).unwrap();
    for (name, prefix) in [("dinov2", "vision_model."), ("bert", "text_model.")] {
        let mut file = TensorFile::open(&fixture("interchange").join(name).join("model.safetensors")).unwrap();
        let names: Vec<String> = file.names().map(str::to_string).collect();
        let kept = names.iter().filter(|name| !name.contains("mask_token") && !name.starts_with("pooler"));
        for name in kept {
            let (ours, theirs) = (written.tensor(&format!("{prefix}{name}")).unwrap(), file.tensor(name).unwrap());
            assert_eq!((ours.shape, ours.values), (theirs.shape, theirs.values), "{name}");
        }
    }
    assert_eq!(ModelConfig::open(folder.path()).unwrap(), *model.config());
}

/// Importing what was exported gives the same bytes, and so does exporting again.
#[test]
fn an_export_is_the_file_of_transformers() {
    let export = |model: &TwoTowers, format| {
        let folder = tempfile::tempdir().unwrap();
        let done = model.export(&mut pass(), folder.path(), format, &BTreeMap::new());
        done.map(|()| std::fs::read(folder.path().join("model.safetensors")).unwrap())
    };
    let theirs = fixture("hf_dual_pooler");
    let (model, report) = read(&mut Import::open(&theirs).unwrap());
    assert!(report.to_string().ends_with("84 tensors mapped, 0 ignored, 0 wrong"), "{report}");
    let bytes = export(&model, Format::HuggingFace).unwrap();
    let (mut ours, mut file) =
        (tempfile::NamedTempFile::new().unwrap(), TensorFile::open(&theirs.join("model.safetensors")));
    std::io::Write::write_all(&mut ours, &bytes).unwrap();
    let (mut ours, file) = (TensorFile::open(ours.path()).unwrap(), file.as_mut().unwrap());
    let names: Vec<String> = file.names().map(str::to_string).collect();
    assert!(ours.names().eq(names.iter().map(String::as_str)));
    for name in &names {
        let (ours, theirs) = (ours.tensor(name).unwrap(), file.tensor(name).unwrap());
        assert_eq!((ours.shape, ours.values), (theirs.shape, theirs.values), "{name}");
    }
    // What the library does not compute.
    let said = export(&read(&mut join(0)).0, Format::HuggingFace).unwrap_err().to_string();
    assert!(said.contains("means of tokens") && said.contains("--format onnx"), "{said}");
    let mut config = model.config().clone();
    config.init_logit_bias = -10.0;
    let biased = TwoTowers::new(&mut pass(), &config, 0).unwrap();
    assert!(export(&biased, Format::HuggingFace).unwrap_err().to_string().contains("logit_bias"));
    let said = export(&model, Format::OpenClip { preprocess_cfg: &serde_json::Value::Null }).unwrap_err().to_string();
    assert!(said.contains("DINOv2 and BERT"), "{said}");
}

#[test]
fn what_is_not_a_backbone_here_is_named() {
    let said = |from: &str, tower: Tower, change: (&str, &str)| {
        let place = tempfile::tempdir().unwrap();
        let config = std::fs::read_to_string(fixture("interchange").join(from).join("config.json")).unwrap();
        assert!(config.contains(change.0), "{change:?}");
        std::fs::write(place.path().join("config.json"), config.replace(change.0, change.1)).unwrap();
        TowerImport::open(place.path(), tower).unwrap_err().to_string()
    };
    let dino = |from, to| said("dinov2", Tower::Image, (from, to));
    assert!(dino("\"use_swiglu_ffn\": false", "\"use_swiglu_ffn\": true").contains("use_swiglu_ffn is true"));
    assert!(dino("\"qkv_bias\": true", "\"qkv_bias\": false").contains("qkv_bias is false, supported: true"));
    assert!(dino("\"num_channels\": 3", "\"num_channels\": 1").contains("num_channels is 1"));
    let bert = |from, to| said("bert", Tower::Text, (from, to));
    assert!(bert("\"type_vocab_size\": 2", "\"type_vocab_size\": 1").contains("type_vocab_size is 1"));
    assert!(bert("\"is_decoder\": false", "\"is_decoder\": true").contains("is_decoder is true"));
    assert!(bert("\"hidden_act\": \"gelu\"", "\"hidden_act\": \"relu\"").contains("hidden_act is relu"));
    let registers = ("\"model_type\": \"dinov2\"", "\"model_type\": \"dinov2_with_registers\"");
    assert!(said("dinov2", Tower::Image, registers).contains("dinov2_with_registers"));
    let place = tempfile::tempdir().unwrap();
    let config = std::fs::read_to_string(fixture("hf_dual_mean/config.json")).unwrap();
    for (from, to, words) in [
        ("\"model_type\": \"dinov2\"", "\"model_type\": \"vit\"", "vision_config.model_type is vit, supported: dinov2"),
        (
            "\"model_type\": \"bert\"",
            "\"model_type\": \"roberta\"",
            "text_config.model_type is roberta, supported: bert",
        ),
        ("\"eos_token_id\": 2", "\"eos_token_id\": 60", "text.eos_id is 60"),
    ] {
        std::fs::write(place.path().join("config.json"), config.replace(from, to)).unwrap();
        let said = Import::open(place.path()).unwrap_err().to_string();
        assert!(said.contains(words), "{said}");
    }
}

/// What is trained of a locked tower has the gradient that it has in the whole, and nothing else has one.
#[test]
fn gradients_stop_where_training_does() {
    for name in ["hf_dual_pooler", "hf_dual_mean", "hf_clip_tiny", "hf_siglip_tiny"] {
        // Heads are a group where they are locked, too.
        let most = if name.starts_with("hf_dual") { 2 } else { 3 };
        for groups in 0..=most {
            check_locked(name, groups);
        }
    }
}

fn check_locked(name: &str, groups: usize) {
    let pass = &mut pass();
    let folder = fixture(name);
    let mut expected = TensorFile::open(&folder.join("expected.safetensors")).unwrap();
    let (pixels, ids) = (expected.tensor("pixel_values").unwrap().values, expected.indices("input_ids").unwrap().1);
    let images = pass.upload(&pixels, &[5, 3, 32, 32]).unwrap();
    let gradients = |pass: &mut Pass, locked: Locked| {
        let mut model = TwoTowers::load(pass, &folder).unwrap();
        model.lock(pass, locked).unwrap();
        let d = model.config().embedding_dim();
        let dz = pass.upload(&testing::random(5 * d, 1), &[5, d]).unwrap();
        if model.trains(Tower::Image) {
            let (_, saved) = model.encode_images(pass, &images, &View::default()).unwrap();
            model.backward_images(pass, saved, &dz).unwrap();
        }
        if model.trains(Tower::Text) {
            let (_, saved) = model.encode_texts(pass, &ids, &[16, 3, 9, 2, 14], &View::default()).unwrap();
            model.backward_texts(pass, saved, &dz).unwrap();
        }
        let trained: Vec<String> = model.trained().iter().map(|param| param.name().to_string()).collect();
        let of = |param: &&Param| (param.name().to_string(), pass.read(&param.grad).unwrap());
        (trained, model.parameters().iter().map(of).collect::<BTreeMap<_, _>>())
    };
    let (_, whole) = gradients(pass, Locked::default());
    let locked = Locked { image: true, text: true, unlocked_image: groups, unlocked_text: groups };
    let (trained, part) = gradients(pass, locked);
    for (param, grad) in &part {
        let want = if trained.contains(param) { &whole[param] } else { &vec![0.0] };
        assert_eq!(grad, want, "{name}, {groups} groups: {param}");
        let moved = !trained.contains(param) || param.starts_with("logit_") || grad.iter().any(|value| *value != 0.0);
        assert!(moved, "{name}, {groups} groups: {param} has no gradient");
    }
}

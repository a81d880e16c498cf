//! Locked-image tuning from pretrained backbones: trained, saved, resumed, written.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::path::Path;

use common::{Place, jest};
use jest_model::{Family, ModelConfig, NamedTensor, TensorFile, TextPool};

/// Keys of the model whose backbones are `dinov2` and `bert` in fixtures/interchange, but for their places.
const KEYS: [&str; 13] = [
    "model.family=dual",
    "model.image_size=32",
    "model.patch_size=8",
    "model.width=16",
    "model.depth=2",
    "model.num_heads=2",
    "model.mlp_dim=32",
    "model.text_width=24",
    "model.text_num_heads=3",
    "model.text_mlp_dim=40",
    "model.text_tokens=12",
    "model.vocab_size=4022",
    "model.embedding_dim=20",
];

fn tensor(folder: &Path, name: &str) -> NamedTensor {
    TensorFile::open(&folder.join("model.safetensors")).unwrap().tensor(name).unwrap()
}

/// The settings, each behind its flag, and what else is asked for.
fn with<'a>(keys: &'a [String], more: &[&'a str]) -> Vec<&'a str> {
    keys.iter().flat_map(|key| ["--set", key]).chain(more.iter().copied()).collect()
}

fn keys(more: &[String]) -> Vec<String> {
    KEYS.iter().map(|key| (*key).to_string()).chain(more.iter().cloned()).collect()
}

#[test]
fn locked_backbones_keep_their_bytes_and_their_maps_are_trained() {
    let place = Place::new("");
    let fixture = |name: &str| common::sample(&format!("../../fixtures/interchange/{name}"));
    let [dino, bert] = ["dinov2", "bert"].map(fixture);
    let own = keys(&[format!("init_image={}", dino.display()), format!("init_text={}", bert.display())]);
    let locked = ["--lock-image", "--lock-image-unlocked-groups", "1", "--steps", "3"];
    place.train("out", &with(&own, &locked)).well().tells(&["the first 12 of 16 positions"]);
    let saved = place.newest("out", "train");
    let config = ModelConfig::open(&saved).unwrap();
    assert_eq!((config.family, config.text.pool, config.init_logit_bias), (Family::Dual, TextPool::Mean, -10.0));
    let part = "encoder.layer.0.attention.attention.query.weight";
    assert_eq!(tensor(&saved, &format!("vision_model.{part}")).values, tensor(&dino, part).values);
    let part = "encoder.layer.1.layer_scale2.lambda1";
    assert_ne!(tensor(&saved, &format!("vision_model.{part}")).values, tensor(&dino, part).values);
    let part = "embeddings.LayerNorm.weight";
    assert_ne!(tensor(&saved, &format!("text_model.{part}")).values, tensor(&bert, part).values);
    let moments = TensorFile::open(&saved.join("optimizer.safetensors")).unwrap();
    let learned = |name: &str| moments.names().any(|moment| moment.contains(name));
    assert!(learned("visual_projection") && learned("layers.1.mlp.fc1") && learned("logit_bias"));
    assert!(!learned("vision_model.embeddings") && !learned("vision_model.encoder.layers.0"));
    // Resumed, it is the same run.
    let whole = place.weights("out", "train");
    fs::remove_dir_all(&saved).unwrap();
    place.train("out", &with(&own, &[&locked[..], &["--resume", "latest"]].concat())).well();
    assert_eq!(place.weights("out", "train"), whole);

    // Both towers locked: their maps alone, and the two numbers of the logits.
    let own = keys(&[format!("init={}", saved.display())]);
    place.train("maps", &with(&own, &["--lock-image", "--lock-text", "--steps", "2"])).well();
    let maps = place.newest("maps", "train");
    let file = TensorFile::open(&saved.join("model.safetensors")).unwrap();
    for name in file.names() {
        let moved = tensor(&maps, name).values != tensor(&saved, name).values;
        assert_eq!(moved, name.ends_with("_projection.weight") || name.starts_with("logit_"), "{name}");
    }
    let export = |format: &str| {
        let to = place.path(format);
        jest(["export".as_ref(), maps.as_os_str(), to.as_os_str(), "--format".as_ref(), format.as_ref()])
    };
    export("onnx").well();
    assert!(place.path("onnx/onnx/text_model.onnx").exists());
    export("hf").refused(8, &["means of tokens", "--format onnx"]);
}

#[test]
fn what_does_not_go_with_backbones_is_refused() {
    let place = Place::new("");
    let own = keys(&[]);
    let train = |more: &[&str]| place.train("no", &with(&own, more));
    train(&["--set", "text.pool=last"]).refused(3, &["family dual has text.pool mean or pooler"]);
    train(&["--set", "model.init_logit_bias=0"]).refused(3, &["objective = \"sigmoid\"", "no logit_bias"]);
    train(&["--lock-image-unlocked-groups", "1"]).refused(3, &["a tower that is not locked", "lock it"]);
    let dino = format!("init_image={}", common::sample("../../fixtures/interchange/dinov2").display());
    train(&["--set", &dino, "--lock-image", "--lock-image-unlocked-groups", "3"])
        .refused(3, &["model.lock_image_unlocked_groups is 3, but must be at most 2"]);
    train(&["--set", &dino, "--set", "model.family=siglip"]).refused(3, &["embedding_dim"]);
}

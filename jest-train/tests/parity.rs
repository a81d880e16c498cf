//! `jest parity` on the fixtures, on both devices, and on folders that are not as they should be.
#![expect(clippy::unwrap_used, reason = "helpers fail as tests do")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{Ran, jest};
use serde_json::Value;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures")
}

/// A folder of copies of these.
fn folder<'a>(files: impl IntoIterator<Item = &'a str>) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in files {
        let to = folder.path().join(file);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(fixtures().join(file), to).unwrap();
    }
    folder
}

fn parity(folder: &Path, device: &str) -> Ran {
    jest(["parity", folder.to_str().unwrap(), "--device", device, "--json"])
}

/// The checks of the last line: group, name, error, limit, ok.
fn checks(ran: &Ran) -> Vec<(String, String, f64, f64, bool)> {
    let last: Value = serde_json::from_str(ran.out.lines().last().unwrap()).unwrap();
    let text = |check: &Value, key: &str| check[key].as_str().unwrap().to_string();
    let number = |check: &Value, key: &str| check[key].as_f64().unwrap();
    let one = |check: &Value| {
        let ok = check["ok"].as_bool().unwrap();
        (text(check, "group"), text(check, "name"), number(check, "error"), number(check, "limit"), ok)
    };
    last["checks"].as_array().unwrap().iter().map(one).collect()
}

#[test]
fn every_fixture_is_met_on_both_devices() {
    // The folder itself, as `cargo xtask parity fixtures` reads it: nothing in it may be unknown.
    for (device, slack) in [("cpu", 1.0), ("gpu", 10.0)] {
        let ran = parity(&fixtures(), device).well();
        let all = checks(&ran);
        assert!(all.iter().all(|(.., error, limit, ok)| *ok && error <= limit), "{}", ran.out);
        for (group, name, limit) in [
            ("losses", "softmax.grad_scale", 1e-5),
            ("adamw", "param5", 1e-6),
            ("pi_resize", "pos7", 1e-4),
            ("jest_scores", "sigmoid.learnability.3", 1e-5),
            ("hf_siglip_tiny", "image_embeds", 2e-5),
            ("hf_siglip_tiny", "grad.logit_bias", 1e-4),
            ("hf_clip_tiny", "grad.vision_model.embeddings.class_embedding", 1e-4),
            ("hf_dual_pooler", "grad.vision_model.encoder.layer.1.layer_scale2.lambda1", 1e-4),
            ("hf_dual_mean", "grad.text_model.embeddings.token_type_embeddings.weight", 1e-4),
        ] {
            let found = all.iter().find(|check| check.0 == group && check.1 == name).unwrap();
            assert!((found.3 / (limit * slack) - 1.0).abs() < 1e-9, "{group} {name}: {}", found.3);
        }
        assert_eq!(
            all.iter().filter(|check| check.1.starts_with("grad.")).count(),
            88 + 78 + 84 + 83,
            "every parameter"
        );
        assert_eq!(ran.out.lines().count(), all.len() + 1);
    }
}

#[test]
fn a_picture_is_met_to_the_pixel() {
    let folder = folder(["preprocess/expected.safetensors"]);
    for name in ["0_RGB", "1_RGB", "2_L", "3_RGBA", "4_P"] {
        fs::copy(
            fixtures().join(format!("preprocess/{name}.png")),
            folder.path().join(format!("preprocess/{name}.png")),
        )
        .unwrap();
    }
    assert_eq!(checks(&parity(folder.path(), "cpu").well()).len(), 15);
    fs::copy(fixtures().join("preprocess/1_RGB.png"), folder.path().join("preprocess/0_RGB.png")).unwrap();
    let ran = parity(folder.path(), "cpu");
    assert_eq!((ran.code, checks(&ran).iter().filter(|check| !check.4).count()), (Some(1), 3), "{}", ran.out);
}

#[test]
fn one_value_that_is_off_is_named() {
    let folder = folder(["losses.safetensors", "adamw.safetensors"]);
    let path = folder.path().join("losses.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let last = bytes.len() - 4;
    let value = f32::from_le_bytes(bytes[last..].try_into().unwrap());
    bytes[last..].copy_from_slice(&(value + 1.0).to_le_bytes());
    fs::write(&path, bytes).unwrap();
    let ran = parity(folder.path(), "cpu").refused(1, &["checks are out"]);
    assert!(checks(&ran).iter().any(|check| !check.4 && check.0 == "losses"), "{}", ran.out);
    assert!(checks(&ran).iter().all(|check| check.4 || check.0 == "losses"), "{}", ran.out);
}

#[test]
fn what_cannot_be_checked_is_a_failure() {
    parity(folder([]).path(), "cpu").refused(1, &["0 of 0 checks"]);
    let folder = folder(["adamw.safetensors"]);
    fs::create_dir(folder.path().join("hf_vit_tiny")).unwrap();
    fs::write(folder.path().join("losses.safetensors"), "not one").unwrap();
    let ran = parity(folder.path(), "cpu").refused(1, &["2 of 12 checks are out"]);
    let out: Vec<_> = checks(&ran).into_iter().filter(|check| !check.4).map(|check| (check.0, check.1)).collect();
    let known = |group: &str, name: &str| (group.to_string(), name.to_string());
    assert_eq!(out, [known("hf_vit_tiny", "known"), known("losses", "readable")]);
    jest(["parity", "no/such/folder", "--device", "cpu"]).refused(7, &["no/such/folder"]);
}

/// A safetensors file of f32 and i64 tensors of zeros.
fn zeros(path: &Path, tensors: &[(&str, &str, &[usize])]) {
    let (mut header, mut at) = (serde_json::Map::new(), 0);
    for (name, dtype, shape) in tensors {
        let end = at + shape.iter().product::<usize>() * if *dtype == "I64" { 8 } else { 4 };
        header.insert(name.to_string(), serde_json::json!({"dtype": dtype, "shape": shape, "data_offsets": [at, end]}));
        at = end;
    }
    let mut text = Value::Object(header).to_string();
    text.extend(std::iter::repeat_n(' ', text.len().next_multiple_of(8) - text.len()));
    let bytes = [&(text.len() as u64).to_le_bytes()[..], text.as_bytes(), &vec![0; at]].concat();
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// Which checks of one file fail, of how many.
fn out(file: &str, tensors: &[(&str, &str, &[usize])]) -> (Vec<String>, usize) {
    let folder = tempfile::tempdir().unwrap();
    if file.starts_with("preprocess") {
        fs::create_dir(folder.path().join("preprocess")).unwrap();
        fs::copy(fixtures().join("preprocess/0_RGB.png"), folder.path().join("preprocess/0_RGB.png")).unwrap();
    }
    zeros(&folder.path().join(file), tensors);
    let all = checks(&parity(folder.path(), "cpu").refused(1, &["checks are out"]));
    (all.iter().filter(|check| !check.4).map(|check| check.1.clone()).collect(), all.len())
}

#[test]
fn a_file_with_nothing_to_check_fails() {
    let empty = (vec!["empty".to_string()], 1);
    let weights: [(&str, &str, &[usize]); 2] = [("pos16", "F32", &[1, 256, 4]), ("weight16", "F32", &[1, 1, 16, 16])];
    assert_eq!(out("pi_resize.safetensors", &weights), empty);
    assert_eq!(out("adamw.safetensors", &[("param0", "F32", &[3])]), empty);
    assert_eq!(out("preprocess/expected.safetensors", &[]), empty);
    let folder = folder(["text/texts.json"]);
    fs::write(folder.path().join("text/ids.json"), "{}").unwrap();
    assert_eq!(checks(&parity(folder.path(), "cpu"))[0].1, "empty");
    let folder = tempfile::tempdir().unwrap();
    zeros(&folder.path().join("jest_scores.safetensors"), &[("picks", "I64", &[0, 2])]);
    parity(folder.path(), "cpu").refused(1, &["1 of 1 checks are out"]).tells(&["tensor `picks` is empty"]);
}

#[test]
fn sizes_in_files_are_not_trusted() {
    let weights: [(&str, &str, &[usize]); 8] = [
        ("pos16", "F32", &[1, 256, 4]),
        ("pos513", "F32", &[1]),
        ("pos7", "F32", &[0]),
        ("weight0", "F32", &[0]),
        ("weight16", "F32", &[1, 1, 16, 16]),
        ("weight600", "F32", &[1]),
        ("weight_x", "F32", &[1]),
        ("x", "F32", &[1]),
    ];
    let (failed, all) = out("pi_resize.safetensors", &weights);
    assert_eq!(
        (failed, all),
        (["pos513", "pos7", "weight0", "weight600", "weight_x", "x"].map(String::from).into(), 6)
    );
    let pictures: [(&str, &str, &[usize]); 4] = [
        ("0_RGB", "F32", &[1]),
        ("0_RGB.0", "F32", &[3, 0, 0]),
        ("0_RGB.8", "F32", &[3, 0, 0]),
        ("0_RGB.99999999999999", "F32", &[1]),
    ];
    assert_eq!(out("preprocess/expected.safetensors", &pictures).0.len(), 4);
    for shape in [&[][..], &[0], &[4, 0], &[0, 4], &[2, 2, 2]] {
        let tables: [(&str, &str, &[usize]); 2] = [("learner.image", "F32", shape), ("picks", "I64", &[1, 2])];
        assert_eq!(out("jest_scores.safetensors", &tables), (vec!["readable".to_string()], 1), "{shape:?}");
    }
    let folder = folder(["text/texts.json"]);
    for length in ["0", "8193", "1000000000000000000"] {
        let golden = r#"{"a":{"tokenizer":"clip","canonicalize":null,"pad":null,"length":LENGTH,"nasty":[[1]]}}"#;
        fs::write(folder.path().join("text/ids.json"), golden.replace("LENGTH", length)).unwrap();
        let ran = parity(folder.path(), "cpu").refused(1, &["1 of 1 checks are out"]).tells(&["is not in 1..=8192"]);
        assert_eq!(checks(&ran)[0].1, "a", "{length}");
    }
}

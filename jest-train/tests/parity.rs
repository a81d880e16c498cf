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
        ] {
            let found = all.iter().find(|check| check.0 == group && check.1 == name).unwrap();
            assert!((found.3 / (limit * slack) - 1.0).abs() < 1e-9, "{group} {name}: {}", found.3);
        }
        assert_eq!(all.iter().filter(|check| check.1.starts_with("grad.")).count(), 88 + 78, "every parameter");
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

//! Every file under `configs/` makes a plan, and those that nothing else runs train.
#![expect(clippy::unwrap_used, reason = "helpers fail as tests do")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

/// Files of the folder itself; studies are built on other data.
fn files() -> Vec<PathBuf> {
    let folder = fs::read_dir(root().join("configs")).unwrap();
    let mut files: Vec<PathBuf> = folder.map(|entry| entry.unwrap().path()).filter(|path| path.is_file()).collect();
    files.sort();
    files
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// `jest train` in the root of the repository, as the files' paths are meant.
fn train(config: &Path, args: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_jest"))
        .current_dir(root())
        .args(["train", "--device", "cpu", "--threads", "2", "--config"])
        .arg(config)
        .args(args)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}", config.display());
    String::from_utf8(output.stdout).unwrap()
}

/// Two steps of every run, on batches of 16; the summary's runs and the lines of the record.
fn smoke(name: &str, runs: &[&str], args: &[&str]) -> (Vec<Value>, Vec<Value>) {
    let out = TempDir::new().unwrap();
    let folder = out.path().to_str().unwrap();
    let mut all: Vec<String> = ["--batch-size", "16", "--steps", "2", "--out", folder].map(String::from).to_vec();
    // Work that no step needs: every example's embedding, tasks, and shards that are not read.
    for key in ["selection.cache_reference=false", "evaluation.tasks=[]", "data.shuffle_buffer=64", "data.workers=1"] {
        all.extend(["--set".to_string(), key.to_string()]);
    }
    for run in runs {
        all.extend(["--set".to_string(), format!("run.{run}.steps=2")]);
    }
    let args: Vec<&str> = all.iter().map(String::as_str).chain(args.iter().copied()).collect();
    train(&root().join("configs").join(name), &args);
    let read = |file: &str| fs::read_to_string(out.path().join(file)).unwrap();
    let summary: Value = serde_json::from_str(&read("summary.json")).unwrap();
    let lines = read("metrics.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    (summary["runs"].as_array().unwrap().clone(), lines)
}

fn flops(runs: &[Value], name: &str, kind: &str) -> f64 {
    let run = runs.iter().find(|run| run["name"] == name).unwrap();
    run["flops"][kind].as_f64().unwrap()
}

#[test]
fn every_config_makes_a_plan() {
    let files = files();
    for name in ["jest", "jest_pp", "flexi_jest", "flexi_jest_pp", "aced", "siglip2_finetune", "siglip", "clip"] {
        assert!(files.iter().any(|file| file.file_stem().unwrap() == name), "configs/{name}.toml is missing");
    }
    for file in files {
        let said = train(&file, &["--dry-run"]);
        assert!(said.contains("steps = "), "{}: {said}", file.display());
        let (text, name) = (fs::read_to_string(&file).unwrap(), file.file_stem().unwrap().to_str().unwrap().to_owned());
        assert!(text.starts_with("# cargo xtask train"), "{name}: no command in its header");
        assert!(text.contains(&format!("out = \"runs/{name}\"")), "{name} writes to another run's folder");
    }
}

/// Whoever is taught says what of its loss that is, also in pieces whose first pass was the scoring.
#[test]
fn a_reference_teaches() {
    let whole = ["--set", "run.aced_uniform.selection.super_batch=16"];
    for pieces in [false, true] {
        let more = if pieces { [&whole[..], &["--micro-batch", "5"]].concat() } else { whole.to_vec() };
        let (runs, lines) = smoke("aced.toml", &["reference"], &more);
        // Teaching costs; the first pass of pieces, in which scores stand for captions, is more.
        let more_than_uniform = flops(&runs, "aced", "learn") > flops(&runs, "uniform", "learn");
        assert_eq!(more_than_uniform, !pieces);
        assert!(flops(&runs, "aced_uniform", "score") > 0.0, "scores of the reference alone");
        let drawn = |name: &str| runs.iter().find(|run| run["name"] == name).unwrap()["examples_drawn"].clone();
        assert_eq!((drawn("aced_uniform"), drawn("acid"), drawn("aced")), (32.into(), 160.into(), 160.into()));
        // What is selected the same and not taught costs what the learner alone does, in one piece.
        assert_eq!(flops(&runs, "acid", "learn") == flops(&runs, "uniform", "learn"), !pieces);
        let taught: Vec<&Value> = lines.iter().filter(|line| line["distillation_loss"].is_number()).collect();
        assert_eq!(taught.len(), 4, "two steps of two runs");
        for step in taught {
            assert!(["aced", "aced_uniform"].contains(&step["run"].as_str().unwrap()), "{step}");
            let (loss, part) = (step["loss"].as_f64().unwrap(), step["distillation_loss"].as_f64().unwrap());
            // Of softmaxes over 16, at first near ln 16.
            assert!(loss > part && (1.0..16.0).contains(&part), "{step}");
        }
    }
}

#[test]
fn a_trained_model_goes_on_with_selected_data() {
    let (runs, _) = smoke("siglip2_finetune.toml", &["pretrained", "reference", "finetuned", "finetuned_uniform"], &[]);
    let drawn: Vec<u64> = runs.iter().map(|run| run["examples_drawn"].as_u64().unwrap()).collect();
    assert_eq!(drawn, [32, 32, 64, 32]);
}

#[test]
fn a_larger_curated_set_trains_a_reference() {
    for name in ["jest_pp", "flexi_jest_pp"] {
        let (runs, lines) = smoke(&format!("{name}.toml"), &["reference"], &[]);
        assert_eq!((runs[0]["examples_trained"].as_u64(), &runs[1]["name"]), (Some(32), &name.into()));
        assert!(!lines.iter().any(|line| line["event"] == "skipped_examples"), "{name}: {lines:?}");
    }
}

#[test]
fn baselines_train() {
    for name in ["siglip.toml", "clip.toml"] {
        let (runs, lines) = smoke(name, &[], &[]);
        assert_eq!((runs.len(), lines.iter().filter(|line| line["event"] == "step").count()), (1, 2), "{name}");
    }
}

/// What its header promises: scoring and training at the cheap view cost no more than a tenth above a uniform run. Three steps have
/// all of a batch cheap, half of it, and nothing.
#[test]
fn flexi_jest_costs_what_a_uniform_run_does() {
    let (runs, _) = smoke("flexi_jest_xs64.toml", &[], &["--steps", "3", "--set", "run.reference.steps=1"]);
    let cost = |name: &str| flops(&runs, name, "learn") + flops(&runs, name, "score");
    let (flexi, full) = (cost("flexi_jest") / cost("uniform"), cost("jest") / cost("uniform"));
    assert!((1.0..1.10).contains(&flexi) && full > 2.5, "flexi_jest {flexi}, jest {full}");
}

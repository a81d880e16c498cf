//! `jest eval` on folders of both kinds, with probes and in both formats.
#![expect(clippy::unwrap_used, reason = "helpers fail as tests do")]

mod common;

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use common::{Place, jest, sample};
use serde_json::Value;

/// A run of one step.
fn one_step() -> Place {
    let place = Place::new("");
    place.train("out", &["--steps", "1"]).well();
    place
}

/// What `jest eval` prints, a line a task.
fn eval(checkpoint: &Path, more: &[&str]) -> Vec<Value> {
    let args = ["eval", "--device", "cpu", "--checkpoint"].map(PathBuf::from);
    let told = jest(args.into_iter().chain([checkpoint.to_path_buf()]).chain(more.iter().map(PathBuf::from))).well();
    told.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The one shard of a task of the sample, unpacked.
fn shard(task: &str) -> Vec<u8> {
    let mut tar = Vec::new();
    let file = fs::File::open(sample("eval").join(task).join("000000.tar.gz")).unwrap();
    flate2::read::GzDecoder::new(file).read_to_end(&mut tar).unwrap();
    tar
}

fn classes(task: &str) -> Value {
    serde_json::from_slice(&fs::read(sample("eval").join(task).join("classes.json")).unwrap()).unwrap()
}

fn text(list: &Value) -> String {
    list.as_array().unwrap().iter().map(|line| format!("{}\n", line.as_str().unwrap())).collect()
}

/// A task of the sample as CLIP_benchmark lays it out.
fn clip_benchmark(folder: &Path, task: &str) {
    for split in ["train", "test"] {
        fs::create_dir_all(folder.join(split)).unwrap();
        fs::write(folder.join(split).join("0.tar"), shard(task)).unwrap();
        // Not among those counted.
        fs::write(folder.join(split).join("1.tar"), b"no shard").unwrap();
        fs::write(folder.join(split).join("nshards.txt"), "1\n").unwrap();
    }
    let file = classes(task);
    if file["type"] == "retrieval" {
        return fs::write(folder.join("dataset_type.txt"), "retrieval\n").unwrap();
    }
    fs::write(folder.join("classnames.txt"), text(&file["classes"])).unwrap();
    let templates = text(&file["templates"]).replace("{}", "{c}");
    fs::write(folder.join("zeroshot_classification_templates.txt"), templates).unwrap();
}

#[test]
fn folders_and_results_of_clip_benchmark() {
    let place = one_step();
    let checkpoint = place.newest("out", "train");
    for task in ["fashion_zs", "clipart_retrieval"] {
        let folder = place.path(task);
        clip_benchmark(&folder, task);
        let ours = eval(&checkpoint, &["--task", sample("eval").join(task).to_str().unwrap()]);
        let same = eval(&checkpoint, &["--task", folder.to_str().unwrap()]);
        assert_eq!(ours, same, "{task}");
        let out = place.path("results");
        let flags = ["--task", folder.to_str().unwrap(), "--format", "clip-benchmark", "--out", out.to_str().unwrap()];
        let theirs = eval(&checkpoint, &flags).remove(0);
        let written: Value = serde_json::from_slice(&fs::read(out.join(format!("{task}.json"))).unwrap()).unwrap();
        assert_eq!(written, theirs);
        let pairs = match task {
            "fashion_zs" => [("acc1", "top1"), ("acc5", "top5")],
            _ => [("image_retrieval_recall@5", "text_to_image_R@5"), ("text_retrieval_recall@5", "image_to_text_R@5")],
        };
        for (theirs_name, our_name) in pairs {
            assert_eq!(theirs["metrics"][theirs_name], ours[0]["metrics"][our_name], "{task} {our_name}");
        }
        assert_eq!((theirs["dataset"].as_str(), theirs["language"].as_str()), (Some(task), Some("en")));
    }
}

#[test]
fn what_would_overwrite_or_mean_nothing_is_refused() {
    let place = one_step();
    let (checkpoint, folder) = (place.newest("out", "train"), place.path("fashion_zs"));
    clip_benchmark(&folder, "fashion_zs");
    let run = |more: &[&str]| {
        let args = ["eval", "--device", "cpu", "--task"].map(PathBuf::from).into_iter().chain([folder.clone()]);
        jest(args.chain(["--checkpoint".into(), checkpoint.clone()]).chain(more.iter().map(PathBuf::from)))
    };
    run(&["--task", sample("eval/fashion_zs").to_str().unwrap()]).refused(4, &["the same name, fashion_zs"]);
    assert_eq!(run(&["--shots", "0"]).code, Some(2));
}

#[test]
fn probes_learn_from_the_training_pictures() {
    let place = one_step();
    let (checkpoint, folder) = (place.newest("out", "train"), place.path("fashion"));
    clip_benchmark(&folder, "fashion_zs");
    let flags = ["--task", folder.to_str().unwrap(), "--probe", "few-shot", "--probe", "linear", "--shots", "5"];
    let metrics = eval(&checkpoint, &flags).remove(0)["metrics"].clone();
    // Learned from what it is tested on: better than chance, which is one in ten.
    for name in ["few_shot_5", "linear_probe"] {
        let accuracy = metrics[name].as_f64().unwrap();
        assert!((0.3..=1.0).contains(&accuracy), "{name}: {accuracy}");
    }
    assert_eq!(eval(&checkpoint, &flags).remove(0)["metrics"], metrics);
    let bare = sample("eval").join("fashion_zs");
    let args = ["eval", "--device", "cpu", "--probe", "linear", "--task"].map(PathBuf::from);
    jest(args.into_iter().chain([bare, "--checkpoint".into(), checkpoint])).refused(4, &["`train` in classes.json"]);
}

//! Every verb of the binary, on a model of a few steps.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use common::{Place, THREE_RUNS, jest, sample};
use jest_train::events::Summary;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::RowAccessor;
use serde_json::json;

/// Three runs that end with two tasks of the sample.
fn trained() -> Place {
    let place = Place::new("");
    let task = |name: &str| sample("eval").join(name).display().to_string();
    let tasks = format!("evaluation.tasks = ['{}', '{}']", task("fashion_zs"), task("clipart_retrieval"));
    place.configure(&tasks, THREE_RUNS);
    let told = place.train("out", &["--set", "checkpoint.every=0"]).well();
    assert!(told.out.contains("GFLOP score") && told.out.contains("fashion_zs top1"), "{}", told.out);
    place
}

/// A JSON text with 0 for every number.
fn shape(json: &str) -> String {
    let (mut shape, mut in_text) = (String::new(), false);
    for c in json.trim().chars() {
        in_text ^= c == '"';
        match c {
            '0'..='9' | '.' | '-' | 'e' if !in_text => {
                if !shape.ends_with('0') {
                    shape.push('0');
                }
            }
            other => shape.push(other),
        }
    }
    shape
}

fn shape_of_run(name: &str, selection: &str, score: &str) -> String {
    let recall =
        ["image_to_text", "text_to_image"].map(|way| [1, 5, 10].map(|k| format!("\"{way}_R@{k}\":0")).join(","));
    format!(
        "{{\"name\":\"{name}\",\"selection\":\"{selection}\",\"score\":\"{score}\",\"filter_ratio\":0,\"gain\":0,\"steps\":0,\
         \"examples_trained\":0,\"examples_drawn\":0,\"flops\":{{\"learn\":0,\"score\":0,\"reference\":0}},\
         \"seconds\":{{\"learn\":0,\"score\":0,\"reference\":0,\"data\":0,\"eval\":0}},\"peak_rss_mb\":0,\
         \"eval\":{{\"fashion_zs\":{{\"top1\":0,\"top5\":0}},\"clipart_retrieval\":{{{}}}}}}}",
        recall.join(",")
    )
}

#[test]
fn summary_and_report_are_as_documented() {
    let place = trained();
    let text = place.read("out", "summary.json");
    let runs = [
        shape_of_run("reference", "uniform", "none"),
        shape_of_run("jest", "joint", "learnability"),
        shape_of_run("uniform", "uniform", "none"),
    ];
    assert_eq!(shape(&text), format!("{{\"device\":\"cpu\",\"threads\":0,\"seed\":0,\"runs\":[{}]}}", runs.join(",")));

    let summary: Summary = serde_json::from_str(&text).unwrap();
    let [reference, learner, uniform] = &summary.runs[..] else { panic!("{text}") };
    assert_eq!((learner.filter_ratio, uniform.filter_ratio), (0.75, 0.0));
    assert_eq!((learner.examples_trained, learner.examples_drawn), (48, 192));
    assert_eq!((uniform.examples_trained, uniform.examples_drawn), (48, 48));
    for run in &summary.runs {
        let metrics = run.eval.iter().flat_map(|(_, metrics)| metrics.iter());
        metrics.for_each(|(name, value)| assert!((0.0..=1.0).contains(value), "{name} = {value}"));
        assert!(run.flops.learn > 0.0 && run.seconds.learn > 0.0 && run.peak_rss_mb > 0);
    }
    // Its reference was trained and embedded the pool for it.
    assert!(learner.flops.reference > reference.flops.total());
    assert!(learner.flops.score > 0.0 && learner.flops.learn == uniform.flops.learn);
    assert_eq!((uniform.flops.score, uniform.flops.reference), (0.0, 0.0));

    let report = place.read("out", "report.html");
    assert_eq!(report.matches("data:image/png;base64,").count(), 96);
    for loads in ["<script", "<link", "@import", "src=\"http", "href=\"http", "url(http", "src='http"] {
        assert!(!report.contains(loads), "{loads}");
    }
    assert!(report.contains("<svg") && report.contains("a red cat number 0"), "no curve or no caption");
}

#[test]
fn eval_gives_what_the_run_gave() {
    let place = trained();
    let summary: Summary = serde_json::from_str(&place.read("out", "summary.json")).unwrap();
    let (checkpoint, tasks) = (place.newest("out", "jest"), ["fashion_zs", "clipart_retrieval"]);
    let mut args = vec![PathBuf::from("eval"), "--device".into(), "cpu".into(), "--checkpoint".into(), checkpoint];
    tasks.iter().for_each(|task| args.extend([PathBuf::from("--task"), sample("eval").join(task)]));
    let told = jest(args).well();
    for (line, task) in told.out.lines().zip(tasks) {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["task"], task);
        assert_eq!(line["metrics"], serde_json::to_value(summary.runs[1].eval.get(task)).unwrap());
    }
    assert_eq!(told.out.lines().count(), 2);
}

/// A run of one step.
fn one_step() -> Place {
    let place = Place::new("");
    place.train("out", &["--steps", "1"]).well();
    place
}

#[test]
fn embed_adds_what_is_missing() {
    let place = one_step();
    let (checkpoint, out) = (place.newest("out", "train"), place.path("embeddings"));
    let embed = |data: &str| {
        let data = data.replace("DATA", &place.path("").display().to_string());
        let args =
            [Path::new("embed"), Path::new("--device"), Path::new("cpu"), Path::new("--checkpoint"), &checkpoint];
        jest(args.into_iter().chain([Path::new("--out"), &out, Path::new("--data"), Path::new(&data)]))
    };
    let parts = || {
        let named = |entry: std::io::Result<fs::DirEntry>| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            name.starts_with("part-").then(|| (name, fs::read(path).unwrap()))
        };
        fs::read_dir(&out).unwrap().filter_map(named).collect::<BTreeMap<_, _>>()
    };
    assert!(embed("DATA/curated").well().out.contains("embeddings of 24 examples, 16 wide"));
    let first = parts();
    assert_eq!(first.len(), 1);
    assert!(embed("DATA/curated").well().out.contains("of 24 examples"));
    assert!(parts() == first);
    assert!(embed("DATA/curated::DATA/pool").well().out.contains("of 124 examples"));
    let both = parts();
    assert!(both.len() == 2 && both.get("part-000000.safetensors") == first.get("part-000000.safetensors"));
    // Embeddings of another model do not mix with these.
    place.train("other", &["--steps", "2"]).well();
    let other = place.newest("other", "train");
    let args = [Path::new("embed"), Path::new("--checkpoint"), &other, Path::new("--data"), &place.path("pool")];
    let mixed = jest(args.into_iter().chain([Path::new("--out"), &out, Path::new("--device"), Path::new("cpu")]));
    mixed.refused(4, &["made with other settings: model", "use another folder"]);
}

#[test]
fn score_writes_a_row_an_example_in_both_formats() {
    let place = one_step();
    place.train("reference", &["--steps", "3", "--train-data", "DATA/curated"]).refused(4, &["DATA"]);
    place.train("reference", &["--steps", "3", "--seed", "1"]).well();
    let score = |file: &str| {
        let text = |path: PathBuf| path.display().to_string();
        let (learner, reference) = (text(place.newest("out", "train")), text(place.newest("reference", "train")));
        let (data, out) = (format!("pool={}", text(place.path("pool"))), text(place.path(file)));
        let args = ["score", "--device", "cpu", "--learner", &learner, "--reference", &reference, "--data", &data];
        assert!(jest(args.into_iter().chain(["--out", &out])).well().out.contains("scores of 100 examples"));
        place.path(file)
    };
    let csv = fs::read_to_string(score("scores.csv")).unwrap();
    let mut lines = csv.lines();
    assert_eq!(lines.next(), Some("id,key,source,learner_loss,reference_loss,learnability"));
    let parquet = SerializedFileReader::new(fs::File::open(score("scores.parquet")).unwrap()).unwrap();
    let mut rows = 0;
    for (row, line) in parquet.get_row_iter(None).unwrap().map(|row| row.unwrap()).zip(lines.by_ref()) {
        let fields: Vec<&str> = line.split(',').collect();
        let number = |index: usize| fields[index].parse::<f32>().unwrap();
        assert_eq!((fields.len(), fields[0].len(), fields[2]), (6, 32, "pool"));
        assert_eq!(fields[1], format!("{rows:05}"));
        (0..3).for_each(|i| assert_eq!(row.get_string(i).unwrap(), fields[i]));
        (3..6).for_each(|i| assert_eq!(row.get_float(i).unwrap(), number(i)));
        assert_eq!(number(5), number(3) - number(4));
        rows += 1;
    }
    assert_eq!((rows, lines.next()), (100, None));
}

#[test]
fn the_tokenizer_of_the_sample_can_be_made_again() {
    let place = tempfile::tempdir().unwrap();
    let (out, data) =
        (place.path().join("tokenizer.json"), ["train", "curated"].map(|part| sample(part).display().to_string()));
    let data = data.join("::");
    let args = ["tokenizer", "train", "--vocab-size", "4096", "--data", &data, "--out", out.to_str().unwrap()];
    assert!(jest(args).well().out.contains("4022 ids from 4759 captions"));
    assert!(fs::read(out).unwrap() == fs::read(sample("tokenizer.json")).unwrap());
}

#[test]
fn inspect_shows_checkpoints_weights_and_shards() {
    let place = one_step();
    let checkpoint = place.newest("out", "train");
    let inspect = |path: &Path| jest([Path::new("inspect"), path, Path::new("--limit"), Path::new("3")]);
    let told = inspect(&checkpoint).well().out;
    assert!(told.contains("run train at step 1: 8 examples trained, 8 drawn; all files match"), "{told}");
    assert!(told.contains("producer = jest") && told.contains("logit_bias [1]"), "{told}");
    let told = inspect(&checkpoint.join("model.safetensors")).well().out;
    assert!(told.contains("tensors, ") && told.contains("more; --limit shows them"), "{told}");
    let told = inspect(&place.path("pool/0.tar")).well().out;
    assert!(told.contains("\"a red cat number 0\"") && told.contains("50 examples; 50 kept, 0 skipped"), "{told}");
    common::damage(&checkpoint.join("state.json"));
    inspect(&checkpoint).refused(8, &["state.json is missing or damaged"]);
    inspect(&place.path("nothing.tar")).refused(4, &["nothing.tar"]);
}

#[test]
fn bench_ends_with_one_line_of_json() {
    let bench = |line: &str| {
        let told =
            jest(["bench"].into_iter().chain(line.split(' ')).chain(["--device", "cpu", "--repeats", "1"])).well();
        let last: serde_json::Value = serde_json::from_str(told.out.lines().last().unwrap()).unwrap();
        (told.out.clone(), last)
    };
    for precision in ["f32", "bf16"] {
        let line = format!("step --preset mu --batch 4 --threads 1 --precision {precision} --profile --json");
        let (told, last) = bench(&line);
        assert!(last["score_ips"].as_f64().unwrap() > 0.0 && last["step_ips"].as_f64().unwrap() > 0.0, "{last}");
        let setting = [&last["preset"], &last["batch"], &last["precision"], &last["threads"]];
        assert_eq!(setting, [&json!("mu"), &json!(4), &json!(precision), &json!(1)]);
        for kernel in ["matmul/bias_gelu", "layer_norm/backward", "sigmoid_loss/gradient", "adamw", "host"] {
            assert!(told.lines().any(|line| line.starts_with(kernel)), "{kernel}: {told}");
        }
    }
    let (_, last) = bench("step --preset mu --batch 4 --profile --json");
    let profile = &last["profile"];
    assert!(profile["kernels"].as_array().unwrap().iter().any(|row| row["kernel"] == "adamw"), "{profile}");
    assert!(profile["host_seconds"].as_f64() < profile["seconds"].as_f64() && last["recording_seconds"].is_null());
    let (_, last) = bench("loss --batch 33 --width 5 --json");
    assert!(last["seconds"]["sigmoid_loss 33x5"].as_f64().unwrap() > 0.0, "{last}");
    let (told, last) = bench("ops --product 5x6x7 --rows 3x8 --attention 2x5x3x4 --no-autotune --json");
    let names = ["matmul f32 5x6x7", "copy 3x8", "layer_norm 3x8", "layer_norm with gradient 3x8", "gelu 3x8"];
    let more =
        ["softmax_cross_entropy 3x8", "adamw 3x8", "attention f32 2x5x3x4", "attention with gradient f32 2x5x3x4"];
    for op in names.into_iter().chain(more) {
        let unit = if op.starts_with('m') || op.starts_with("att") { "GFLOP/s" } else { "GB/s" };
        assert!(last["seconds"][op].as_f64().unwrap() > 0.0 && last["rates"][op][1] == unit, "{op}: {last}");
        assert!(told.contains(op), "{told}");
    }
    assert_eq!((last["seconds"].as_object().unwrap().len(), &last["tiles"]), (9, &json!([])));
    let told = jest([
        "bench",
        "select",
        "--super-batch",
        "64",
        "--sub-batch",
        "16",
        "--chunks",
        "2",
        "--width",
        "8",
        "--json",
    ]);
    let last: serde_json::Value = serde_json::from_str(told.well().out.lines().last().unwrap()).unwrap();
    assert!(last["peak_device_bytes"].as_u64().unwrap() >= 4 * 64 * 8 * 4 && last["driver"].is_string(), "{last}");
}

#[test]
fn bench_numerics_measures_what_the_document_lists() {
    let told = jest(["bench", "numerics"]).well().out;
    let document = include_str!("../../docs/numerics.md");
    let head = |text: &str| text[..text.find("\n## ").unwrap()].to_string();
    assert_eq!(head(document), head(&told), "make docs/numerics.md anew: its last line says how");
    // What the CPU device does; of bf16, what its processor has.
    let names = |text: &str| -> Vec<String> {
        let section = text.split("\n## ").nth(1).unwrap();
        let rows = section.lines().skip_while(|line| !line.starts_with("|---")).skip(1);
        let names = rows.filter_map(|row| row.split('|').nth(1)).map(|name| name.trim().to_string());
        names.filter(|name| !name.contains(" by A")).collect()
    };
    assert_eq!(names(document), names(&told), "make docs/numerics.md anew: its last line says how");
    assert!(names(&told).len() > 80, "{told}");
    for row in told.lines().filter(|line| line.starts_with("| layer_norm: ")) {
        let errors = row.split('|').skip(2).filter_map(|cell| cell.trim().parse::<f64>().ok());
        assert_eq!(errors.filter(|error| *error < 1e-4).count(), 3, "{row}");
    }
}

#[test]
fn devices_lists_the_cpu_last() {
    let told = jest(["devices"]).well().out;
    assert!(told.lines().any(|line| line.starts_with("cpu ") && line.contains("native CPU")), "{told}");
    assert!(told.contains("features: "), "{told}");
}

#[test]
fn a_dry_run_prints_a_plan_that_is_a_configuration() {
    let place = Place::new(THREE_RUNS);
    let told = place.train("out", &["--dry-run"]).well().out;
    assert!(!place.path("out").exists());
    // The plan begins with its first key.
    let plan = &told[told.find("autotune = ").unwrap()..];
    fs::write(place.path("config.toml"), plan).unwrap();
    let again = place.train("out", &["--dry-run"]).well().out;
    assert!(again.ends_with(plan), "{again}");
    place.train("out", &[]).well();
    assert_eq!(place.read("out", "plan.toml").trim(), plan.trim());
}

#[test]
fn every_verb_has_help() {
    let verbs = [
        "train",
        "eval",
        "embed",
        "score",
        "reference train",
        "devices",
        "tokenizer train",
        "inspect",
        "bench step",
        "bench ops",
        "bench loss",
        "bench numerics",
    ];
    for verb in verbs {
        let told = jest(verb.split(' ').chain(["--help"])).well().out;
        assert!(told.contains(&format!("Usage: jest {verb}")), "{told}");
    }
    assert!(jest(["--help"]).well().out.contains("Usage: jest <COMMAND>"));
    assert_eq!(jest([""; 0]).code, Some(2));
}

/// Filled by two processes, half each, and read by a run that computes nothing of its own.
#[test]
fn a_reference_cache_is_made_ahead_and_shared() {
    let place = trained();
    let (reference, cache) = (place.newest("out", "reference"), place.path("shared"));
    let data = format!("pool={}", place.path("pool").display());
    let fill = |task: &str, data: &str| {
        let args = ["reference", "cache", "--device", "cpu", "--num-tasks", "2", "--task-index"];
        let mut args: Vec<std::ffi::OsString> = args.map(Into::into).to_vec();
        args.extend([task.into(), "--data".into(), data.into(), "--checkpoint".into(), reference.clone().into()]);
        args.extend(["--out".into(), cache.clone().into()]);
        jest(args)
    };
    assert!(fill("0", &data).well().out.contains("embeddings of 50 examples"));
    assert!(fill("1", &data).well().out.contains("embeddings of 100 examples"));
    // Again, there is nothing to add.
    fill("1", &data).well();
    fill("2", &data).refused(3, &["--task-index 2 is not below --num-tasks 2"]);
    let files = || {
        let folder = std::fs::read_dir(&cache).unwrap().next().unwrap().unwrap().path();
        let mut names: Vec<_> = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let mut before = files();
    assert_eq!(before.len(), 5, "{before:?}");
    let shared = format!("selection.reference_cache='{}'", cache.display());
    let by = format!("run.jest.reference='{}'", reference.display());
    place.train("sharing", &["--set", &shared, "--set", &by]).well();
    before.push("turn.lock".into());
    assert_eq!(files(), before);
    assert!(!place.path("sharing/cache").exists());
    // Other shards under the names of these would be taken for them.
    common::shards::write(&place.path("other/pool/0.tar"), &common::shards::good(200..250));
    let other = format!("pool={}", place.path("other/pool").display());
    fill("0", &other).refused(4, &["other/pool/0.tar", "share ids", "another name"]);
}

/// A run finds what was computed in its own precision, and nothing else; the place is beside the data.
#[test]
fn a_run_in_bf16_finds_the_cache_made_in_bf16() {
    let place = Place::new(THREE_RUNS);
    place.train("out", &["--steps", "1"]).well();
    let reference = place.newest("out", "reference").display().to_string();
    let (data, cache) = (format!("pool={}", place.path("pool").display()), place.path("reference_cache"));
    let args = ["reference", "cache", "--device", "cpu", "--precision", "bf16", "--checkpoint", &reference];
    let told = jest(args.into_iter().chain(["--data", &data])).well().out;
    assert!(told.contains("reference_cache: embeddings of 100 examples"), "{told}");
    let keys = || -> Vec<PathBuf> { fs::read_dir(&cache).unwrap().map(|entry| entry.unwrap().path()).collect() };
    let parts = |folder: &Path| {
        let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with("part-")).count()
    };
    let [made] = &keys()[..] else { panic!("{:?}", keys()) };
    assert!(fs::read_to_string(made.join("key.json")).unwrap().contains(", bf16"));
    let part = fs::read(made.join("part-000000.safetensors")).unwrap();
    assert!(String::from_utf8_lossy(&part[..part.len().min(400)]).contains("\"F16\""), "rows of half the size");
    let (shared, by) =
        (format!("selection.reference_cache='{}'", cache.display()), format!("run.jest.reference='{reference}'"));
    for (precision, folders) in [("bf16", 1), ("f32", 2)] {
        place.train(precision, &["--set", &shared, "--set", &by, "--precision", precision]).well();
        assert_eq!((keys().len(), parts(made)), (folders, 1), "{precision}");
    }
    let nowhere = jest(args.into_iter().chain(["--data", "synthetic:8"]));
    nowhere.refused(3, &["no folder", "--out FOLDER"]);
}

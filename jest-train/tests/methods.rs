//! Every word of `selection.method` trains, and what is scored alone is scored by the loss that was trained with.

mod common;

use common::{Place, jest};
use jest_data::{CacheKey, EmbeddingCache, ExampleId};
use jest_select::Method;

/// Two references and a learner that selects by both.
const THREE_RUNS: &str = "
[[run]]
name = 'reference'
data.train = 'curated=DATA/curated'
selection.method = 'uniform'
[[run]]
name = 'second'
data.train = 'curated=DATA/curated'
selection.method = 'uniform'
optimizer.lr = 0.01
[[run]]
name = 'jest'
reference = ['reference', 'second']
selection.super_batch = 32
selection.chunks = 4
";

#[test]
fn every_method_trains_and_tells_what_it_picked() {
    let place = Place::new(THREE_RUNS);
    for method in Method::ALL.into_iter().filter(|method| *method != Method::Uniform) {
        let word = format!("run.jest.selection.method={method}");
        let out = format!("out-{method}");
        place.train(&out, &["--steps", "2", "--set", &word]).well();
        let summary = place.timeless_summary(&out);
        let run = &summary["runs"][2];
        assert_eq!((&run["selection"], &run["examples_drawn"]), (&method.to_string().into(), &64.into()));
        let metrics = place.metrics(&out);
        let picked = metrics.lines().filter(|line| line.contains("\"picked\"")).count();
        assert_eq!(picked, 2, "{method}: {metrics}");
        // Tags cost no model anything, cosines not the learner.
        let cost = |kind: &str| run["flops"][kind].as_f64().unwrap();
        assert_eq!(cost("reference") > 0.0, method != Method::Cabs, "{method}");
        assert!((cost("score") > 1e6) == !matches!(method, Method::Cabs | Method::ClipScore), "{method}");
    }
}

/// The factor of a configuration reaches the scores, and a plan that is gone on with has it.
#[test]
fn a_factor_on_the_logit_scale_changes_what_is_picked() {
    let place = Place::new(THREE_RUNS);
    let picked = |out: &str, keys: &[&str]| {
        let keys: Vec<&str> = keys.iter().flat_map(|key| ["--set", key]).collect();
        place.train(out, &[&["--steps", "2"], &keys[..]].concat()).well();
        let metrics = place.metrics(out);
        let of = |line: &str| line.split_once("\"picked\"").map(|(_, told)| told.to_owned());
        metrics.lines().filter_map(of).collect::<Vec<_>>()
    };
    let whole = picked("whole", &[]);
    assert_eq!(whole.len(), 2);
    assert_eq!(picked("one", &["run.jest.selection.logit_scale_factor=1"]), whole);
    assert_ne!(picked("less", &["run.jest.selection.logit_scale_factor=0.1"]), whole);
    place.train("less", &["--steps", "2", "--resume", "latest"]).refused(3, &["logit_scale_factor"]);
}

#[test]
fn a_threshold_that_too_few_reach_is_refused() {
    let place = Place::new(THREE_RUNS);
    let keys = ["run.jest.selection.method=clip_score", "run.jest.selection.threshold=0.9999"];
    let refused = place.train("out", &["--steps", "2", "--set", keys[0], "--set", keys[1]]);
    refused.refused(4, &["of 32 candidates score 0.9999 or more, 8 are needed", "lower the threshold"]);
}

#[test]
fn balancing_without_a_single_tag_is_refused() {
    let place = Place::new(THREE_RUNS);
    let keys = ["run.jest.selection.method=cabs", "run.jest.selection.tags=['conzept']"];
    let refused = place.train("out", &["--steps", "2", "--set", keys[0], "--set", keys[1]]);
    refused.refused(4, &["none of 32 candidates has a tag in `conzept`", "selection.tags"]);
}

#[test]
fn captions_drawn_anew_have_irreducible_losses_too() {
    let place = Place::new(THREE_RUNS);
    let keys =
        ["run.jest.selection.method=rho", "run.jest.data.captions=random", "run.jest.data.json_text_key=captions"];
    place.train("out", &["--steps", "6", "--set", keys[0], "--set", keys[1], "--set", keys[2]]).well();
}

/// What another run computed is charged as if it were one's own, and nothing is computed again.
#[test]
fn a_shared_cache_costs_what_it_took() {
    let place = Place::new(THREE_RUNS);
    let train = |out: &str, method: &str, folder: &str| {
        let cache = format!("run.jest.selection.reference_cache={}", place.path(folder).display());
        let method = format!("run.jest.selection.method={method}");
        let by = "run.jest.reference=reference";
        place.train(out, &["--steps", "2", "--set", &method, "--set", &cache, "--set", by]).well();
        let summary: jest_train::events::Summary = serde_json::from_str(&place.read(out, "summary.json")).unwrap();
        let (run, metrics) = (summary.runs[2].clone(), place.metrics(out));
        (run.flops.reference, run.seconds.reference, metrics)
    };
    let first = train("joint", "joint", "shared");
    // The same rows, which took a million seconds.
    let only = |folder: &str| std::fs::read_dir(place.path(folder)).unwrap().next().unwrap().unwrap().path();
    let (made, dear) = (only("shared"), place.path("dear").join(only("shared").file_name().unwrap()));
    let key: CacheKey = serde_json::from_slice(&std::fs::read(made.join("key.json")).unwrap()).unwrap();
    let cache = EmbeddingCache::open(&made, &key).unwrap();
    let ids: Vec<_> = (0..100u32)
        .map(|i| ExampleId::new("pool", if i < 50 { "0.tar" } else { "1.tar" }, &format!("{i:05}"), 0))
        .collect();
    assert!((cache.len(), cache.seconds(&ids) > 0.0) == (100, true));
    let mut copy = EmbeddingCache::open(&dear, &key).unwrap();
    let rows: Vec<_> = ids.iter().map(|id| cache.get(id).unwrap()).collect();
    let [image, text] = [rows.iter().map(|row| row.0).collect::<Vec<_>>(), rows.iter().map(|row| row.1).collect()];
    copy.add(&ids, &image.concat(), &text.concat(), 1e6).unwrap();
    copy.flush().unwrap();
    let files = || std::fs::read_dir(&dear).unwrap().map(|file| file.unwrap().path()).collect::<Vec<_>>();
    let parts = || files().iter().filter(|file| file.extension().is_some_and(|end| end == "safetensors")).count();
    let rho = train("rho", "rho", "shared");
    assert!(first.1 < 1e5 && rho.2 != first.2);
    for (method, own) in [("joint", first), ("rho", rho)] {
        let (flops, seconds, metrics) = train(&format!("{method}-again"), method, "dear");
        assert_eq!((flops, parts()), (own.0, 1), "{method}");
        assert!((1e6..1.1e6).contains(&seconds), "{method}: {seconds}");
        assert_eq!(metrics, own.2, "{method}");
    }
}

/// A pass over the data caches one caption of each picture; those that are drawn later cost too, and are kept.
#[test]
fn captions_drawn_anew_are_charged_and_kept() {
    let place = Place::new(THREE_RUNS);
    let train = |out: &str, captions: &str| {
        let captions = format!("run.jest.data.captions={captions}");
        let cache = format!("run.jest.selection.reference_cache={}", place.path("shared").display());
        let keys = ["--set", "run.jest.data.json_text_key=captions", "--set", &captions, "--set", &cache];
        place.train(out, &[&["--steps", "6"], &keys[..]].concat()).well();
        place.timeless_summary(out)["runs"][2]["flops"]["reference"].as_f64().unwrap()
    };
    let first = train("first", "first");
    let random = train("random", "random");
    assert!(random > 1.05 * first, "{first} {random}");
    assert_eq!(train("again", "random"), first, "what was embedded on the way lies in the cache");
}

#[test]
fn pairs_are_scored_by_the_loss_of_the_learner() {
    let place = Place::new(THREE_RUNS);
    place.train("out", &["--steps", "2", "--objective", "softmax"]).well();
    let (learner, reference) = (place.newest("out", "jest"), place.newest("out", "reference"));
    let losses = |more: &[&str]| -> Vec<f32> {
        let file = place.path("scores.csv");
        let data = format!("pool={}", place.path("pool").display());
        let mut args = vec!["score".to_owned(), "--device".into(), "cpu".into(), "--data".into(), data];
        for (flag, value) in [("--learner", &learner), ("--reference", &reference), ("--out", &file)] {
            args.extend([flag.to_owned(), value.display().to_string()]);
        }
        args.extend(more.iter().map(|text| (*text).to_owned()));
        jest(args).well();
        let text = std::fs::read_to_string(&file).unwrap();
        text.lines().skip(1).map(|line| line.split(',').nth(3).unwrap().parse().unwrap()).collect()
    };
    let (own, sigmoid) = (losses(&[]), losses(&["--objective", "sigmoid"]));
    assert_eq!((own.len(), sigmoid.len()), (100, 100));
    // -t cos is on either side of 0; softplus is above it, and a loss of the bias alone is never near 0 here.
    assert!(own.iter().any(|loss| *loss < 0.0) && sigmoid.iter().all(|loss| *loss > 0.0), "{own:?}");
    for (softmax, sigmoid) in own.iter().zip(&sigmoid) {
        // logits are t cos + bias, the bias still that of the start; softplus(-logits) is about -logits there.
        assert!((softmax + 10.0 - sigmoid).abs() < 0.1 + (softmax - 10.0).exp(), "{softmax} {sigmoid}");
    }
}

/// Killed after a checkpoint and resumed, the audit is that of a run that was not, and what it tells can be told.
#[test]
fn choices_are_written_down_and_explained() {
    let place = Place::new(THREE_RUNS);
    let keys = ["--set", "run.jest.selection.audit=true", "--set", "checkpoint.every=2"];
    place.train("out", &keys).well();
    let files = || -> Vec<(String, Vec<u8>)> {
        let folder = std::fs::read_dir(place.path("out/audit/jest")).unwrap();
        let mut files: Vec<_> = folder.map(|file| file.unwrap().path()).collect();
        files.sort();
        files.iter().map(|file| (file.display().to_string(), std::fs::read(file).unwrap())).collect()
    };
    let whole = files();
    assert_eq!(whole.len(), 3);
    for step in ["step-00000005", "step-00000006"] {
        std::fs::remove_dir_all(place.path("out/checkpoints/jest").join(step)).unwrap_or_default();
    }
    place.train("out", &[&keys[..], &["--resume", "latest"]].concat()).well();
    assert!(files() == whole);
    let page = place.path("choices.html");
    let told = jest(["explain", place.path("out").to_str().unwrap(), "--out", page.to_str().unwrap()]).well().out;
    for part in [
        "jest: 48 choices in steps 1 to 6",
        "share by source",
        "pool",
        "share of duplicates",
        "repeats:",
        "most learnable",
    ] {
        assert!(told.contains(part), "{part} is not in:\n{told}");
    }
    // Eight at either end of each quarter, in one file.
    let page = std::fs::read_to_string(page).unwrap();
    assert_eq!(page.matches("data:image/png;base64,").count(), 4 * 2 * 8);
    assert!(page.contains("jest, steps 1 to 2: most learnable") && page.contains("steps 6 to 6: least learnable"));
    assert!(page.contains("a red cat number") && !page.contains("http") && !page.contains("<script"));
    assert!(!told.contains("reference:"), "{told}");
    place.train("silent", &["--steps", "1"]).well();
    jest(["explain", place.path("silent").to_str().unwrap()]).refused(8, &["has no audit", "selection.audit = true"]);
}

/// Each caption of a picture is an example of its own; fields and pictures are the sample's.
#[test]
fn captions_drawn_anew_are_explained() {
    let place = Place::new(THREE_RUNS);
    let keys =
        ["selection.audit=true", "data.captions=random", "data.json_text_key=captions", "data.where=['concept=cat']"];
    let keys: Vec<String> = keys.iter().map(|key| format!("run.jest.{key}")).collect();
    let mut args = vec!["--steps", "2", "--set", "run.jest.selection.super_batch=16"];
    keys.iter().for_each(|key| args.extend(["--set", key]));
    place.train("out", &args).well();
    let (out, page) = (place.path("out").display().to_string(), place.path("choices.html"));
    let told = jest(["explain", &out, "--fields", "concept", "--out", page.to_str().unwrap()]).well().out;
    // Of the samples that the run trains on, each of its steps takes eight.
    let share = told.lines().find(|line| line.trim_start().starts_with("cat ")).unwrap();
    assert_eq!(share.split_whitespace().collect::<Vec<_>>()[1..3], ["100.00", "%"], "{told}");
    assert!(!told.contains("(none)"), "{told}");
    let captions: Vec<&str> = told
        .lines()
        .filter_map(|line| line.split_once(" times  ")?.1.split_once("  "))
        .map(|(_, caption)| caption)
        .collect();
    let plain = captions.iter().filter(|caption| **caption == "a cat").count();
    let numbered = captions.iter().filter(|caption| caption.contains(" cat number ")).count();
    assert!(captions.len() == 16 && plain + numbered == 16 && plain > 0 && numbered > 0, "{told}");
    let page = std::fs::read_to_string(page).unwrap();
    assert_eq!(page.matches("data:image/png;base64,").count(), 2 * 2 * 8);
}

#[test]
fn a_reference_is_trained_on_everything() {
    let place = Place::new("");
    let reference = |more: &[&str]| {
        let (config, out) = (place.path("config.toml"), place.path("out"));
        let args = ["reference", "train", "--config", config.to_str().unwrap(), "--out", out.to_str().unwrap()];
        jest(args.into_iter().chain(more.iter().copied()))
    };
    reference(&["--steps", "2", "--local-loss"]).well();
    let summary: jest_train::events::Summary = serde_json::from_str(&place.read("out", "summary.json")).unwrap();
    let runs: Vec<_> = summary.runs.iter().map(|run| (run.name.as_str(), run.selection.to_string())).collect();
    assert_eq!(runs, [("reference", "uniform".to_string())]);
    assert_eq!(summary.runs[0].examples_drawn, 16);
    place.newest("out", "reference");
    place.configure("", &THREE_RUNS.replace("super_batch = 32", "method = 'joint'\nselection.super_batch = 32"));
    reference(&[]).refused(3, &["selection.method in run \"jest\"", "jest reference train", "jest train"]);
}

/// By two processes, one of which is started again: a file a shard, and together the rows of one file.
#[test]
fn scores_of_a_data_set_are_shared_work() {
    let place = Place::new(THREE_RUNS);
    place.train("out", &["--steps", "2"]).well();
    let models = ["jest", "reference"].map(|run| place.newest("out", run).display().to_string());
    let data = format!("pool={}", place.path("pool").display());
    let score = |out: &str, learner: &str, more: &[&str]| {
        let out = place.path(out).display().to_string();
        let mut args = vec!["score", "--device", "cpu", "--data", &data, "--out", &out, "--format", "csv"];
        args.extend(["--learner", learner, "--reference", &models[1]]);
        args.extend(more);
        jest(args)
    };
    score("all.csv", &models[0], &[]).well();
    let half = |k| ["--num-tasks", "2", "--task-index", k];
    assert!(score("scores", &models[0], &half("0")).well().out.contains("scores of 1 shards, 0 were there"));
    assert!(score("scores", &models[0], &half("1")).well().out.contains("scores of 1 shards, 0 were there"));
    assert!(score("scores", &models[0], &[]).well().out.contains("scores of 0 shards, 2 were there"));
    let read = |name: &str| std::fs::read_to_string(place.path(name)).unwrap();
    let parts = ["000000", "000001"].map(|name| read(&format!("scores/{name}.csv")));
    let rows: Vec<&str> = parts.iter().flat_map(|part| part.lines().skip(1)).collect();
    let whole = read("all.csv");
    assert_eq!(rows.len(), 100);
    for (row, want) in rows.iter().zip(whole.lines().skip(1)) {
        let [row, want] = [row, want].map(|line| line.split(',').collect::<Vec<_>>());
        assert_eq!(row[..3], want[..3]);
        // Products of other shapes may round otherwise.
        let [loss, other] = [row[3], want[3]].map(|loss| loss.parse::<f32>().unwrap());
        assert!((loss - other).abs() < 1e-4, "{loss} and {other}");
    }
    score("scores", &models[1], &[]).refused(8, &["scores.json", "other models"]);
    score("scores", &models[0], &["--objective", "softmax"]).refused(8, &["scores.json", "another loss"]);
    // Another file of the same name, and one of two shards alone.
    common::shards::write(&place.path("other/pool/0.tar"), &common::shards::good(200..250));
    let path = |name: &str| place.path(name).display().to_string();
    for (data, says) in [
        (format!("pool={}", path("other/pool")), "shard 0 was `pool/0.tar "),
        (format!("pool={}/0.tar", path("pool")), "now it is none"),
    ] {
        score("scores", &models[0], &["--data", &data]).refused(8, &["scores.json", "of other data", says]);
    }
    // In another order they are the same; what was added before and between them gets the next files.
    let again = format!("pool={}/{{1,0}}.tar", path("pool"));
    assert!(score("scores", &models[0], &["--data", &again]).well().out.contains("scores of 0 shards, 2 were there"));
    common::shards::write(&place.path("pool/00.tar"), &common::shards::good(100..110));
    let grown = format!("{}::{data}", path("curated"));
    assert!(score("scores", &models[0], &["--data", &grown]).well().out.contains("scores of 2 shards, 2 were there"));
    assert!(["000000", "000001"].map(|name| read(&format!("scores/{name}.csv"))) == parts);
    for (name, source, rows) in [("000002", "curated", 24), ("000003", "pool", 10)] {
        let file = read(&format!("scores/{name}.csv"));
        assert_eq!(file.lines().skip(1).filter(|row| row.split(',').nth(2) == Some(source)).count(), rows, "{name}");
    }
    let now_old = score("scores", &models[0], &[]);
    now_old.refused(8, &["of other data", "was `curated/0.tar ", "now it is none"]);
    score("scores", &models[0], &half("2")).refused(3, &["--task-index 2"]);
}

//! `jest reproduce`: a study from its configuration to its figure, stopped by its budget and gone on with.
#![expect(clippy::unwrap_used, reason = "helpers fail as tests do")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use jest_train::studies::{Record, STUDIES, png, svg};

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn jest(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_jest")).args(args).current_dir(workspace()).output().unwrap()
}

#[test]
fn a_study_stops_at_its_budget_goes_on_and_is_drawn() {
    let place = tempfile::tempdir().unwrap();
    let out = place.path().join("studies").display().to_string();
    let configs = place.path().join("configs");
    std::fs::create_dir(&configs).unwrap();
    let base = std::fs::read_to_string(workspace().join("configs/reproduce/base.toml")).unwrap();
    // Smaller than any study, so that the test is quick; the shape is the same.
    let base = base.replace("batch_size = 128", "batch_size = 16").replace("depth = 2", "depth = 1");
    std::fs::write(configs.join("base.toml"), base).unwrap();
    let run = |name: &str, more: &str| format!("[[run]]\nname = \"{name}\"\n{more}\n");
    let pool = "selection.method = \"uniform\"";
    let curated = format!("{pool}\ndata.train = \"curated=runs/data/quickstart/curated\"");
    std::fs::write(configs.join("references.toml"), run("reference", &curated)).unwrap();
    let reference = "reference = \"runs/reproduce/references/seed-0/checkpoints/reference\"\nselection.chunks = 8";
    let runs = [
        run("uniform", pool),
        run("joint_learnability-0.5", &format!("{reference}\nselection.filter_ratio = 0.5")),
        run(
            "joint_easy-0.5",
            &format!("{reference}\nselection.score = \"easy_reference\"\nselection.filter_ratio = 0.5"),
        ),
    ];
    std::fs::write(configs.join("fig3.toml"), runs.concat()).unwrap();
    let configs = configs.display().to_string();
    let fig3 = ["reproduce", "fig3", "--quick", "--device", "cpu", "--out", &out, "--configs", &configs];

    let stopped = jest(&[&fig3[..], &["--budget", "0s", "--jobs", "2"]].concat());
    assert_eq!(stopped.status.code(), Some(75), "{}", String::from_utf8_lossy(&stopped.stderr));

    let done = jest(&fig3);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let folder = place.path().join("studies-quick/records");
    let record = Record::read(&folder.join("fig3.json")).unwrap();
    let names: Vec<&str> = record.runs.iter().map(|run| run.run.name.as_str()).collect();
    assert_eq!(names, ["uniform", "joint_learnability-0.5", "joint_easy-0.5"]);
    assert!(record.runs.iter().all(|run| run.run.steps == 20 && run.target().is_finite() && run.flops() > 0.0));
    assert_eq!((record.precision.as_deref(), record.commit.as_deref() == Some("")), (Some("bf16"), false));
    let drawn = std::fs::read_to_string(folder.join("fig3.svg")).unwrap();
    assert!(drawn.contains("filter ratio f"));
    assert!(std::fs::read(folder.join("fig3.png")).unwrap().starts_with(b"\x89PNG"));

    // What has ended is not trained again, also where its plan is from a time that did not know every key, and the record comes
    // out the same.
    let plan = place.path().join("studies-quick/fig3/seed-0/plan.toml");
    let (before, key) = (std::fs::read_to_string(&plan).unwrap(), "max_skipped_share = 0.5\n");
    assert!(before.contains(key));
    std::fs::write(&plan, before.replace(key, "")).unwrap();
    let again = jest(&fig3);
    assert!(again.status.success() && !String::from_utf8_lossy(&again.stdout).contains("runs in"));
    assert_eq!(Record::read(&folder.join("fig3.json")).unwrap(), record);

    draws_figure_2_once(&out, &configs, &folder);
}

/// Figure 2 draws from what these runs learned, of the sample's pools that are large enough; clothes alone are not.
fn draws_figure_2_once(out: &str, configs: &str, records: &Path) {
    let args = ["reproduce", "fig2", "--quick", "--device", "cpu", "--out", out, "--configs", configs];
    let record = records.join("fig2.json");
    let sampled = jest(&args);
    assert!(sampled.status.success(), "{}", String::from_utf8_lossy(&sampled.stderr));
    assert_eq!(Record::read(&record).unwrap().panels.len(), 8);
    // What is drawn of the same learners is not drawn again; without its record it is, while the budget lasts.
    let again = jest(&args);
    assert!(String::from_utf8_lossy(&again.stdout).contains("is of these learners, and is kept"));
    std::fs::remove_file(&record).unwrap();
    let stopped = jest(&[&args[..], &["--budget", "0s"]].concat());
    assert_eq!(stopped.status.code(), Some(75), "{}", String::from_utf8_lossy(&stopped.stderr));
    assert!(!record.exists());
}

/// A part of a study's configuration: its runs as they are, but of three steps, on small batches, evaluated on one task.
fn small(text: &str) -> String {
    let line = |line: &str| match line.split_once(" = ").map_or(line, |(key, _)| key) {
        "steps" => "steps = 3\n".to_string(),
        "reference_cache" => "cache_reference = false\n".to_string(),
        "train" => format!("{line}\nshuffle_buffer = 64\nworkers = 1\n"),
        _ if line.contains("/eval/") && !line.contains("fashion_zs") => String::new(),
        _ => format!("{line}\n"),
    };
    let text = text.replace("batch_size = 128", "batch_size = 16").replace("depth = 2", "depth = 1");
    text.lines().map(line).collect()
}

#[test]
fn every_study_is_trained_recorded_and_drawn() {
    let place = tempfile::tempdir().unwrap();
    let (out, configs) = (place.path().join("studies").display().to_string(), place.path().join("configs"));
    std::fs::create_dir(&configs).unwrap();
    for file in std::fs::read_dir(workspace().join("configs/reproduce")).unwrap() {
        let file = file.unwrap();
        std::fs::write(configs.join(file.file_name()), small(&std::fs::read_to_string(file.path()).unwrap())).unwrap();
    }
    let configs = configs.display().to_string();
    let args =
        ["reproduce", "all", "--quick", "--device", "cpu", "--threads", "2", "--out", &out, "--configs", &configs];
    let done = jest(&args);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let folder = place.path().join("studies-quick/records");
    let picks = Record::read(&folder.join("picks.json")).unwrap();
    for run in &picks.runs {
        let data: f64 = run.noise.values().map(|share| share.data).sum();
        let quarters = [0, 1, 2, 3].map(|at| run.noise.values().map(|share| share.quarters[at]).sum::<f64>().round());
        assert!((data - 1.0).abs() < 1e-6, "{:?}", run.noise);
        // Of three steps the last quarter has none.
        assert_eq!(quarters, [1.0, 1.0, 1.0, 0.0], "{:?}", run.noise);
    }
    for study in STUDIES {
        let path = folder.join(format!("{}.json", study.name));
        let record = Record::read(&path).unwrap();
        assert!(!record.panels.is_empty() && record.runs.iter().all(|run| run.run.steps == 3), "{}", study.name);
        let drawn = std::fs::read_to_string(path.with_extension("svg")).unwrap();
        for panel in &record.panels {
            let points: Vec<f64> =
                panel.series.iter().flat_map(|series| &series.points).map(|point| point.mean).collect();
            assert!(
                !points.is_empty() && points.iter().all(|mean| mean.is_finite()),
                "{}: {}",
                study.name,
                panel.title
            );
            assert!(
                drawn.contains(panel.title.split(&['&', '<', '>'][..]).next().unwrap()),
                "{}: {}",
                study.name,
                panel.title
            );
        }
        assert!(std::fs::read(path.with_extension("png")).unwrap().starts_with(b"\x89PNG"), "{}", study.name);
    }
}

#[test]
fn every_study_has_a_plan() {
    for study in STUDIES.iter().filter(|study| study.trains) {
        let read = |name: &str| std::fs::read_to_string(workspace().join("configs/reproduce").join(name)).unwrap();
        let text = format!("{}\n{}", read("base.toml"), read(&format!("{}.toml", study.name)));
        let place = tempfile::tempdir().unwrap();
        let out = place.path().display().to_string();
        let text = text.replace("runs/data/quickstart", "assets/sample").replace("runs/reproduce", &out);
        // References are trained by another study.
        for folder in text.lines().filter_map(|line| line.strip_prefix("reference = ")) {
            std::fs::create_dir_all(folder.trim_matches('"')).unwrap();
        }
        let path = place.path().join("x.toml");
        std::fs::write(&path, text).unwrap();
        let plan = jest(&["train", "--config", path.to_str().unwrap(), "--dry-run"]);
        let runs = String::from_utf8_lossy(&plan.stdout).matches("[[run]]").count();
        assert!(runs > 1 || !plan.status.success(), "{}: {runs} runs", study.name);
        assert!(plan.status.success(), "{}: {}", study.name, String::from_utf8_lossy(&plan.stderr));
    }
}

#[test]
fn names_that_are_none_are_answered_with_those_there_are() {
    let unknown = jest(&["reproduce", "fig11"]);
    assert_eq!(unknown.status.code(), Some(2));
    let text = String::from_utf8_lossy(&unknown.stderr).into_owned();
    assert!(text.contains("fig11") && text.contains("table5"), "{text}");
    let none = jest(&["reproduce", "fig1", "--draw", "--records", "nowhere"]);
    assert_eq!(none.status.code(), Some(7), "{}", String::from_utf8_lossy(&none.stderr));
}

/// What is committed is what its own runs say; every study has its record, figures and page.
#[test]
fn committed_figures_are_those_of_their_records() {
    let folder = workspace().join("docs/reproduction");
    let report = std::fs::read_to_string(folder.join("../REPRODUCTION.md")).unwrap();
    for study in STUDIES {
        let path = folder.join(format!("{}.json", study.name));
        let page = std::fs::read_to_string(path.with_extension("md")).unwrap();
        let name = study.name;
        assert!(page.starts_with(&format!("# {name}: ")) && page.contains(&format!("![{name}]({name}.svg)")), "{name}");
        assert!(report.contains(&format!("(reproduction/{name}.md)")), "{name}");
        let record = Record::read(&path).unwrap();
        let again = study.conclude(record.clone());
        assert_eq!(again, record, "{}: run `jest reproduce {} --draw`", study.name, study.name);
        assert_eq!(svg(&again.panels).unwrap(), std::fs::read_to_string(path.with_extension("svg")).unwrap());
        assert_eq!(png(&again.panels).unwrap(), std::fs::read(path.with_extension("png")).unwrap());
    }
}

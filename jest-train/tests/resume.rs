//! Killed anywhere and resumed, a run gives what it gives uninterrupted.

#![expect(clippy::unwrap_used, reason = "a test stops at the first failure")]
#![cfg(unix)]

mod common;

use std::fs;

use common::{Place, Ran, THREE_RUNS, damage};
use jest_train::events::{RunSummary, Summary};

/// Numbers that differ from seed to seed: a splitmix64.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed ^ (mixed >> 27)) % n
    }
}

/// When a process is killed.
#[derive(Debug)]
enum Moment {
    /// Once the record has so many lines.
    Lines(usize),
    /// While a checkpoint of this run is being written.
    Saving(&'static str),
    /// Once it has been looked at so often.
    Looks(u64),
}

impl Moment {
    fn any(random: &mut Random, lines: usize) -> Self {
        match random.below(3) {
            0 => Self::Lines(1 + random.below(lines as u64) as usize),
            1 => Self::Saving(["reference", "jest", "uniform"][random.below(3) as usize]),
            _ => Self::Looks(random.below(200)),
        }
    }

    fn come(&self, place: &Place, out: &str, looks: u64) -> bool {
        match self {
            Self::Lines(lines) => place.metrics(out).lines().count() >= *lines,
            Self::Saving(run) => place.checkpoints(out, run).iter().any(|name| name.starts_with(".unfinished")),
            Self::Looks(limit) => looks >= *limit,
        }
    }
}

/// Kills the plan at each moment and goes on after it, then lets it end. How often it was killed.
fn interrupt(place: &Place, out: &str, moments: impl IntoIterator<Item = Moment>) -> usize {
    let resume = || if place.path(out).join("plan.toml").exists() { &["--resume", "latest"][..] } else { &[] };
    let mut killed = 0;
    for (moment, threads) in moments.into_iter().zip(["1", "2"].iter().cycle()) {
        let mut running = place.start(out, &[&["--threads", threads], resume()].concat());
        let mut looks = 0;
        running.wait_until(|| {
            looks += 1;
            moment.come(place, out, looks)
        });
        killed += usize::from(running.kill());
    }
    place.train(out, resume()).well();
    killed
}

fn assert_same(place: &Place, out: &str, whole: &str) {
    let (got, want) = (place.metrics(out), place.metrics(whole));
    for (got, want) in got.lines().zip(want.lines()) {
        assert_eq!(got, want, "{out}");
    }
    assert_eq!(got, want, "{out}");
    assert_eq!(place.timeless_summary(out), place.timeless_summary(whole), "{out}");
    for run in ["reference", "jest", "uniform"] {
        assert_eq!(place.checkpoints(out, run), place.checkpoints(whole, run), "{out} {run}");
        assert!(place.weights(out, run) == place.weights(whole, run), "{out} {run}: weights differ");
    }
}

/// Three runs, uninterrupted in `whole`.
fn uninterrupted() -> Place {
    let place = Place::new(THREE_RUNS);
    place.train("whole", &[]).well();
    assert_eq!(place.timeless_summary("whole")["runs"].as_array().unwrap().len(), 3);
    place
}

#[test]
fn killed_at_every_line_of_the_record() {
    let place = uninterrupted();
    let lines = place.metrics("whole").lines().count();
    assert_eq!(lines, 3 * (1 + 6 + 6 + 1));
    let killed = interrupt(&place, "out", (1..=lines).map(Moment::Lines));
    assert!(killed > lines / 2, "killed {killed} times");
    assert_same(&place, "out", "whole");
}

#[test]
fn killed_at_random_and_while_saving() {
    let place = uninterrupted();
    let lines = place.metrics("whole").lines().count();
    let saving = ["reference", "jest", "uniform"].map(Moment::Saving);
    assert!(interrupt(&place, "saving", saving) > 0);
    assert_same(&place, "saving", "whole");
    for seed in 0..3 {
        let (out, mut random) = (format!("random-{seed}"), Random(seed));
        let moments: Vec<Moment> = (0..8).map(|_| Moment::any(&mut random, lines)).collect();
        interrupt(&place, &out, moments);
        assert_same(&place, &out, "whole");
    }
}

/// Flexi-JEST drops other patches in every step, and goes on with those it would have dropped.
#[test]
fn cheap_views_are_resumed() {
    let flexi = THREE_RUNS.replace(
        "selection.chunks = 4",
        "selection.chunks = 4\nselection.approximation = { patch_size = 4, keep_tokens = 5 }\nselection.cheap_share = 0.4\nselection.cheap_share_end = 0.1",
    );
    let place = Place::new(&flexi);
    place.train("whole", &[]).well();
    let lines = place.metrics("whole").lines().count();
    let killed = interrupt(&place, "out", (lines / 3..2 * lines / 3).step_by(2).map(Moment::Lines));
    assert!(killed > 0);
    assert_same(&place, "out", "whole");
}

/// A reference that began with another run's parameters costs what both took, also where it was killed on the way, and no run is
/// charged twice.
#[test]
fn first_parameters_are_charged_with_the_reference() {
    let selects = "selection.super_batch = 32\nselection.chunks = 4\n";
    let runs = THREE_RUNS.replacen("[[run]]", "[[run]]\nname = 'base'\n[[run]]\ninit = 'base'", 1)
        + &format!("reference = ['reference', 'base']\n{selects}")
        + &format!("[[run]]\nname = 'again'\ninit = 'base'\nreference = 'reference'\n{selects}");
    let place = Place::new(&runs);
    place.train("whole", &[]).well();
    charged_once(&place, "whole");
    let mut running = place.start("out", &[]);
    running.wait_until(|| place.checkpoints("out", "reference").len() > 1);
    assert!(running.kill());
    place.train("out", &["--resume", "latest"]).well();
    charged_once(&place, "out");
}

/// Of five runs, the last but one has two references, of which one began with the other.
fn charged_once(place: &Place, out: &str) {
    let summary: Summary = serde_json::from_str(&place.read(out, "summary.json")).unwrap();
    let [base, reference, learner, by_both, again] = &summary.runs[..] else { panic!("five runs") };
    let own = |run: &RunSummary| run.costs().pop().unwrap();
    assert!(base.init.is_empty() && learner.init.is_empty() && by_both.init.is_empty());
    for run in [reference, again] {
        let [init] = &run.init[..] else { panic!("{:?}", run.init) };
        assert!(init.is_of(&own(base)), "{init:?} {base:?}");
    }
    // Both references embed the same pool at the same cost.
    let pool = by_both.flops.reference - learner.flops.reference;
    let near = |a: f64, b: f64| assert!(pool > 0.0 && (a - b).abs() <= 1e-9 * b, "{a} {b}");
    near(learner.flops.reference, own(base).flops + own(reference).flops + pool);
    near(again.flops.reference, own(reference).flops + pool);
    assert!(learner.seconds.reference > own(base).seconds + own(reference).seconds);
}

/// Updates that overflow are skipped, and the scale falls after them, also where they came just before the end.
#[test]
fn the_scale_of_the_loss_is_resumed() {
    let place = Place::new("");
    place.configure("precision = 'f16'", THREE_RUNS);
    let config = fs::read_to_string(place.path("config.toml")).unwrap();
    fs::write(place.path("config.toml"), config.replace("steps = 6", "steps = 16")).unwrap();
    place.train("whole", &[]).well();
    let metrics = place.metrics("whole");
    for seen in ["\"loss_scale\":65536.0,", "\"loss_scale\":32768.0,", "\"skipped_updates\":1"] {
        assert!(metrics.contains(seen), "{seen}: {metrics}");
    }
    let killed = interrupt(&place, "out", (2..metrics.lines().count()).step_by(4).map(Moment::Lines));
    assert!(killed > 0);
    assert_same(&place, "out", "whole");
}

/// Tiles of products that were chosen stand in the checkpoint, and a run that is gone on with takes them from there; a software
/// adapter passes them over with a note.
#[test]
fn tiles_are_resumed_but_on_a_software_adapter() {
    let info = jest_kernels::testing::lesser_gpu(Default::default()).info();
    let class = format!("ab f32 z1 m64 n64 k64 fours rows on {}, {}: wide", info.name, info.driver);
    let place = Place::new("");
    let (keys, on) = (format!("tiles = [\"{class}\"]"), ["--device", &info.name]);
    place.configure(&keys, "");
    let note = format!("`tiles` is passed over: {} is emulated", info.name);
    let whole = place.train("whole", &on).well();
    assert_eq!(whole.err.contains(&note), info.software, "{}", whole.err);
    let mut running = place.start("out", &on);
    assert!(running.wait_until(|| place.checkpoints("out", "train").len() > 1));
    assert!(running.kill());
    place.configure("", "");
    place.train("out", &[&on[..], &["--resume", "latest"]].concat()).well();
    assert_eq!(place.metrics("out"), place.metrics("whole"));
    assert!(place.weights("out", "train") == place.weights("whole", "train"));
    let plan = place.read("out", "plan.toml");
    assert_eq!(plan.contains(&class), !info.software, "{plan}");
}

#[test]
fn skipped_examples_are_counted_once() {
    let place = Place::new("");
    let bad = common::shards::members([("x.png", &b"no picture"[..]), ("x.txt", b"a caption")]);
    let shard = [common::shards::examples(0..30), bad].concat();
    common::shards::write(&place.path("pool/1.tar"), &common::shards::end(shard));
    place.train("whole", &["--steps", "20"]).well().tells(&["unknown_format", "`x`"]);
    let mut running = place.start("out", &["--steps", "20"]);
    running.wait_until(|| Moment::Lines(24).come(&place, "out", 0));
    running.kill();
    place.train("out", &["--steps", "20", "--resume", "latest"]).well();
    assert_eq!(place.metrics("out"), place.metrics("whole"));
}

#[test]
fn a_signal_saves_and_says_so() {
    let long = ["--steps", "150", "--set", "checkpoint.every=0"];
    let place = Place::new(THREE_RUNS);
    place.train("whole", &long).well();
    let mut running = place.start("out", &long);
    running.wait_until(|| place.metrics("out").contains("run_started"));
    let stopped = running.terminate().refused(75, &["stopped by a signal at step", "--resume latest"]);
    let saved = stopped.err.lines().last().unwrap().split("saved ").nth(1).unwrap().split(',').next().unwrap();
    assert!(fs::exists(std::path::Path::new(saved).join("state.json")).unwrap(), "{saved}");
    place.train("out", &[&long[..], &["--resume", "latest"]].concat()).well();

    // The signal left one checkpoint more; all else is as it would have been.
    let without = |text: String| {
        text.lines().filter(|line| !line.contains("\"checkpointed\"")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(without(place.metrics("out")), without(place.metrics("whole")));
    assert!(place.weights("out", "uniform") == place.weights("whole", "uniform"));
    assert_eq!(place.timeless_summary("out"), place.timeless_summary("whole"));
}

#[test]
fn a_damaged_checkpoint_is_passed_over() {
    let place = uninterrupted();
    let resume = |place: &Place| -> Ran { place.train("whole", &["--resume", "latest"]).well() };
    let (metrics, weights) = (place.metrics("whole"), place.weights("whole", "uniform"));
    for (damaged, tells) in [
        (&["step-00000006/model.safetensors"][..], "an older one is taken"),
        (&["step-00000006/optimizer.safetensors", "step-00000005/state.json"], "the run begins anew"),
    ] {
        for file in damaged {
            damage(&place.path("whole/checkpoints/uniform").join(file));
        }
        resume(&place).tells(&[damaged[0], "missing or damaged", tells]);
        assert_eq!(place.metrics("whole"), metrics);
        assert!(place.weights("whole", "uniform") == weights);
        assert_eq!(place.checkpoints("whole", "uniform"), ["step-00000005", "step-00000006"]);
    }
    // Without its reference, the learner begins anew too.
    for step in [5, 6] {
        damage(&place.path("whole/checkpoints/reference").join(format!("step-{step:08}/model.safetensors")));
    }
    resume(&place).tells(&["reference/step-00000006/model.safetensors"]);
    assert_eq!(place.metrics("whole"), metrics);
    assert!(place.weights("whole", "uniform") == weights);
    // Nothing is left to do.
    resume(&place);
    assert_eq!(place.metrics("whole"), metrics);
}

#[test]
fn another_plan_or_none_is_refused() {
    let place = Place::new("");
    let resume = ["--resume", "latest"];
    place.train("out", &resume).refused(8, &["nothing to resume", "start without --resume"]);
    place.train("out", &[]).well();
    let metrics = place.metrics("out");
    let other = place.train("out", &["--resume", "latest", "--lr", "0.002"]);
    other.refused(3, &["was `lr = 0.001`, is `lr = 0.002`", "plan.toml", "without --resume"]);
    place.train("out", &["--resume", "elsewhere"]).refused(3, &["elsewhere", "add --out"]);
    place.train("out", &["--resume", "latest", "--threads", "1"]).well();
    assert_eq!(place.metrics("out"), metrics);
    // Started again without --resume, it keeps what there was.
    place.train("out", &[]).well();
    assert_eq!(place.metrics("out.1"), metrics);
    assert_eq!(place.metrics("out"), metrics);
}

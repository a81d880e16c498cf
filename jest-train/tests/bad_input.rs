//! Bad input ends with a line that says what is wrong and what to do, or is skipped, counted and named.
#![expect(clippy::unwrap_used, reason = "a test stops at the first failure")]

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;

use common::{Place, THREE_RUNS, damage, jest, sample, shards};

/// No step was made.
fn untrained(place: &Place, out: &str) {
    assert!(!place.metrics(out).contains("\"event\":\"step\""), "{}", place.metrics(out));
}

/// One run on these two shards with these settings.
fn on_shards(first: Option<Vec<u8>>, second: Option<Vec<u8>>) -> Place {
    let place = Place::new("");
    fs::remove_dir_all(place.path("pool")).unwrap();
    for (name, bytes) in [("pool/0.tar", first), ("pool/1.tar", second)] {
        if let Some(bytes) = bytes {
            shards::write(&place.path(name), &bytes);
        }
    }
    let data = "data.max_skipped_share = 0.5\ndata.max_member_mb = 1\n";
    place.configure(data, "");
    let config = fs::read_to_string(place.path("config.toml")).unwrap();
    fs::write(place.path("config.toml"), config.replace("/pool'", "/pool/{0..1}.tar'")).unwrap();
    place
}

#[test]
fn a_missing_shard_is_counted_and_none_at_all_refused() {
    let place = on_shards(Some(shards::good(0..40)), None);
    place.train("out", &[]).well().tells(&["shard_missing", "1.tar"]);
    assert!(place.metrics("out").contains("\"shard_missing\":"));
    let place = on_shards(None, None);
    place.train("out", &[]).refused(4, &["no usable example in 2 shards", "none is a file", "0.tar", "need shards of"]);
    untrained(&place, "out");
}

#[test]
fn a_missing_shard_of_a_later_run_is_found_before_the_first() {
    let place = Place::new(&format!("{THREE_RUNS}\ndata.train = 'DATA/none/{{0..9}}.tar'"));
    place.train("out", &[]).refused(4, &["no usable example in 10 shards", "none/0.tar"]);
    untrained(&place, "out");
}

#[test]
fn a_truncated_shard_gives_what_comes_before_the_cut() {
    let whole = shards::good(40..60);
    let place = on_shards(Some(shards::good(0..40)), Some(whole[..whole.len() - 2000].to_vec()));
    place.train("out", &[]).well().tells(&["tar_truncated", "1.tar"]);
    let place = on_shards(Some(shards::good(0..40)), Some(b"<html>not found</html>".repeat(100)));
    place.train("out", &[]).well().tells(&["tar_damaged", "1.tar"]);
}

#[test]
fn bad_examples_are_skipped_counted_and_named() {
    let (picture, big, bomb) = (shards::png(1), vec![7u8; 1_100_000], shards::bomb(60_000));
    let mut damaged = picture.clone();
    let middle = damaged.len() / 2;
    damaged[middle..middle + 9].fill(0);
    let files: [(&str, &[u8]); 14] = [
        ("cut.png", &picture[..picture.len() - 60]),
        ("cut.txt", b"a truncated picture"),
        ("damaged.png", &damaged),
        ("damaged.txt", b"a damaged picture"),
        ("empty.png", &picture),
        ("empty.txt", b" \n"),
        ("latin.png", &picture),
        ("latin.txt", b"a caf\xe9"),
        ("big.png", &big),
        ("big.txt", b"a big file"),
        ("bomb.png", &bomb),
        ("bomb.txt", b"a picture that is not there"),
        ("html.jpg", b"<html>"),
        ("html.txt", b"a page"),
    ];
    let bad = shards::end([shards::members(files), shards::examples(40..60)].concat());
    let place = on_shards(Some(shards::good(0..40)), Some(bad));
    let reasons = [
        "2 decode_error",
        "1 empty_caption",
        "1 caption_not_utf8",
        "1 member_too_large",
        "1 image_too_large",
        "1 unknown_format",
    ];
    let told = place.train("out", &[]).well().tells(&reasons);
    let told = told.tells(&["`cut`", "`damaged`", "`empty`", "`latin`", "`big`", "`bomb`", "`html`", "60000"]);
    assert!(told.err.contains("1.tar"), "{}", told.err);
    let event = place.metrics("out").lines().find(|line| line.contains("skipped_examples")).map(str::to_owned);
    assert!(event.unwrap().contains("\"decode_error\":2"));
    let too_many = place.train("strict", &["--steps", "10", "--set", "data.max_skipped_share=0.1"]);
    too_many.refused(4, &["7 of 67 samples skipped", "limit of 0.1", "raise `max_skipped_share`"]);
}

#[test]
fn a_configuration_that_does_not_work_is_refused_by_name() {
    let place = Place::new("");
    let reference = sample("").display().to_string();
    let cases: [(&[&str], &[&str]); 11] = [
        (&["--set", "optimizer.learning_rate=1"], &["unknown key \"learning_rate\"", "nearest:"]),
        (&["--set", "bacth_size=8"], &["unknown key \"bacth_size\"", "nearest: \"batch_size\""]),
        (&["--model", "b16"], &["unknown preset \"b16\"", "b224"]),
        (&["--set", "model.patch_size=5"], &["patch_size 5 does not divide vision.image_size 16", "nearest"]),
        (&["--set", "model.num_heads=3"], &["num_heads 3 does not divide", "nearest"]),
        (
            &["--selection", "joint", "--score", "hard_learner", "--chunks", "3"],
            &["sizes of run", "3 chunks", "nearest"],
        ),
        (&["--reference", &reference, "--filter-ratio", "0.83", "--chunks", "4"], &["filter_ratio 0.83", "nearest"]),
        (&["--selection", "joint", "--chunks", "4"], &["has no reference", "--reference PATH"]),
        (&["--reference", "nowhere", "--chunks", "4"], &["nowhere", "no folder"]),
        (&["--lr", "nan"], &["optimizer.lr = NaN", "at least 0"]),
        (&["--set", "text.tokenizer=nowhere.json"], &["nowhere.json does not exist", "jest tokenizer train"]),
    ];
    for (args, says) in cases {
        let ran = place.train("out", args);
        ran.refused(3, says);
        untrained(&place, "out");
    }
    fs::write(place.path("config.toml"), "batch_size = = 8").unwrap();
    place.train("out", &[]).refused(3, &["not valid TOML", "line 1"]);
    fs::remove_file(place.path("config.toml")).unwrap();
    place.train("out", &[]).refused(3, &["cannot read the configuration", "config.toml"]);
}

/// Before anything is trained, and without training.
#[test]
fn a_cheap_view_that_the_model_cannot_give_is_refused_by_name() {
    let place = Place::new("");
    for (view, says) in [
        ("patch_size=64", "view.patch_size is 64, but must be within 1..=16"),
        ("patch_size=0", "view.patch_size is 0, but must be within 1..=16"),
        ("patch_size=7", "view.patch_size 7 does not divide vision.image_size 16"),
        ("keep_tokens=0", "view.keep_tokens is 0, but must be within 1..=4"),
        ("patch_size=16,keep_tokens=2", "view.keep_tokens is 2, but must be within 1..=1"),
    ] {
        let set = format!("selection.approximation={{{view}}}");
        for dry in [&["--dry-run"][..], &[]] {
            let ran = place.train("out", &[&["--set", &set], dry].concat());
            ran.refused(3, &["selection.approximation in run \"train\"", says]);
            untrained(&place, "out");
        }
    }
}

#[test]
fn a_device_that_is_not_there_is_refused_with_the_way_out() {
    let place = Place::new("");
    place.train("out", &["--device", "no such adapter"]).refused(6, &["no such adapter", "found: "]);
    place.train("out", &["--device", "gpu:99"]).refused(6, &["gpu:99", "found: "]);
    untrained(&place, "out");
}

#[test]
fn a_reference_that_does_not_fit_is_refused_before_the_first_step() {
    let place = Place::new("");
    place.train("other", &["--steps", "1"]).well();
    let reference = place.newest("other", "train").display().to_string();
    let by = |key: &str, says: &[&str]| {
        let args = ["--reference", &reference, "--super-batch", "32", "--chunks", "4", "--set", key];
        place.train("out", &args).refused(3, says);
        untrained(&place, "out");
    };
    by("model.image_size=32", &["has image size 16, the learner 32", "train a reference with"]);
    by("model.text_tokens=6", &["has text tokens 8, the learner 6"]);
    by("text.canonicalize=lower", &["has tokenizer", "the learner"]);
    // The same between runs of one plan, before the reference is trained.
    for (key, says) in
        [("model.image_size = 32", "image size 16, the learner 32"), ("text.canonicalize = 'lower'", "tokenizer")]
    {
        place.configure("", &THREE_RUNS.replace("reference = 'reference'", &format!("reference = 'reference'\n{key}")));
        place.train("plan", &[]).refused(3, &["checkpoints/reference has ", says]);
        untrained(&place, "plan");
    }
}

#[test]
fn a_data_set_smaller_than_the_super_batch_is_refused() {
    let place = Place::new(&THREE_RUNS.replace("super_batch = 32", "super_batch = 104"));
    let says = ["super-batch 104 is larger than the data set", "100 distinct", "take at most 100"];
    place.train("out", &[]).refused(4, &says);
    assert!(!place.metrics("out").contains("\"run\":\"jest\",\"step\""));
    // What came before stays, and the plan can be changed and started again.
    assert_eq!(place.checkpoints("out", "reference"), ["step-00000005", "step-00000006"]);
}

#[test]
fn a_damaged_cache_names_its_file() {
    let place = Place::new(THREE_RUNS);
    place.train("out", &[]).well();
    let cache = fs::read_dir(place.path("out/cache")).unwrap().next().unwrap().unwrap().path();
    damage(&cache.join("part-000000.safetensors"));
    for run in ["jest", "uniform"] {
        fs::remove_dir_all(place.path("out/checkpoints").join(run)).unwrap();
    }
    let damaged = place.train("out", &["--resume", "latest"]);
    damaged.refused(4, &["part-000000.safetensors", "checksum", "delete this file"]);
    fs::remove_file(cache.join("part-000000.safetensors")).unwrap();
    place.train("out", &["--resume", "latest"]).well();
}

#[cfg(unix)]
#[test]
fn a_full_disk_costs_a_warning_and_at_the_end_exit_code_7() {
    let place = Place::new("");
    let args = ["--set", "checkpoint.every=2", "--set", "checkpoint.keep=3"];
    let resume = [&args[..], &["--resume", "latest"]].concat();
    place.train("out", &args).well();
    let (metrics, weights) = (place.metrics("out"), place.weights("out", "train"));
    for later in ["step-00000004", "step-00000006"] {
        fs::remove_dir_all(place.path("out/checkpoints/train").join(later)).unwrap();
    }
    let full = place.train_on_small_disk("out", 40_000, &resume);
    let full = full.refused(7, &["checkpoints/train/", "make room", "--resume latest"]);
    assert_eq!(full.err.matches("warning: no checkpoint at this step").count(), 1, "{}", full.err);
    // The older checkpoint stands, and nothing else.
    assert_eq!(place.checkpoints("out", "train"), ["step-00000002"]);
    assert!(jest([Path::new("inspect"), &place.newest("out", "train")]).well().out.contains("all files match"));
    place.train("out", &resume).well();
    assert_eq!(place.metrics("out"), metrics);
    assert!(place.weights("out", "train") == weights);
}

#[test]
fn two_runs_in_one_folder_are_refused() {
    let place = Place::new("");
    let mut first = place.start("out", &["--steps", "100000", "--set", "checkpoint.every=0"]);
    assert!(first.wait_until(|| place.metrics("out").contains("run_started")));
    place.train("out", &[]).refused(7, &["is in use by process", "--out"]);
    place.train("out", &["--resume", "latest"]).refused(7, &["is in use by process", "--out"]);
    assert!(first.kill());
}

/// `jest ... | head`.
#[test]
fn a_reader_that_leaves_stops_nothing() {
    let mut list = Command::new(env!("CARGO_BIN_EXE_jest"));
    assert!(common::unread(list.args(["reproduce", "--list"])).success());
    let place = Place::new("");
    assert!(common::unread(&mut place.command("out", &["--steps", "2"])).success());
    assert_eq!(place.checkpoints("out", "train").len(), 2);
}

/// A disk that is full where the output goes is no reader that leaves.
#[cfg(target_os = "linux")]
#[test]
fn output_that_is_lost_is_an_error() {
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut list = Command::new(env!("CARGO_BIN_EXE_jest"));
    let ended = list.args(["reproduce", "--list"]).stdout(full).output().unwrap();
    assert_eq!(ended.status.code(), Some(7));
    assert!(String::from_utf8_lossy(&ended.stderr).starts_with("error: standard output cannot be written"));
}

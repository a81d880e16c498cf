//! `jest data` and the keys that say what is trained on.

mod common;

use std::fs;

use common::{Place, THREE_RUNS, jest, shards};

/// A table of 30 pictures in two classes, one row without its picture.
fn table(place: &Place) -> String {
    let mut text = "filepath,title,kind\n".to_string();
    for i in 0..30 {
        shards::write(&place.path(&format!("pictures/{i}.png")), &shards::png(i));
        text.push_str(&format!("{i}.png,\"picture, number {i}\",{}\n", if i < 20 { "icon" } else { "photo" }));
    }
    text.push_str("gone.png,lost,photo\n");
    shards::write(&place.path("pictures/t.csv"), text.as_bytes());
    place.path("pictures").display().to_string()
}

#[test]
fn check_lists_every_fault_and_ends_with_4_where_nothing_can_be_used() {
    let place = Place::new("");
    let pool = place.path("pool").display().to_string();
    let clean = jest(["data", "check", &pool]).well();
    assert!(clean.out.contains("source pool: 2 files or shards\n100 usable examples, 0 faults\n"), "{}", clean.out);
    let picture = shards::png(1);
    let mut bad: Vec<(String, &[u8])> = Vec::new();
    for i in 0..6 {
        bad.push((format!("b{i}.png"), &picture[..picture.len() - 40]));
        bad.push((format!("b{i}.txt"), b"a caption"));
    }
    let bad = shards::members(bad.iter().map(|(name, bytes)| (name.as_str(), *bytes)));
    shards::write(&place.path("bad/0.tar"), &shards::end([bad, shards::examples(0..4)].concat()));
    shards::write(
        &place.path("bad/0_stats.json"),
        br#"{"count": 20, "successes": 10, "failed_to_download": 9, "failed_to_resize": 1}"#,
    );
    shards::write(&place.path("bad/1.tar"), b"<html>");
    let folder = place.path("bad").display().to_string();
    let unusable = jest(["data", "check", &folder]).refused(4, &["8 of 12 samples skipped", "limit of 0.5"]);
    let lines: Vec<_> = unusable.out.lines().collect();
    assert!(lines[0].starts_with("decode_error\tbad/0.tar\tb0\t"), "{}", unusable.out);
    assert!(lines[5].contains("\tb5\t") && unusable.out.contains("tar_truncated\tbad/1.tar\t-\t"), "{}", unusable.out);
    assert!(unusable.out.contains("of 20 rows 9 were not fetched, 1 not readable\n"), "{}", unusable.out);
    assert!(unusable.out.contains("4 usable examples, 8 faults\n  shard_unfinished 1\n"), "{}", unusable.out);
    let allowed = jest(["data", "check", &folder, "--max-skipped-share", "0.9", "--limit", "1"]).well();
    assert!(allowed.out.contains("and more; --limit shows them\n"), "{}", allowed.out);
    jest(["data", "check", &place.path("none.tar").display().to_string()]).refused(4, &["no usable example"]);
}

#[test]
fn stats_count_captions_sizes_and_shares() {
    let place = Place::new("");
    let folder = table(&place);
    let out = jest(["data", "stats", &folder, "--by", "kind", "--json"]).well().out;
    let stats: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(stats["by"], serde_json::json!({"icon": 20, "photo": 10}));
    assert_eq!((&stats["examples"], &stats["skipped"]), (&30.into(), &serde_json::json!({"image_missing": 1})));
    assert_eq!((&stats["width"]["median"], &stats["height"]["max"]), (&12.into(), &9.into()));
    assert_eq!((&stats["caption_words"]["mean"], &stats["caption_characters"]["p95"]), (&3.0.into(), &18.into()));
    let text = jest(["data", "stats", &folder, "--by", "kind"]).well().out;
    assert!(text.starts_with("examples 30\nsources\n  pictures") && text.contains(" 66.67 %\n"), "{text}");
    assert!(text.contains("words of a caption             3       3       3       3       3      3.00\n"), "{text}");
}

#[test]
fn shards_built_of_a_table_are_the_same_each_time_and_hold_the_same_examples() {
    let place = Place::new("");
    let folder = table(&place);
    for out in ["one", "two"] {
        let out = place.path(out).display().to_string();
        let built = jest(["data", "build", &folder, &out, "--samples-per-shard", "12"]).well().out;
        assert!(built.contains("30 samples in 3 shards, 1 left out\n  image_missing 1\n"), "{built}");
    }
    let read = |name: &str| fs::read(place.path(name)).unwrap();
    for name in ["00000.tar", "00001.tar", "00002.tar", "sizes.json"] {
        assert!(read(&format!("one/{name}")) == read(&format!("two/{name}")), "{name}");
    }
    assert_eq!(read("one/sizes.json"), b"{\n  \"00000.tar\": 12,\n  \"00001.tar\": 12,\n  \"00002.tar\": 6\n}\n");
    let shown = jest(["inspect", &place.path("one").display().to_string(), "--limit", "30"]).well().out;
    assert!(shown.contains("000000029 \"picture, number 29\"\n30 examples; 30 kept, 0 skipped"), "{shown}");
    let again = place.path("one").display().to_string();
    jest(["data", "build", &folder, &again]).refused(4, &["one", "not empty"]);
}

#[test]
fn a_subset_of_the_best_scores_is_what_is_trained_on() {
    let place = Place::new(THREE_RUNS);
    place.train("out", &[]).well();
    let newest = |run| place.newest("out", run).display().to_string();
    let (learner, reference) = (newest("uniform"), newest("reference"));
    let pool = format!("pool={}", place.path("pool").display());
    let mut kept = Vec::new();
    for name in ["scores.parquet", "scores.csv"] {
        let (scores, npy) = (place.path(name).display().to_string(), place.path(&format!("{name}.npy")));
        jest(["score", "--learner", &learner, "--reference", &reference, "--data", &pool, "--out", &scores]).well();
        let subset = jest(["data", "subset", &scores, &npy.display().to_string(), "--keep", "0.25"]).well();
        assert!(subset.out.contains("25 of 100 examples by learnability"), "{}", subset.out);
        kept.push(fs::read(npy).unwrap());
    }
    assert!(kept[0] == kept[1] && kept[0].len() == 128 + 25 * 16);
    let npy = place.path("scores.csv.npy").display().to_string();
    place.configure(&format!("data.subset = '{npy}'\nselection.method = 'uniform'"), "");
    let small = place.train("small", &["--batch-size", "26", "--steps", "1"]);
    small.refused(4, &["larger than the data set: 25 distinct"]);
    place.train("small", &["--batch-size", "25", "--steps", "2"]).well();
    fs::write(&npy, b"not a subset").unwrap();
    place.train("none", &[]).refused(4, &["scores.csv.npy", "is no numpy file"]);
    jest(["data", "subset", &place.path("scores.csv").display().to_string(), "o.npy", "--keep", "2"])
        .refused(3, &["--keep = 2"]);
    jest(["data", "subset", &place.path("scores.csv").display().to_string(), "o.npy", "--keep", "1", "--by", "x"])
        .refused(4, &["no column `x`"]);
}

#[test]
fn epochs_need_no_count_and_sources_of_every_kind_train_together() {
    let place = Place::new("");
    let folder = table(&place);
    let pool = place.path("pool").display().to_string();
    let data = format!("{folder}::{pool}::synthetic:69");
    // 31 rows, 100 samples, 69 pictures: 200 of a batch of 8 make 25 steps.
    let flags = ["--train-data", &data, "--set", "steps=0", "--dry-run"];
    place.train("out", &flags).refused(3, &["steps"]);
    let config = fs::read_to_string(place.path("config.toml")).unwrap().replace("steps = 6", "epochs = 1");
    fs::write(place.path("config.toml"), config).unwrap();
    let told = place.train("out", &["--train-data", &data]).well();
    assert!(told.out.contains("25 steps of mu"), "{}", told.out);
    let weighed = ["--train-data", &data, "--train-data-upsampling-factors", "1::0.5::1", "--dry-run"];
    assert!(place.train("out", &weighed).well().out.contains("19 steps of mu"));
    let wrong = ["--train-data", &data, "--train-data-upsampling-factors", "1::2"];
    place.train("wrong", &wrong).refused(3, &["weights", "3 sources"]);
    let missing = format!("{}/{{0..3}}.tar", place.path("pool").display());
    let strict = ["--train-data", &missing, "--set", "data.max_missing_shards=1"];
    place.train("strict", &strict).refused(4, &["2 of 4 shards are missing, more than the limit of 1"]);
}

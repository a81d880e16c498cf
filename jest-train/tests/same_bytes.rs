//! Same seed, configuration and data: same bytes, whatever the threads.

mod common;

use common::{Place, THREE_RUNS};

#[test]
fn threads_and_workers_change_nothing() {
    let place = Place::new(THREE_RUNS);
    place.train("one", &[]).well();
    let variants: [(&str, &[&str]); 3] = [
        ("again", &[]),
        ("narrow", &["--threads", "1", "--workers", "1"]),
        ("wide", &["--threads", "3", "--workers", "5", "--set", "data.cache_mb=0"]),
    ];
    for (out, args) in variants {
        place.train(out, args).well();
        assert_eq!(place.metrics(out), place.metrics("one"), "{out}");
        assert_eq!(place.timeless_summary(out), place.timeless_summary("one"), "{out}");
        for run in ["reference", "jest", "uniform"] {
            assert!(place.weights(out, run) == place.weights("one", run), "{out} {run}");
        }
    }
    place.train("other", &["--seed", "1"]).well();
    assert_ne!(place.metrics("other"), place.metrics("one"));
}

#[test]
fn threads_change_nothing_in_bf16() {
    let place = Place::new("");
    place.configure("precision = 'bf16'", THREE_RUNS);
    for (out, threads) in [("one", "1"), ("wide", "3")] {
        place.train(out, &["--threads", threads]).well();
    }
    assert_eq!(place.metrics("wide"), place.metrics("one"));
    assert!(place.weights("wide", "jest") == place.weights("one", "jest"));
    place.train("plain", &["--precision", "f32"]).well();
    assert_ne!(place.metrics("plain"), place.metrics("one"));
}

#[test]
fn a_cache_changes_nothing_that_is_learned() {
    let place = Place::new(THREE_RUNS);
    place.train("cached", &[]).well();
    place.train("computed", &["--set", "selection.cache_reference=false"]).well();
    // Scores may differ in their last bit, as the reference embeds other blocks; what is picked does not.
    let losses = |out: &str| {
        let step = |line: &str| line.split(",\"picked\"").next().unwrap().to_owned();
        place.metrics(out).lines().map(step).collect::<Vec<_>>()
    };
    assert_eq!(losses("cached"), losses("computed"));
    assert!(place.weights("cached", "jest") == place.weights("computed", "jest"));
}

//! A run takes no more memory the longer it is.

mod common;

use common::Place;

/// A reference, then the same learner twice: for 100 steps, and for 1,000.
const RUNS: &str = "
[[run]]
name = 'reference'
data.train = 'curated=DATA/curated'
[[run]]
name = 'short'
steps = 100
reference = 'reference'
selection.super_batch = 32
selection.chunks = 4
[[run]]
name = 'long'
steps = 1000
reference = 'reference'
selection.super_batch = 32
selection.chunks = 4
";

/// What the process took at most after 1,100 steps is what it took after 100, within a few MiB: the allocator's arenas and
/// the pictures of this data are not of one size, and 18 KB a step are less than a super-batch of pixels.
#[test]
fn a_thousand_steps_take_what_a_hundred_do() {
    const SLACK_MB: u64 = 16;
    let place = Place::new(RUNS);
    for precision in ["f32", "bf16"] {
        place.train(precision, &["--precision", precision, "--set", "checkpoint.every=0"]).well();
        let summary: serde_json::Value = serde_json::from_str(&place.read(precision, "summary.json")).unwrap();
        let [_, short, long] = [0, 1, 2].map(|run| summary["runs"][run]["peak_rss_mb"].as_u64().unwrap());
        assert!(short > 0 && long <= short + SLACK_MB, "{precision}: {short} MiB, then {long}");
    }
}

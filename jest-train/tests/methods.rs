//! Every word of `selection.method` trains, and what is scored alone is scored by the loss that was trained with.

mod common;

use common::{Place, jest};
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

#[test]
fn a_threshold_that_too_few_reach_is_refused() {
    let place = Place::new(THREE_RUNS);
    let keys = ["run.jest.selection.method=clip_score", "run.jest.selection.threshold=0.9999"];
    let refused = place.train("out", &["--steps", "2", "--set", keys[0], "--set", keys[1]]);
    refused.refused(4, &["of 32 candidates score 0.9999 or more, 8 are needed", "lower the threshold"]);
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

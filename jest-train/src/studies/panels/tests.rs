use std::collections::BTreeMap;

use super::super::{STUDIES, Share};
use super::*;
use crate::events::{Flops, RunSummary};

/// Every kind of noise comes alike, and each is chosen otherwise.
fn noise() -> BTreeMap<String, Share> {
    let share = |at: f64| Share { data: 0.2, quarters: [0.2, 0.1, 0.02 * at, 0.02 * at] };
    picks::NOISE
        .iter()
        .zip([0.0, 1.0, 2.0, 3.0, 4.0, 5.0])
        .map(|((kind, _), at)| (kind.to_string(), share(at)))
        .collect()
}

/// A run of every curve that any panel looks for, in two seeds.
fn record() -> Record {
    let names = [
        "uniform",
        "uniform-4000",
        "uniform-64",
        "jest-400",
        "jest-64",
        "jest",
        "flexi_jest",
        "flexi_jest_0.6",
        "constant-0.5",
        "falling-1",
        "falling-0.8",
        "jest_pp-400",
        "flexi_jest_pp-400",
        "joint_learnability-0.8",
        "independent_learnability-0.8",
        "joint-0.8",
        "independent-0.8",
        "joint_easy-0.8",
        "independent_easy-0.8",
        "reference",
        "reference_pp",
        "moderate",
        "weak",
        "raw",
        "early-1000",
        "early-500",
        "early-4000",
        "by_reference",
        "by_moderate",
        "by_weak",
        "by_raw",
        "by_early-1000",
        "by_early-500",
        "by_early-4000",
        "slow-0.8",
        "softmax-0.5",
        "iid_patches-0.5",
        "jest_patches-0.5",
        "iid_dropping-0.5",
        "jest_dropping-0.5",
        "joint_hard-0.5",
        "independent_hard-0.5",
        "filtered_uniform",
        "filtered_jest",
    ];
    let run = |name: &&str, seed: u64| {
        let metrics = [("top1".to_string(), 0.1 + 0.1 * seed as f64)].into_iter().collect();
        let eval = [("fashion_zs".to_string(), metrics)].into_iter().collect();
        let flops = Flops { learn: 1e12, score: 2e12, reference: 1e12 };
        let run =
            RunSummary { name: (*name).into(), steps: 10, examples_trained: 99, flops, eval, ..RunSummary::default() };
        StudyRun { seed, loss_jump: 0.1, run, noise: noise() }
    };
    Record { runs: names.iter().flat_map(|name| [run(name, 0), run(name, 1)]).collect(), ..Record::default() }
}

#[test]
fn every_study_finds_its_runs() {
    for study in STUDIES.iter().filter(|study| study.name != "fig2") {
        let panels = study.conclude(record()).panels;
        assert!(!panels.is_empty());
        for panel in &panels {
            assert!(!panel.series.is_empty(), "{}: {}", study.name, panel.title);
            // Work is counted, so that one seed tells it; all else is of both.
            let seeds = if panel.y_label == "% of a uniform step" { 1 } else { 2 };
            let both = panel.series.iter().flat_map(|series| &series.points).all(|point| point.n == seeds);
            assert!(both, "{}: {}", study.name, panel.title);
        }
    }
}

#[test]
fn kinds_of_noise_and_quarters_are_told_apart() {
    let [joint, _, over_time] = &picks::picks(&record())[..] else { panic!("three panels") };
    let last_half: Vec<(&str, f64)> =
        joint.series.iter().map(|series| (series.name.as_str(), series.points[0].mean.round())).collect();
    let kinds = ["clean", "weak caption", "of another picture", "boilerplate", "file name", "spam"];
    assert_eq!(last_half, kinds.into_iter().zip([0.0, 10.0, 20.0, 30.0, 40.0, 50.0]).collect::<Vec<_>>());
    let quarters: Vec<f64> = over_time.series[0].points.iter().map(|point| point.mean.round()).collect();
    assert_eq!(quarters, [100.0, 50.0, 25.0, 25.0]);
}

#[test]
fn without_runs_there_is_nothing_to_draw_and_nothing_breaks() {
    for study in STUDIES {
        let concluded = study.conclude(Record::default());
        let points: usize =
            concluded.panels.iter().flat_map(|panel| &panel.series).map(|series| series.points.len()).sum();
        assert_eq!(points, 0, "{}", study.name);
    }
}

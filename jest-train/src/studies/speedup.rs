//! How much sooner a method reaches what uniform selection ends with.

use serde::{Deserialize, Serialize};

use super::figure::Point;
use super::record::{Record, StudyRun};

/// Uniform's cost over that of the shortest run, annealed on its own, whose target score is at least uniform's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Speedup {
    /// The curve.
    pub method: String,
    /// In examples trained; mean over seeds that reach it.
    pub examples: f64,
    /// Standard deviation over seeds.
    pub examples_std: f64,
    /// In all FLOPs, the reference's included.
    pub flops: f64,
    /// Standard deviation over seeds.
    pub flops_std: f64,
    /// By means over all seeds in place of seed by seed: uniform's examples over those of the shortest length whose mean target
    /// score is at least uniform's; none where no length's is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub examples_by_means: Option<f64>,
    /// The same in all FLOPs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flops_by_means: Option<f64>,
    /// Seeds that were looked at.
    pub seeds: usize,
    /// Seeds in which the method reaches it.
    pub reached: usize,
}

impl Speedup {
    /// Of `method` against the run `uniform`; none where no seed reaches it.
    ///
    /// Points of a run before its end do not count: their schedule has not ended.
    pub fn of(record: &Record, method: &str, uniform: &str) -> Option<Self> {
        let (mut examples, mut flops, mut seeds) = (Vec::new(), Vec::new(), 0);
        for seed in record.seeds() {
            let Some(goal) = record.run(uniform, seed) else { continue };
            seeds += 1;
            let runs = record.runs.iter().filter(|run| run.seed == seed && run.series() == method);
            let reaching = runs.filter(|run| run.target() >= goal.target());
            let Some(first) = reaching.min_by_key(|run| run.run.examples_trained) else { continue };
            examples.push(ratio(goal, first, |run| run.run.examples_trained as f64));
            flops.push(ratio(goal, first, StudyRun::flops));
        }
        let reached = examples.len();
        let [examples_by_means, flops_by_means] = by_means(record, method, uniform);
        let (examples, flops) = (Point::of(0.0, &examples)?, Point::of(0.0, &flops)?);
        Some(Self {
            method: method.to_string(),
            examples: examples.mean,
            examples_std: examples.std,
            flops: flops.mean,
            flops_std: flops.std,
            examples_by_means,
            flops_by_means,
            seeds,
            reached,
        })
    }
}

/// Uniform's examples and FLOPs over those of the shortest length that reaches its score, all of them means over seeds.
fn by_means(record: &Record, method: &str, uniform: &str) -> [Option<f64>; 2] {
    let mean = |name: &str, value: &dyn Fn(&StudyRun) -> f64| {
        let values: Vec<f64> = record.runs.iter().filter(|run| run.run.name == name).map(value).collect();
        Point::of(0.0, &values).map(|point| point.mean)
    };
    let costs: [&dyn Fn(&StudyRun) -> f64; 2] = [&|run| run.run.examples_trained as f64, &StudyRun::flops];
    let goal = mean(uniform, &StudyRun::target);
    let names = record.runs.iter().filter(|run| run.series() == method).map(|run| run.run.name.as_str());
    let reaching = names.filter(|name| mean(name, &StudyRun::target) >= goal && goal.is_some());
    let first = reaching.filter_map(|name| Some((mean(name, costs[0])?, name))).min_by(|a, b| a.0.total_cmp(&b.0));
    costs.map(|cost| {
        let ratio = mean(uniform, cost)? / mean(first?.1, cost)?;
        Point::of(0.0, &[ratio]).map(|point| point.mean)
    })
}

fn ratio(goal: &StudyRun, run: &StudyRun, cost: impl Fn(&StudyRun) -> f64) -> f64 {
    cost(goal) / cost(run)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::{Flops, RunSummary};

    fn run(name: &str, seed: u64, examples: u64, flops: f64, top1: f64) -> StudyRun {
        let metrics = [("top1".to_string(), top1)].into_iter().collect();
        let eval = [("fashion_zs".to_string(), metrics)].into_iter().collect();
        let flops = Flops { learn: flops / 2.0, reference: flops / 2.0, score: 0.0 };
        let run = RunSummary { name: name.into(), examples_trained: examples, flops, eval, ..RunSummary::default() };
        StudyRun { seed, run, ..StudyRun::default() }
    }

    #[test]
    fn the_shortest_run_that_reaches_it_counts_seed_by_seed() {
        let runs = vec![
            run("uniform-1000", 0, 1000, 100.0, 0.5),
            run("uniform-100", 0, 100, 10.0, 0.1),
            run("jest-100", 0, 100, 40.0, 0.4),
            run("jest-200", 0, 200, 50.0, 0.5),
            run("jest-400", 0, 400, 70.0, 0.9),
            run("uniform-1000", 1, 1000, 100.0, 0.5),
            run("jest-100", 1, 100, 40.0, 0.6),
            run("jest-200", 1, 200, 50.0, 0.4),
            run("uniform-1000", 2, 1000, 100.0, 0.5),
            run("jest-100", 2, 100, 40.0, 0.2),
        ];
        let record = Record { runs, ..Record::default() };
        let found = Speedup::of(&record, "jest", "uniform-1000").unwrap();
        assert_eq!((found.examples, found.flops), (7.5, 2.25)); // 5 and 10; 2 and 2.5
        assert_eq!((found.seeds, found.reached), (3, 2));
        // Of 100, 200 and 400 examples the means are 40, 45 and 90 %, and uniform's is 50 %.
        assert_eq!((found.examples_by_means, found.flops_by_means), (Some(2.5), Some(1.42857143)));
        assert_eq!(Speedup::of(&record, "flexi", "uniform-1000"), None);
    }
}

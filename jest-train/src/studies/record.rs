//! What the runs of a study gave: the contents of `docs/reproduction/NAME.json`.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::figure::{Panel, Point};
use super::speedup::Speedup;
use crate::events::{Metrics, RunSummary, Summary, is_read_back};
use crate::{Result, TrainError, storage};

/// The tasks whose kind of picture the curated pairs show; a target score is the mean over them.
pub const TARGETS: [&str; 7] =
    ["emoji_zs", "emoji_group_zs", "flags_zs", "clipart_zs", "clipart_retrieval", "fashion_zs", "stamps_retrieval"];

/// A study with its runs and what was made of them.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Record {
    /// Its name.
    pub study: String,
    /// What the paper found.
    pub claim: String,
    /// What makes this file again.
    pub command: String,
    /// Name of the device.
    pub device: String,
    /// Threads of the CPU device.
    pub threads: usize,
    /// Precision of products; none where the record is older than this field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub precision: Option<String>,
    /// Commit of the working tree that the record was made in, with `-dirty` where that had changes; none where it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// Tasks of the target score.
    pub targets: Vec<String>,
    /// How much sooner a method reaches what uniform selection ends with, where the study asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speedup: Option<Speedup>,
    /// The same of other methods.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub other_speedups: Vec<Speedup>,
    /// What is drawn.
    pub panels: Vec<Panel>,
    /// Every run of every seed.
    pub runs: Vec<StudyRun>,
}

/// One run of one seed.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct StudyRun {
    /// Seed of parameters, order and noise.
    pub seed: u64,
    /// Largest rise of the loss from one step to the next, in nats of its logarithm.
    pub loss_jump: f64,
    /// What it took, and what it gave.
    #[serde(flatten)]
    pub run: RunSummary,
    /// What its audit says was chosen, by the `noise` that the JSON of an example names; empty without audit.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub noise: BTreeMap<String, Share>,
}

/// Parts of a run whose choices are told apart.
pub const QUARTERS: usize = 4;

/// Share of the examples with one value of a field, of 1.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Share {
    /// Of the examples of its data.
    pub data: f64,
    /// Of the choices of each quarter of the run; of a quarter without any, 0.
    pub quarters: [f64; QUARTERS],
}

impl StudyRun {
    /// How often these kinds of noise were chosen in some quarters of the run, in percent of how often they come; none where the
    /// data names none of them.
    pub fn noise_chosen(&self, kinds: &[&str], quarters: std::ops::Range<usize>) -> Option<f64> {
        let shares = || kinds.iter().filter_map(|kind| self.noise.get(*kind));
        let data: f64 = shares().map(|share| share.data).sum();
        // A short run chooses nothing in some quarters.
        let chose = |at: &usize| self.noise.values().any(|share| share.quarters[*at] > 0.0);
        let full: Vec<usize> = quarters.filter(chose).collect();
        let chosen = |share: &Share| full.iter().map(|at| share.quarters[*at]).sum::<f64>() / full.len() as f64;
        (data > 0.0 && !full.is_empty()).then(|| 100.0 * shares().map(chosen).sum::<f64>() / data)
    }

    /// Its name without the number behind the last `-`: the curve that it is a point of.
    pub fn series(&self) -> &str {
        match self.run.name.rsplit_once('-') {
            Some((series, x)) if x.parse::<f64>().is_ok() => series,
            _ => &self.run.name,
        }
    }

    /// The number behind the last `-` of its name.
    pub fn x(&self) -> Option<f64> {
        self.run.name.rsplit_once('-')?.1.parse().ok()
    }

    /// Mean over the target tasks that it was evaluated on, in percent; 0 of none.
    pub fn target(&self) -> f64 {
        self.mean(|_| true)
    }

    /// The same without the clothes, whose accuracy spans more than all others together.
    pub fn without_clothes(&self) -> f64 {
        self.mean(|task| task != "fashion_zs")
    }

    fn mean(&self, counts: impl Fn(&str) -> bool) -> f64 {
        let counted = TARGETS.iter().filter(|task| counts(task));
        let scores: Vec<f64> = counted.filter_map(|task| self.task(task)).collect();
        scores.iter().sum::<f64>() / scores.len().max(1) as f64
    }

    /// Score of a task, in percent: top-1, or of a retrieval the mean of both R@10.
    pub fn task(&self, task: &str) -> Option<f64> {
        let metrics: &Metrics = self.run.eval.get(task)?;
        let retrieval = || Some((metrics.get("image_to_text_R@10")? + metrics.get("text_to_image_R@10")?) / 2.0);
        metrics.get("top1").copied().or_else(retrieval).map(|score| 100.0 * score)
    }

    /// All of its work, the reference's included.
    pub fn flops(&self) -> f64 {
        self.run.flops.total()
    }
}

impl Record {
    /// The run of that name and seed.
    pub fn run(&self, name: &str, seed: u64) -> Option<&StudyRun> {
        self.runs.iter().find(|run| run.seed == seed && run.run.name == name)
    }

    /// Whether it is of the same runs, trained alike; their times may differ.
    pub fn is_of_same_runs(&self, other: &Self) -> bool {
        let same = |a: &StudyRun, b: &StudyRun| {
            (a.seed, &a.run.name, a.run.steps) == (b.seed, &b.run.name, b.run.steps)
                && is_read_back(a.flops(), b.flops())
                && is_read_back(a.target(), b.target())
                && is_read_back(a.loss_jump, b.loss_jump)
        };
        self.runs.len() == other.runs.len() && self.runs.iter().zip(&other.runs).all(|(a, b)| same(a, b))
    }

    /// Whether any run was evaluated on a task.
    pub fn evaluated(&self, task: &str) -> bool {
        self.runs.iter().any(|run| run.run.eval.get(task).is_some())
    }

    /// Seeds that it has runs of, ascending.
    pub fn seeds(&self) -> Vec<u64> {
        let mut seeds: Vec<u64> = self.runs.iter().map(|run| run.seed).collect();
        seeds.sort_unstable();
        seeds.dedup();
        seeds
    }

    /// A line a run: seeds, target score and score without clothes with their standard deviations, and all work.
    pub fn table(&self) -> String {
        let mut names: Vec<&str> = Vec::new();
        for run in &self.runs {
            if !names.contains(&run.run.name.as_str()) {
                names.push(&run.run.name);
            }
        }
        let mut text =
            format!("{:<28}{:>5}{:>14}{:>17}{:>8}\n", "run", "seeds", "score, %", "without clothes", "TFLOP");
        for name in names {
            let of = |value: &dyn Fn(&StudyRun) -> f64| {
                let values: Vec<f64> = self.runs.iter().filter(|run| run.run.name == name).map(value).collect();
                Point::of(0.0, &values).map_or((0.0, 0.0, 0), |point| (point.mean, point.std, point.n))
            };
            let (score, spread, seeds) = of(&StudyRun::target);
            let (other, other_spread, _) = of(&StudyRun::without_clothes);
            let (flops, ..) = of(&|run| run.flops() / 1e12);
            text += &format!(
                "{name:<28}{seeds:>5}{score:>7.1} ± {spread:>4.1}{other:>10.1} ± {other_spread:>4.1}{flops:>8.1}\n"
            );
        }
        text
    }

    /// Reads a file that [`write`](Self::write) wrote.
    ///
    /// # Errors
    /// `Storage` or `Json`.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read(path).map_err(TrainError::storage("read", path))?;
        serde_json::from_slice(&text).map_err(|source| TrainError::Json { what: "a study's record", source })
    }

    /// Writes it, a run a line.
    ///
    /// # Errors
    /// `Storage` or `Json`.
    pub fn write(&self, path: &Path) -> Result<()> {
        let json = |source| TrainError::Json { what: "a study's record", source };
        let lines: std::result::Result<Vec<String>, _> = self.runs.iter().map(serde_json::to_string).collect();
        let head = serde_json::to_string_pretty(&Self { runs: Vec::new(), ..self.clone() }).map_err(json)?;
        let runs = lines.map_err(json)?.join(",\n    ");
        let text = head.replace("\"runs\": []", &format!("\"runs\": [\n    {runs}\n  ]"));
        storage::write_atomic(path, format!("{text}\n").as_bytes())
    }
}

/// The finished runs of a run folder.
///
/// # Errors
/// `Storage` or `Json`, where its files cannot be read.
pub fn finished(folder: &Path) -> Result<(Summary, Vec<StudyRun>)> {
    let path = folder.join("summary.json");
    let text = std::fs::read(&path).map_err(TrainError::storage("read", &path))?;
    let summary: Summary =
        serde_json::from_slice(&text).map_err(|source| TrainError::Json { what: "summary.json", source })?;
    let path = folder.join("metrics.jsonl");
    let events = std::fs::read_to_string(&path).map_err(TrainError::storage("read", &path))?;
    let study_run = |run: &RunSummary| StudyRun {
        seed: summary.seed,
        loss_jump: loss_jump(&events, &run.name),
        run: run.clone(),
        ..StudyRun::default()
    };
    let runs = summary.runs.iter().map(study_run).collect();
    Ok((summary, runs))
}

/// The precision that a run folder's plan has.
pub fn precision(folder: &Path) -> Option<String> {
    let plan = std::fs::read_to_string(folder.join("plan.toml")).ok()?.parse::<toml::Table>().ok()?;
    plan.get("precision")?.as_str().map(str::to_owned)
}

/// Largest rise of a run's loss between steps, as a difference of logarithms; the warm-up's first tenth is left out.
fn loss_jump(events: &str, run: &str) -> f64 {
    #[derive(Deserialize)]
    struct Step {
        event: String,
        run: String,
        loss: Option<f64>,
    }
    let steps = events.lines().filter_map(|line| serde_json::from_str::<Step>(line).ok());
    let losses: Vec<f64> =
        steps.filter(|step| step.event == "step" && step.run == run).filter_map(|step| step.loss).collect();
    let settled = &losses[losses.len() / 10..];
    let rises = settled.windows(2).map(|pair| (pair[1] / pair[0]).ln());
    rises.filter(|rise| rise.is_finite()).fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    pub fn run(name: &str, seed: u64, top1: f64) -> StudyRun {
        let metrics = [("top1".to_string(), top1)].into_iter().collect();
        let eval = [("fashion_zs".to_string(), metrics)].into_iter().collect();
        StudyRun { seed, run: RunSummary { name: name.into(), eval, ..RunSummary::default() }, ..StudyRun::default() }
    }

    #[test]
    fn a_name_is_a_curve_and_a_place_on_it() {
        for (name, series, x) in [
            ("joint_easy-0.8", "joint_easy", Some(0.8)),
            ("uniform", "uniform", None),
            ("jest_pp-1200", "jest_pp", Some(1200.0)),
            ("a-b", "a-b", None),
        ] {
            let run = run(name, 0, 0.1);
            assert_eq!((run.series(), run.x()), (series, x));
        }
    }

    #[test]
    fn noise_is_told_by_how_often_it_comes() {
        let share = |data, quarters| Share { data, quarters };
        let shares = [
            ("shuffle", share(0.1, [0.0, 0.05, 0.1, 0.2])),
            ("boiler", share(0.3, [0.3; 4])),
            ("none", share(0.6, [0.5; 4])),
        ];
        let run = StudyRun { noise: shares.map(|(kind, share)| (kind.to_string(), share)).into(), ..run("a", 0, 0.1) };
        let chosen =
            |kinds: &[&str], quarters| run.noise_chosen(kinds, quarters).map(|percent| (10.0 * percent).round());
        assert_eq!(chosen(&["shuffle"], 2..4), Some(1500.0));
        assert_eq!(chosen(&["shuffle", "boiler"], 0..1), Some(750.0));
        assert_eq!(chosen(&["shuffle", "boiler", "spam"], 2..4), Some(1125.0));
        assert_eq!(chosen(&["spam"], 0..4), None);
        let short = share(0.5, [0.5, 0.0, 0.25, 0.0]);
        let short = StudyRun { noise: [("none".to_string(), short)].into(), ..run };
        assert_eq!(
            [0..2, 2..4, 1..2, 3..4].map(|quarters| short.noise_chosen(&["none"], quarters)),
            [Some(100.0), Some(50.0), None, None]
        );
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.json");
        let record =
            Record { study: "fig3".into(), runs: vec![run("a-1", 0, 0.25), run("a-1", 2, 0.5)], ..Record::default() };
        record.write(&path).unwrap();
        assert_eq!(Record::read(&path).unwrap(), record);
        assert_eq!(record.seeds(), [0, 2]);
        assert_eq!(record.run("a-1", 2).unwrap().target(), 50.0);
    }

    #[test]
    fn the_largest_rise_of_the_loss() {
        let line =
            |run: &str, loss: f64| format!("{{\"event\":\"step\",\"run\":\"{run}\",\"step\":1,\"loss\":{loss}}}\n");
        let events: String = [("a", 4.0), ("b", 1.0), ("a", 2.0), ("a", 6.0), ("b", 9.0), ("a", 3.0)]
            .map(|(run, loss)| line(run, loss))
            .concat();
        assert!((loss_jump(&events, "a") - 3f64.ln()).abs() < 1e-12);
        assert_eq!(loss_jump(&events, "c"), 0.0);
    }
}

//! `jest reproduce`: studies of the paper, trained seed by seed, gone on with after a stop, recorded and drawn.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::train::How;
use super::{run_folder, train};
use crate::assemble::{self, checkpoints_folder};
use crate::checkpoint::Checkpoints;
use crate::cli::{KeyFlags, ReproduceArgs, TrainArgs};
use crate::config::{Plan, Surroundings};
use crate::say::say;
use crate::signals::StopFlag;
use crate::studies::{self, Record, STUDIES, Study, StudyError, StudyRun};
use crate::{Result, TrainError, storage};

/// Where `base.toml` finds its data, and the studies each other's runs.
const DATA: &str = "runs/data/quickstart";
const OUT: &str = "runs/reproduce";
/// The shipped data of the same shape.
const SAMPLE: &str = "assets/sample";

pub(super) fn reproduce(args: &ReproduceArgs) -> Result<()> {
    if args.list || args.names.is_empty() {
        STUDIES.iter().for_each(|study| say!("{:<12}{}", study.name, study.claim));
        return Ok(());
    }
    let stop = StopFlag::install()?;
    if let Some(budget) = args.budget {
        let stop = stop.clone();
        // It ends with the process.
        std::thread::spawn(move || {
            std::thread::sleep(budget);
            stop.set();
        });
    }
    let job = Job::new(args, stop);
    for study in asked(&args.names)? {
        job.study(&study)?;
    }
    Ok(())
}

/// The studies of these names.
fn asked(names: &[String]) -> Result<Vec<Study>> {
    if names.iter().any(|name| name == "all") {
        return Ok(STUDIES.to_vec());
    }
    let known = || STUDIES.map(|study| study.name).join(", ");
    let named = |name: &String| {
        Study::named(name).ok_or_else(|| TrainError::from(StudyError::Unknown { name: name.clone(), known: known() }))
    };
    names.iter().map(named).collect()
}

struct Job<'a> {
    args: &'a ReproduceArgs,
    stop: StopFlag,
    data: PathBuf,
    out: PathBuf,
    records: PathBuf,
}

impl<'a> Job<'a> {
    fn new(args: &'a ReproduceArgs, stop: StopFlag) -> Self {
        let quick = || {
            let name = args.out.file_name().unwrap_or_default().to_string_lossy();
            args.out.with_file_name(format!("{name}-quick"))
        };
        let out = if args.quick { quick() } else { args.out.clone() };
        let records = if args.quick { out.join("records") } else { args.records.clone() };
        let data = if args.quick { SAMPLE.into() } else { args.data.clone() };
        Self { args, stop, data, out, records }
    }

    fn study(&self, study: &Study) -> Result<()> {
        if self.args.draw {
            return self.draw(study);
        }
        let seeds = if self.args.quick { 1 } else { self.args.seeds.unwrap_or(study.seeds) };
        let trained = self.train_with_borrowed(study, seeds);
        // Whole seeds are recorded, also where a later one was stopped.
        let record = self.gather(study, seeds)?;
        if record.panels.iter().all(studies::Panel::is_empty) {
            return trained.and(Err(StudyError::Nothing { study: study.name.into() }.into()));
        }
        let path = self.record(study.name);
        let before = if path.exists() { Record::read(&path)?.seeds().len() } else { 0 };
        if record.seeds().len() < before {
            say!("{}: {} has {before} seeds, and is kept", study.name, path.display());
            return trained;
        }
        record.write(&path)?;
        self.draw(study)?;
        trained
    }

    /// Where a study's record lies.
    fn record(&self, name: &str) -> PathBuf {
        self.records.join(format!("{name}.json"))
    }

    fn folder(&self, name: &str, seed: u64) -> PathBuf {
        self.out.join(name).join(format!("seed-{seed}"))
    }

    /// The figures of a study's record.
    fn draw(&self, study: &Study) -> Result<()> {
        let path = self.record(study.name);
        let record = study.conclude(Record::read(&path)?);
        record.write(&path)?;
        storage::write_atomic(path.with_extension("svg"), studies::svg(&record.panels)?.as_bytes())?;
        storage::write_atomic(path.with_extension("png"), &studies::png(&record.panels)?)?;
        say!("{}", record.table().trim_end());
        let seeds = record.seeds().len();
        say!("{}: {} runs of {seeds} seeds; {}", study.name, record.runs.len(), path.with_extension("png").display());
        Ok(())
    }

    /// Trains what is missing of a study and of those that it looks at.
    fn train_with_borrowed(&self, study: &Study, seeds: u64) -> Result<()> {
        let others = study.borrows.iter().filter_map(|(name, _)| Study::named(name));
        others.filter(|other| other.name != studies::REFERENCES).try_for_each(|other| self.train(&other, seeds))?;
        if study.trains { self.train(study, seeds) } else { Ok(()) }
    }

    /// Trains what is missing of seeds 0 to `seeds` - 1.
    fn train(&self, study: &Study, seeds: u64) -> Result<()> {
        if study.name != studies::REFERENCES {
            self.train(&STUDIES[0], 1)?;
        }
        let mut missing = Vec::new();
        for seed in 0..seeds {
            let folder = self.folder(study.name, seed);
            let plan = self.plan(study, seed, seeds, &folder)?;
            let (saved, text) =
                (folder.join("plan.toml"), plan.to_toml().map_err(|source| TrainError::PlanText { source })?);
            if !finished(&folder) || run_folder::hold_against_saved_plan(&saved, &text).is_err() {
                missing.push((seed, plan, saved.exists()));
            }
        }
        at_once(self.args.jobs.get(), &missing, |(seed, plan, resumed)| {
            say!("{} seed {seed}: {} runs in {}", study.name, plan.runs.len(), plan.out.display());
            let resume = resumed.then_some("latest");
            // Runs of several seeds at a time tell their progress side by side.
            let label = if self.args.jobs.get() > 1 { format!("seed {seed} ") } else { String::new() };
            train::work(plan, How { resume, profile: false, stop: self.stop.clone(), label: &label })
        })
    }

    /// Threads of each of so many seeds: its share of what is asked for, or of the cores.
    fn threads(&self, seeds: u64) -> usize {
        let all = self.args.on.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
        let jobs = (self.args.jobs.get() as u64).min(seeds).max(1);
        (all / jobs as usize).max(1)
    }

    /// The plan of one seed of so many: the shared keys and the study's runs, with this job's data and folders.
    fn plan(&self, study: &Study, seed: u64, seeds: u64, folder: &Path) -> Result<Plan> {
        let read = |name: &str| {
            let path = self.args.configs.join(name);
            std::fs::read_to_string(&path).map_err(TrainError::storage("read", &path))
        };
        let text = format!("{}\n{}", read("base.toml")?, read(&format!("{}.toml", study.name))?);
        let place = |path: &Path| path.display().to_string();
        let text = text.replace(DATA, &place(&self.data)).replace(OUT, &place(&self.out));
        let path = folder.with_extension("toml");
        let text = if self.args.quick { without_missing_tasks(&text) } else { text };
        storage::write_atomic(&path, with_newest_checkpoints(&text).as_bytes())?;
        let keys = KeyFlags {
            out: Some(place(folder)),
            device: Some(self.args.on.device.clone()),
            threads: Some(self.threads(seeds) as i64),
            seed: Some(seed as i64),
            precision: self.args.precision,
            no_autotune: self.args.on.no_autotune,
            ..KeyFlags::default()
        };
        let args = TrainArgs { config: Some(path), smoke: self.args.quick, keys, ..TrainArgs::default() };
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let around = Surroundings { cores, exists: &|path| path.exists(), count: &assemble::count_examples };
        let mut plan = args.plan(&around)?.plan;
        plan.out = folder.to_path_buf();
        Ok(plan)
    }

    /// The finished runs of a study and of those that it borrows, concluded.
    fn gather(&self, study: &Study, seeds: u64) -> Result<Record> {
        let mut record = Record { commit: commit(), ..Record::default() };
        let mut add = |name: &str, wanted: &dyn Fn(&StudyRun) -> bool| -> Result<()> {
            for seed in (0..seeds).filter(|&seed| finished(&self.folder(name, seed))) {
                let (summary, mut runs) = studies::finished(&self.folder(name, seed))?;
                runs.retain(wanted);
                super::explain::tell_noise(&self.folder(name, seed), &mut runs)?;
                (record.device, record.threads) = (summary.device, summary.threads);
                record.precision = studies::precision(&self.folder(name, seed));
                record.runs.extend(runs);
            }
            Ok(())
        };
        if study.trains {
            add(study.name, &|_| true)?;
        }
        for (other, curves) in study.borrows {
            add(other, &|run| curves.contains(&run.series()))?;
        }
        if study.name == "fig2" {
            let path = self.record(study.name);
            let before = if path.exists() { Record::read(&path)? } else { Record::default() };
            // The reference is not looked at.
            let has_more = before.seeds().len() > record.seeds().len();
            if !before.panels.is_empty() && (has_more || before.is_of_same_runs(&record)) {
                let of = if has_more { "more" } else { "these" };
                say!("{}: {} is of {of} learners, and is kept; delete it to draw anew", study.name, path.display());
                return Ok(before);
            }
            record.panels = self.sampler(seeds)?;
        }
        Ok(study.conclude(record))
    }

    /// Figure 2, of what the references and the uniform learners of figure 3 make of several pools.
    fn sampler(&self, seeds: u64) -> Result<Vec<studies::Panel>> {
        let seeds = (0..seeds).filter(|&seed| finished(&self.folder("fig3", seed)));
        let learner = |seed| checkpoints_folder(&self.folder("fig3", seed), "uniform");
        let latest = |folder: PathBuf| newest(&folder).unwrap_or(folder);
        let learners: Vec<_> = seeds.map(|seed| (seed, latest(learner(seed)))).collect();
        let reference = latest(checkpoints_folder(&self.folder(studies::REFERENCES, 0), "reference"));
        let most = if self.args.quick { 2560 } else { usize::MAX };
        super::sampled::panels(&self.args.on, &self.data.join("train"), most, &reference, &learners, &self.stop)
    }
}

/// What git calls the commit of the working tree; none without git, or outside a repository.
fn commit() -> Option<String> {
    let args = ["describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"];
    let told = std::process::Command::new("git").args(args).output().ok().filter(|told| told.status.success())?;
    String::from_utf8(told.stdout).ok().map(|text| text.trim().to_string())
}

/// Calls `work` for each item, `jobs` of them at a time, until one fails; a failure is returned.
fn at_once<T: Sync>(jobs: usize, items: &[T], work: impl Fn(&T) -> Result<()> + Sync) -> Result<()> {
    let next = AtomicUsize::new(0);
    let take_turns = || -> Result<()> {
        while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
            // After a failure nobody finds more to take.
            work(item).inspect_err(|_| next.store(items.len(), Ordering::Relaxed))?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..jobs.min(items.len())).map(|_| scope.spawn(take_turns)).collect();
        let own = take_turns();
        others.into_iter().fold(own, |so_far, other| match other.join() {
            Ok(done) => so_far.and(done),
            Err(panic) => std::panic::resume_unwind(panic),
        })
    })
}

/// Whether every run of a folder's plan has ended.
fn finished(folder: &Path) -> bool {
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).ok();
    let (Some(plan), Some(summary)) = (read("plan.toml"), read("summary.json")) else { return false };
    let Ok(summary) = serde_json::from_str::<crate::events::Summary>(&summary) else { return false };
    plan.matches("[[run]]").count() == summary.runs.len()
}

/// A configuration whose references, the folders of a run's checkpoints, are the newest in them.
fn with_newest_checkpoints(text: &str) -> String {
    let line = |line: &str| {
        let named = line.strip_prefix("reference = ").map(|path| PathBuf::from(path.trim_matches('"')));
        match named.and_then(|folder| newest(&folder)) {
            Some(checkpoint) => format!("reference = {:?}\n", checkpoint.display().to_string()),
            None => format!("{line}\n"),
        }
    };
    text.lines().map(line).collect()
}

/// The newest whole checkpoint of a run.
fn newest(folder: &Path) -> Option<PathBuf> {
    let (newest, _) = Checkpoints::new(folder.to_path_buf(), 1).newest().ok()?;
    newest.map(|found| found.path)
}

/// A configuration without the lines of evaluation tasks that are not there: the shipped sample has fewer than a study asks for.
fn without_missing_tasks(text: &str) -> String {
    let missing = |line: &&str| {
        let path = line.trim().trim_end_matches(',').trim_matches('"');
        path.contains("/eval/") && !Path::new(path).is_dir()
    };
    text.lines().filter(|line| !missing(line)).map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::{Barrier, Mutex};

    use super::*;

    #[test]
    fn every_item_is_worked_on_once_and_two_at_a_time() {
        let (seen, both) = (Mutex::new(Vec::new()), Barrier::new(2));
        let items: Vec<usize> = (0..6).collect();
        at_once(2, &items, |item| {
            both.wait();
            seen.lock().unwrap().push(*item);
            Ok(())
        })
        .unwrap();
        let mut seen = seen.into_inner().unwrap();
        seen.sort_unstable();
        assert_eq!(seen, items);
        at_once(2, &[0; 0], |_| Ok(())).unwrap();
    }

    #[test]
    fn a_failure_is_returned_and_ends_the_work() {
        let seen = AtomicUsize::new(0);
        let failed = at_once(1, &[1, 2, 3], |item| {
            seen.fetch_add(1, Ordering::Relaxed);
            if *item == 2 { Err(StudyError::Nothing { study: "x".into() }.into()) } else { Ok(()) }
        });
        assert!(failed.is_err());
        assert_eq!(seen.into_inner(), 2);
    }
}

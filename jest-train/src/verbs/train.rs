//! `jest train`: the runs of a plan in order, then the table and the report.

use std::fs;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use jest_data::Loader;
use jest_kernels::{Device, Pass};
use jest_model::{Locked, Tower, TwoTowers};
use jest_select::Reads;

use super::open::{keep_kernels, open_device_within, tune, use_tiles};
use super::run_folder::{PLAN, hold_against_saved_plan, keep_tiles, same_folder, set_aside, with_tiles};
use super::starting;
use crate::approximation::Approximation;
use crate::assemble::{self, Prepared, checkpointed, checkpoints_folder};
use crate::audit::Audit;
use crate::checkpoint::Checkpoints;
use crate::cli::TrainArgs;
use crate::clock::SystemClock;
use crate::config::{Plan, ReportTo, RunPlan, Surroundings};
use crate::events::{Event, Events, Named, RunFinished, RunStarted, SkippedExamples, Summary, Warning};
use crate::learner::Learner;
use crate::lock::RunLock;
use crate::memory::Estimate;
use crate::meter::Meter;
use crate::optimizer::Optimizer;
use crate::reference::Reference;
use crate::run_loop::{self, Run};
use crate::run_state::{Progress, RunState};
use crate::say::{say, tell};
use crate::selector::{Scored, Selector, Uniform};
use crate::signals::StopFlag;
use crate::sinks::{Fanout, JsonLines, ProfileFiles, SummaryFile, TensorBoard, Terminal};
use crate::{Result, TrainError, storage, table};

pub(super) fn train(args: &TrainArgs) -> Result<()> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let around = Surroundings { cores, exists: &|path| path.exists(), count: &assemble::count_examples };
    let resolved = args.plan(&around)?;
    let plan = &resolved.plan;
    let text = plan.to_toml().map_err(|source| TrainError::PlanText { source })?;
    say!("{}", resolved.to_string().trim_end());
    print_memory(plan)?;
    if args.dry_run {
        say!("{text}");
        return Ok(());
    }
    let stop = StopFlag::install()?;
    work(plan, How { resume: args.resume.as_deref(), profile: args.profile, stop, label: "" })
}

/// How a plan is worked through.
#[derive(Debug)]
pub(super) struct How<'a> {
    /// Go on from a folder's checkpoints, or from the `latest`.
    pub resume: Option<&'a str>,
    /// Time every kernel.
    pub profile: bool,
    /// Set to end after a step.
    pub stop: StopFlag,
    /// Stands before the names of runs on the terminal.
    pub label: &'a str,
}

/// Trains the runs of a plan.
pub(super) fn work(plan: &Plan, how: How<'_>) -> Result<()> {
    let prepared = assemble::prepare(plan)?;
    let device = open_device_within(&plan.device, plan.threads, plan.precision, plan.device_mb)?;
    tune(&device, plan.autotune, &plan.tiles);
    let (plan, text) = with_tiles(plan, &device)?;
    let plan = &plan;
    let session = Session::open(plan, &text, device.clone(), how)?;
    let ran = device.enter(|| session.run(&prepared));
    keep_kernels(&device);
    keep_tiles(plan, &device, &ran)?;
    ran
}

/// What each run will take of memory, where its tokenizer tells the size of the model.
fn print_memory(plan: &Plan) -> Result<()> {
    for run in &plan.runs {
        // What is wrong with a tokenizer is said where captions are read.
        let Ok(tokenizer) = assemble::tokenizer(&run.text) else { continue };
        let model = assemble::model_config(run, &tokenizer)?;
        say!("memory of {}: {}", run.name, Estimate::of(run, &model, plan.precision));
    }
    Ok(())
}

/// A run folder that is being worked in.
struct Session<'a> {
    plan: &'a Plan,
    text: &'a str,
    device: Device,
    stop: StopFlag,
    clock: SystemClock,
    resume: bool,
    profile: bool,
    label: &'a str,
    _lock: RunLock,
}

impl<'a> Session<'a> {
    fn open(plan: &'a Plan, text: &'a str, device: Device, how: How<'a>) -> Result<Self> {
        let resume = match how.resume {
            None => false,
            Some(word) => {
                let named = Path::new(word);
                if word != "latest" && !same_folder(named, &plan.out) {
                    return Err(TrainError::ResumeElsewhere { named: named.into(), out: plan.out.clone() });
                }
                true
            }
        };
        let mut lock = RunLock::acquire(&plan.out)?;
        if resume {
            hold_against_saved_plan(&plan.out.join(PLAN), text)?;
        } else if plan.out.join(PLAN).exists() {
            drop(lock);
            let aside = set_aside(&plan.out)?;
            say!("note: the earlier run is kept in {}", aside.display());
            lock = RunLock::acquire(&plan.out)?;
        }
        let (lock, takeover) = lock;
        if let Some(takeover) = takeover {
            say!("note: {takeover}");
        }
        storage::write_atomic(plan.out.join(PLAN), text.as_bytes())?;
        let (clock, How { stop, profile, label, .. }) = (SystemClock::start(), how);
        Ok(Self { plan, text, device, stop, clock, resume, profile, label, _lock: lock })
    }

    fn run(&self, prepared: &[Prepared]) -> Result<()> {
        let saved = if self.resume { self.saved()? } else { Vec::new() };
        if let Some(last) = saved.last() {
            use_tiles(&self.device, &last.state.tiles);
        }
        let mut sinks = self.sinks(&saved)?;
        let again = saved.len().saturating_sub(1);
        let mut last = saved.into_iter().next_back();
        for (run, prepared) in self.plan.runs.iter().zip(prepared).skip(again) {
            match last.take() {
                Some(saved) if saved.state.progress.step >= run.steps => conclude(&saved.state, &mut sinks)?,
                saved => self.one(run, prepared, saved, &mut sinks)?,
            }
        }
        drop(sinks);
        self.finish()
    }

    /// The newest checkpoints: of every run that ended and of the one that was under way.
    fn saved(&self) -> Result<Vec<Saved>> {
        let mut all = Vec::new();
        for run in &self.plan.runs {
            let Some(saved) = self.newest_state(run)? else { break };
            let under_way = saved.state.progress.step < run.steps;
            all.push(saved);
            if under_way {
                break;
            }
        }
        Ok(all)
    }

    /// Files and terminal; the files stand where the last of `saved` was written.
    fn sinks(&self, saved: &[Saved]) -> Result<Fanout> {
        let names: Vec<&str> = self.plan.runs.iter().map(|run| run.name.as_str()).collect();
        let (lines, runs) = match saved {
            [] => (JsonLines::create(&self.plan.out)?, Vec::new()),
            [earlier @ .., last] => {
                let at = checkpointed(&last.state.summary.name, last.state.progress.step);
                let runs = earlier.iter().map(|saved| saved.state.summary.clone()).collect();
                (JsonLines::resume(&self.plan.out, &names, &at)?, runs)
            }
        };
        let device = super::open::word(&self.device);
        let summary = Summary { device, threads: self.device.threads(), seed: self.plan.seed, runs };
        let logging = self.plan.runs.first().map(|run| run.logging.clone()).unwrap_or_default();
        let mut sinks: Vec<Box<dyn Events>> = vec![
            Box::new(lines),
            Box::new(Terminal::stderr(logging.every, self.label)),
            Box::new(SummaryFile::new(&self.plan.out, summary)),
        ];
        if logging.report_to == ReportTo::Tensorboard {
            sinks.push(Box::new(TensorBoard::new(&self.plan.out, seconds_since_1970)));
        }
        if self.profile {
            sinks.push(Box::new(ProfileFiles::new(&self.plan.out, self.device.clone(), super::bench::now)));
        }
        Ok(Fanout::new(sinks))
    }

    fn newest_state(&self, run: &RunPlan) -> Result<Option<Saved>> {
        let folder = checkpoints_folder(&self.plan.out, &run.name);
        let checkpoints = Checkpoints::new(folder, run.checkpoint.keep);
        let (found, damaged) = checkpoints.newest()?;
        let then = if found.is_some() { "an older one is taken" } else { "the run begins anew" };
        for error in &damaged {
            tell!("warning: {error}; {then}");
        }
        let Some(found) = found else { return Ok(None) };
        checkpoints.tidy(found.step)?;
        Ok(Some(Saved { state: RunState::read(&found.path)?, folder: found.path }))
    }

    /// Trains one run, from its checkpoint when there is one.
    fn one(&self, plan: &RunPlan, prepared: &Prepared, saved: Option<Saved>, events: &mut dyn Events) -> Result<()> {
        let mut pass = self.device.pass();
        let Prepared { model, data, evaluation } = prepared;
        let mut meter = Meter::new(&self.clock);
        let mut model = self.starting_model(&mut pass, plan, model, saved.as_ref(), &mut meter)?;
        model.lock(&mut pass, locked(plan))?;
        model.set_packing(plan.text.packing.unwrap_or(true));
        let selector = self.selector(&mut pass, plan, data, &mut meter)?;
        let max_logit_scale = plan.model.max_logit_scale.map(|scale| scale as f32);
        let mut optimizer = Optimizer::new(&mut pass, &model, plan.optimizer.clone(), max_logit_scale)?;
        let (mut progress, mut metrics, mut start) = (Progress::default(), Named::default(), Default::default());
        let loss_scale = saved.as_ref().and_then(|saved| saved.state.loss_scale.clone());
        if let Some(saved) = &saved {
            optimizer.load(&mut pass, &model, &saved.folder)?;
            (progress, metrics, start) = (saved.state.progress, saved.state.metrics(), saved.state.loader.clone());
            saved.state.resume(&mut meter);
        }
        let mut run = Run {
            plan,
            seed: self.plan.seed,
            pass,
            loader: Loader::new(data.clone(), start)?,
            learner: Learner::new(model, optimizer, plan.objective)
                .with_memory(plan.memory)
                .with_distillation(plan.distillation.weight)
                .with_precision(self.plan.precision, loss_scale),
            selector,
            approximation: Approximation::of(&plan.selection, plan.steps, self.plan.seed),
            audit: plan
                .selection
                .audit
                .then(|| Audit::open(&assemble::audit_folder(&self.plan.out, &plan.name), progress.step))
                .transpose()?,
            evaluation: evaluation.clone(),
            checkpoints: Checkpoints::new(checkpoints_folder(&self.plan.out, &plan.name), plan.checkpoint.keep),
            meter,
            progress,
            metrics,
            stop: self.stop.clone(),
            reading: [
                ("tokenizer.json", data.tokenizer.to_json().to_string()),
                ("preprocessor_config.json", data.preprocess.to_json()),
            ],
        };
        let sizes = &plan.selection.sizes;
        events.emit(&Event::RunStarted(RunStarted {
            run: plan.name.clone(),
            first_step: progress.step,
            steps: plan.steps,
            batch_size: sizes.sub_batch(),
            super_batch: sizes.super_batch(),
        }))?;
        // A run that goes on has told so.
        for path in assemble::uncounted(&plan.reference).filter(|_| run.progress.step == 0) {
            let message = format!("{} does not tell what its training took: the run's costs lack it", path.display());
            events.emit(&Event::Warning(Warning { run: plan.name.clone(), step: 0, message }))?;
        }
        run_loop::train(&mut run, events)?;
        conclude(&RunState::of(&run), events)
    }

    fn starting_model(
        &self,
        pass: &mut Pass,
        plan: &RunPlan,
        config: &jest_model::ModelConfig,
        saved: Option<&Saved>,
        meter: &mut Meter<'_>,
    ) -> Result<TwoTowers> {
        match (saved, &plan.init) {
            (Some(saved), _) => {
                let model = TwoTowers::load(pass, &saved.folder)?;
                starting::hold_equal(&saved.folder, model.config(), config)?;
                Ok(model)
            }
            (None, Some(origin)) => {
                let (path, state) = assemble::origin(&self.plan.out, origin)?;
                state.iter().for_each(|state| meter.note_init(state.costs()));
                starting::from(pass, &path, plan, config, self.plan.seed)
            }
            (None, None) => self.towers(pass, plan, config, meter),
        }
    }

    /// Towers of other models, where the plan names them.
    fn towers(
        &self,
        pass: &mut Pass,
        plan: &RunPlan,
        config: &jest_model::ModelConfig,
        meter: &mut Meter<'_>,
    ) -> Result<TwoTowers> {
        let mut towers = Vec::new();
        for (origin, tower) in plan.init_towers.iter().zip([Tower::Image, Tower::Text]) {
            if let Some(origin) = origin {
                let (path, state) = assemble::origin(&self.plan.out, origin)?;
                state.iter().for_each(|state| meter.note_init(state.costs()));
                towers.push((path, tower));
            }
        }
        if towers.is_empty() {
            return Ok(TwoTowers::new(pass, config, self.plan.seed)?);
        }
        let towers: Vec<_> = towers.iter().map(|(path, tower)| (path.as_path(), *tower)).collect();
        starting::from_towers(pass, &towers, plan, config, self.plan.seed)
    }

    fn selector(
        &self,
        pass: &mut Pass,
        plan: &RunPlan,
        data: &jest_data::LoaderConfig,
        meter: &mut Meter<'_>,
    ) -> Result<Box<dyn Selector>> {
        let (selection, seed) = (&plan.selection, self.plan.seed);
        if selection.method.reads() == Reads::Nothing {
            return Ok(Box::new(Uniform));
        }
        let mut references = Vec::new();
        for origin in &plan.reference {
            let (folder, state) = assemble::origin(&self.plan.out, origin)?;
            let mut reference = Reference::load(pass, &folder, data)?;
            state.iter().for_each(|state| meter.charge_reference(state.costs()));
            if selection.cache_reference {
                reference.fill_cache_in_turn(pass, &plan.cache_folder(&self.plan.out), data, meter)?;
            }
            references.push(reference);
        }
        let (kind, tags) = (selection.score, selection.tags.clone());
        let approximation = Approximation::of(selection, plan.steps, seed);
        Ok(Box::new(Scored {
            selection: selection.selection(),
            kind,
            references,
            tags,
            approximation,
            logit_scale_factor: selection.logit_scale_factor,
            seed,
            audit: selection.audit,
            distillation: plan.distillation.weight > 0.0,
        }))
    }

    /// The table on the terminal and the report beside the metrics.
    fn finish(&self) -> Result<()> {
        let path = self.plan.out.join("summary.json");
        let text = fs::read(&path).map_err(TrainError::storage("read", &path))?;
        let summary: Summary =
            serde_json::from_slice(&text).map_err(|source| TrainError::Json { what: "summary.json", source })?;
        say!("{}", table::comparison(&summary));
        let report = super::report::write(self.plan, self.text, &summary, &self.device, &self.clock)?;
        say!("report: {}", report.display());
        if std::io::stdout().is_terminal() {
            say!("summary: {}", path.display());
        }
        Ok(())
    }
}

/// A checkpoint to go on from.
struct Saved {
    state: RunState,
    folder: PathBuf,
}

/// Tells what was left out of a run's data, and that the run has ended.
fn conclude(state: &RunState, events: &mut dyn Events) -> Result<()> {
    let (run, step, skips) = (state.summary.name.clone(), state.progress.step, &state.loader.skips);
    if skips.skipped() > 0 {
        let counts = skips.counts().map(|(reason, count)| (reason.word().to_string(), count)).collect();
        events.emit(&Event::SkippedExamples(SkippedExamples { run: run.clone(), step, counts }))?;
    }
    for skip in skips.first() {
        events.emit(&Event::Warning(Warning { run: run.clone(), step, message: format!("skipped {skip}") }))?;
    }
    events.emit(&Event::RunFinished(RunFinished { run, step, summary: state.summary.clone() }))
}

fn seconds_since_1970() -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// What of the towers is not trained.
fn locked(plan: &RunPlan) -> Locked {
    let model = &plan.model;
    Locked {
        image: model.lock_image,
        text: model.lock_text,
        unlocked_image: model.lock_image_unlocked_groups,
        unlocked_text: model.lock_text_unlocked_layers,
    }
}

//! The plan: every size an integer, every name settled, nothing left to a default.

use std::fmt;
use std::path::PathBuf;

use jest_data::Augmentation;
use jest_kernels::Precision;
use jest_select::{BatchPlan, Method, Reads, ScoreKind, Selection};
use toml::{Table, Value};

use super::raw::{RawRun, RawSchedule, RawSelection};
use super::tables::{
    Approximated, CheckpointPlan, DataPlan, DistillationPlan, EvaluationPlan, LoggingPlan, MemoryPlan, ModelPlan,
    Objective, OptimizerPlan, TextPlan,
};
use super::values::{Gain, Share};
use crate::schedule::{Schedule, ScheduleKind};
use crate::tiles::Tiles;

/// What `train` does, in full.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// `auto`, `cpu`, `gpu`, `gpu:N`, or a part of an adapter's name.
    pub device: String,
    /// Threads of the CPU device.
    pub threads: usize,
    /// Most MiB that all tensors take on a GPU together; all that it grants where absent.
    pub device_mb: Option<u64>,
    /// How products are computed.
    pub precision: Precision,
    /// Seed of parameters, order and noise.
    pub seed: u64,
    /// Times the tiles of products on a real GPU.
    pub autotune: bool,
    /// Tiles that were chosen so.
    pub tiles: Tiles,
    /// The run folder.
    pub out: PathBuf,
    /// Runs, in the order of execution.
    pub runs: Vec<RunPlan>,
}

/// One run of a [`Plan`].
#[derive(Debug, Clone, PartialEq)]
pub struct RunPlan {
    /// Its name, which can name a folder.
    pub name: String,
    /// References, whose scores are averaged; there exactly where the selection reads one.
    pub reference: Vec<Origin>,
    /// Where the learner's first parameters come from; drawn from the seed where absent.
    pub init: Option<Origin>,
    /// Where its image tower's come from, and its text tower's.
    pub init_towers: [Option<Origin>; 2],
    /// Loss of a batch.
    pub objective: Objective,
    /// Updates.
    pub steps: u64,
    /// `[data]`.
    pub data: DataPlan,
    /// `[augmentation]`.
    pub augmentation: Augmentation,
    /// `[text]`.
    pub text: TextPlan,
    /// `[model]`.
    pub model: ModelPlan,
    /// `[selection]` and the batch sizes.
    pub selection: SelectionPlan,
    /// `[distillation]`.
    pub distillation: DistillationPlan,
    /// `[optimizer]`.
    pub optimizer: OptimizerPlan,
    /// `[schedule]`.
    pub schedule: SchedulePlan,
    /// `[memory]`.
    pub memory: MemoryPlan,
    /// `[checkpoint]`.
    pub checkpoint: CheckpointPlan,
    /// `[evaluation]`.
    pub evaluation: EvaluationPlan,
    /// `[logging]`.
    pub logging: LoggingPlan,
}

/// Parameters that exist before a run begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The last checkpoint of an earlier run of the plan.
    Run(String),
    /// A checkpoint folder.
    Checkpoint(PathBuf),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Run(name) => f.write_str(name),
            Self::Checkpoint(folder) => write!(f, "{}", folder.display()),
        }
    }
}

/// How the sub-batch comes out of the super-batch.
#[derive(Debug, Clone, PartialEq)]
pub struct SelectionPlan {
    /// How it is chosen.
    pub method: Method,
    /// What is scored.
    pub score: ScoreKind,
    /// B, b, N and the gain; B = b and N = 1 where the method is uniform, N = 1 where it draws once.
    pub sizes: BatchPlan,
    /// Exchanges of a member, where the method is Gibbs sampling.
    pub gibbs_steps: Option<usize>,
    /// Least cosine, where the method is the CLIP score and has one.
    pub threshold: Option<f32>,
    /// Fields of a sample's JSON that hold tags, where the method reads tags.
    pub tags: Vec<String>,
    /// Whether the reference's embeddings are computed once an example and kept.
    pub cache_reference: bool,
    /// Folder of caches that several runs share; the run folder's own where absent.
    pub reference_cache: Option<PathBuf>,
    /// Whether every choice is written down.
    pub audit: bool,
    /// The cheap view: the learner scores at it.
    pub approximation: Approximated,
    /// Factor on the learner's logit scale in scores.
    pub logit_scale_factor: f32,
    /// Share of a sub-batch that is trained at the cheap view.
    pub cheap_share: f64,
    /// The same in the last update, where it changes on the way.
    pub cheap_share_end: Option<f64>,
}

impl SelectionPlan {
    /// Whether the method and the score read a reference.
    pub fn needs_reference(&self) -> bool {
        match self.method.reads() {
            Reads::Scores => self.score.reference_weight() != 0.0,
            Reads::Losses | Reads::Cosines => true,
            Reads::Tags | Reads::Nothing => false,
        }
    }

    /// Whether learner or reference losses decide, so that the kind of score means something.
    pub fn is_scored(&self) -> bool {
        matches!(self.method.reads(), Reads::Scores | Reads::Losses)
    }

    /// The selection as it is carried out.
    pub fn selection(&self) -> Selection {
        let selection = Selection::new(self.method, self.sizes);
        let selection = self.gibbs_steps.map_or(selection, |steps| selection.with_gibbs_steps(steps));
        self.threshold.map_or(selection, |threshold| selection.with_threshold(threshold))
    }
}

/// `[schedule]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SchedulePlan {
    /// Shape after the warm-up.
    pub kind: ScheduleKind,
    /// Steps of the warm-up.
    pub warmup: u64,
}

impl RunPlan {
    /// The folder of reference caches, in a run folder `out`.
    pub fn cache_folder(&self, out: &std::path::Path) -> PathBuf {
        self.selection.reference_cache.clone().unwrap_or_else(|| out.join("cache"))
    }

    /// b, examples an update.
    pub fn batch_size(&self) -> usize {
        self.selection.sizes.sub_batch()
    }

    /// Learning rate and decay of every step.
    pub fn schedule(&self) -> Schedule {
        Schedule {
            kind: self.schedule.kind,
            warmup: self.schedule.warmup,
            steps: self.steps,
            lr: self.optimizer.lr,
            weight_decay: self.optimizer.weight_decay,
            decay: self.optimizer.decay,
        }
    }

    fn to_raw(&self) -> RawRun {
        let sizes = &self.selection.sizes;
        RawRun {
            name: self.name.clone(),
            reference: self.reference.iter().map(Origin::to_string).collect(),
            init: self.init.as_ref().map(Origin::to_string),
            init_image: self.init_towers[0].as_ref().map(Origin::to_string),
            init_text: self.init_towers[1].as_ref().map(Origin::to_string),
            objective: self.objective,
            batch_size: Some(sizes.sub_batch()),
            steps: Some(self.steps),
            examples: None,
            epochs: None,
            data: self.data.clone(),
            augmentation: self.augmentation,
            text: self.text.clone(),
            model: self.model.clone(),
            selection: RawSelection {
                method: Some(self.selection.method),
                score: self.selection.score,
                filter_ratio: None,
                super_batch: Some(sizes.super_batch()),
                chunks: Some(sizes.chunks()),
                gain: Gain(sizes.gain()),
                gibbs_steps: self.selection.gibbs_steps,
                threshold: self.selection.threshold.map(shortest),
                tags: self.selection.tags.clone(),
                cache_reference: self.selection.cache_reference,
                reference_cache: self.selection.reference_cache.clone(),
                audit: self.selection.audit,
                approximation: self.selection.approximation,
                logit_scale_factor: (self.selection.logit_scale_factor != 1.0)
                    .then(|| shortest(self.selection.logit_scale_factor)),
                cheap_share: (!self.selection.approximation.is_none()).then_some(self.selection.cheap_share),
                cheap_share_end: self.selection.cheap_share_end,
            },
            distillation: self.distillation,
            optimizer: self.optimizer.clone(),
            schedule: RawSchedule { kind: self.schedule.kind, warmup: Share::Steps(self.schedule.warmup) },
            memory: self.memory,
            checkpoint: self.checkpoint.clone(),
            evaluation: self.evaluation.clone(),
            logging: self.logging.clone(),
        }
    }
}

/// The f64 that is written as the f32 is.
fn shortest(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}

impl Plan {
    /// The plan as a configuration that resolves to this plan again; what all runs share stands in shared tables.
    ///
    /// # Errors
    /// A value that TOML cannot hold, such as a seed above 2^63.
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        let mut runs = Vec::new();
        for run in &self.runs {
            runs.push(Table::try_from(run.to_raw())?);
        }
        let mut file = hoist(&mut runs);
        file.insert("device".to_owned(), Value::from(self.device.as_str()));
        file.insert("threads".to_owned(), Value::try_from(self.threads)?);
        if let Some(limit) = self.device_mb {
            file.insert("device_mb".to_owned(), Value::try_from(limit)?);
        }
        file.insert("precision".to_owned(), Value::from(self.precision.to_string()));
        file.insert("seed".to_owned(), Value::try_from(self.seed)?);
        file.insert("autotune".to_owned(), Value::from(self.autotune));
        if !self.tiles.is_empty() {
            file.insert("tiles".to_owned(), Value::try_from(&self.tiles)?);
        }
        file.insert("out".to_owned(), Value::try_from(&self.out)?);
        let runs = Table::from_iter([("run".to_owned(), Value::Array(runs.into_iter().map(Value::Table).collect()))]);
        Ok(format!("{}\n{}", toml::to_string(&file)?, toml::to_string(&runs)?)) // Runs last, after what they share.
    }
}

/// Takes out of `tables` what all of them hold with one value, names of runs apart.
fn hoist(tables: &mut [Table]) -> Table {
    let mut shared = Table::new();
    let Some(first) = tables.first().cloned() else { return shared };
    for (key, value) in first {
        if key == "name" {
            continue;
        }
        if tables.iter().all(|table| table.get(&key) == Some(&value)) {
            tables.iter_mut().for_each(|table| drop(table.remove(&key)));
            shared.insert(key, value);
        } else if tables.iter().all(|table| table.get(&key).is_some_and(Value::is_table)) {
            let mut inner: Vec<Table> = tables.iter_mut().map(|table| take_table(table, &key)).collect();
            shared.insert(key.clone(), Value::Table(hoist(&mut inner)));
            for (table, rest) in tables.iter_mut().zip(inner) {
                table.insert(key.clone(), Value::Table(rest));
            }
        }
    }
    shared.retain(|_, value| value.as_table().is_none_or(|table| !table.is_empty()));
    for table in tables {
        table.retain(|_, value| value.as_table().is_none_or(|table| !table.is_empty()));
    }
    shared
}

fn take_table(table: &mut Table, key: &str) -> Table {
    match table.remove(key) {
        Some(Value::Table(inner)) => inner,
        _ => Table::new(),
    }
}

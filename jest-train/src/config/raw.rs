//! A configuration as it is written: the keys of the file, before sizes and lengths are worked out.

use std::path::PathBuf;

use jest_data::Augmentation;
use jest_kernels::Precision;
use jest_select::{Method, ScoreKind};
use serde::{Deserialize, Serialize};

use super::keys::fields_of;
use super::tables::{
    Approximated, CheckpointPlan, DataPlan, DistillationPlan, EvaluationPlan, LoggingPlan, MemoryPlan, ModelPlan,
    Objective, OptimizerPlan, TextPlan,
};
use super::values::{Gain, Share, one_or_many, optional_word, word};
use crate::schedule::ScheduleKind;
use crate::tiles::Tiles;

/// Keys that hold for all runs.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RunWide {
    pub device: Option<String>,
    pub threads: Option<usize>,
    pub device_mb: Option<u64>,
    #[serde(with = "word")]
    pub precision: Precision,
    pub seed: u64,
    pub autotune: Option<bool>,
    pub tiles: Tiles,
    pub out: Option<PathBuf>,
}

/// Keys of one run, its own and the shared ones merged.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawRun {
    pub name: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[serde(deserialize_with = "one_or_many")]
    pub reference: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init_image: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init_text: Option<String>,
    pub objective: Objective,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch_size: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub examples: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epochs: Option<f64>,
    pub data: DataPlan,
    pub augmentation: Augmentation,
    pub text: TextPlan,
    pub model: ModelPlan,
    pub selection: RawSelection,
    pub distillation: DistillationPlan,
    pub optimizer: OptimizerPlan,
    pub schedule: RawSchedule,
    pub memory: MemoryPlan,
    pub checkpoint: CheckpointPlan,
    pub evaluation: EvaluationPlan,
    pub logging: LoggingPlan,
}

/// `[selection]`; the size B is given, or follows from the filter ratio.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawSelection {
    #[serde(with = "optional_word", skip_serializing_if = "Option::is_none")]
    pub method: Option<Method>,
    #[serde(with = "word")]
    pub score: ScoreKind,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter_ratio: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub super_batch: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chunks: Option<usize>,
    pub gain: Gain,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gibbs_steps: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f64>,
    #[serde(deserialize_with = "one_or_many", skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    pub cache_reference: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference_cache: Option<PathBuf>,
    pub audit: bool,
    #[serde(skip_serializing_if = "Approximated::is_none")]
    pub approximation: Approximated,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logit_scale_factor: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cheap_share: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cheap_share_end: Option<f64>,
}

impl Default for RawSelection {
    fn default() -> Self {
        Self {
            method: None,
            score: ScoreKind::Learnability,
            filter_ratio: None,
            super_batch: None,
            chunks: None,
            gain: Gain::default(),
            gibbs_steps: None,
            threshold: None,
            tags: Vec::new(),
            cache_reference: true,
            reference_cache: None,
            audit: false,
            approximation: Approximated::default(),
            logit_scale_factor: None,
            cheap_share: None,
            cheap_share_end: None,
        }
    }
}

/// `[schedule]`; the warm-up is steps or a share.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawSchedule {
    pub kind: ScheduleKind,
    pub warmup: Share,
}

/// Keys of the table of that name; none where the name is no table of a run.
pub(super) fn fields_of_table(name: &str) -> Option<&'static [&'static str]> {
    Some(match name {
        "data" => fields_of::<DataPlan>(),
        "augmentation" => fields_of::<Augmentation>(),
        "text" => fields_of::<TextPlan>(),
        "model" => fields_of::<ModelPlan>(),
        "selection" => fields_of::<RawSelection>(),
        "approximation" => fields_of::<Approximated>(),
        "distillation" => fields_of::<DistillationPlan>(),
        "optimizer" => fields_of::<OptimizerPlan>(),
        "schedule" => fields_of::<RawSchedule>(),
        "memory" => fields_of::<MemoryPlan>(),
        "checkpoint" => fields_of::<CheckpointPlan>(),
        "evaluation" => fields_of::<EvaluationPlan>(),
        "logging" => fields_of::<LoggingPlan>(),
        _ => return None,
    })
}

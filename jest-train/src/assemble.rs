//! From a plan to the things a run works with.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use jest_data::{
    Captions, Fields, Limits, LoaderConfig, Preprocess, Shuffle, Source, SourceOptions, Subset, Tokenizer,
};
use jest_model::{Family, ModelConfig, Preset};

use crate::approximation::Approximation;
use crate::checkpoint::folder_name;
use crate::config::{self, ConfigError, DataPlan, Origin, Plan, RunPlan};
use crate::evaluation::Evaluation;
use crate::events::Checkpointed;
use crate::reference;
use crate::run_state::RunState;
use crate::{Result, TrainError};

/// Where a run's checkpoints lie.
pub fn checkpoints_folder(out: &Path, run: &str) -> PathBuf {
    out.join("checkpoints").join(run)
}

/// Where the audit of a run lies.
pub fn audit_folder(out: &Path, run: &str) -> PathBuf {
    out.join("audit").join(run)
}

/// Notice of a checkpoint, by its path in the run folder: equal runs give equal notices wherever they lie.
pub fn checkpointed(run: &str, step: u64) -> Checkpointed {
    let path = checkpoints_folder(Path::new(""), run).join(folder_name(step));
    Checkpointed { run: run.to_string(), step, path }
}

/// The tokenizer of a run, with its canonicaliser.
///
/// # Errors
/// `NoTokenizer` when none is named; `MissingTokenizer` when it is not there; `Data` when the file is none.
pub fn tokenizer(text: &config::TextPlan) -> Result<Tokenizer> {
    let path = text.tokenizer.as_ref().ok_or(TrainError::NoTokenizer)?;
    let mut tokenizer = match path.to_str() {
        Some("clip") => Tokenizer::clip()?,
        _ if !path.exists() => return Err(TrainError::MissingTokenizer { path: path.clone() }),
        _ => Tokenizer::open(path)?,
    };
    if let Some(pad) = text.pad_id {
        tokenizer = tokenizer.with_pad(pad)?;
    }
    let rule = match text.canonicalize {
        config::Canonicalize::None => return Ok(tokenizer),
        config::Canonicalize::Lower => jest_data::Canonicalize::Lower,
        config::Canonicalize::BigVision => jest_data::Canonicalize::BigVision,
        config::Canonicalize::OpenClip => jest_data::Canonicalize::OpenClip,
        config::Canonicalize::Hf => jest_data::Canonicalize::Hf,
        config::Canonicalize::Clip => jest_data::Canonicalize::Clip,
    };
    Ok(tokenizer.with_canonicalize(rule)?)
}

/// The model of a run: its preset with what the plan changes; the vocabulary is the tokenizer's unless set.
///
/// # Errors
/// `Model` when sizes do not fit each other; `Vocabulary` when the tokenizer has more ids than the model.
pub fn model_config(run: &RunPlan, tokenizer: &Tokenizer) -> Result<ModelConfig> {
    let (plan, preset) = (&run.model, run.model.preset.parse::<Preset>()?);
    let mut config = preset.config();
    config = match plan.family {
        Family::Siglip => config,
        Family::Clip => config.into_clip(),
        Family::Dual => {
            let start = (config.init_logit_scale, config.init_logit_bias);
            let mut dual = config.into_dual();
            // The logits of the sigmoid loss begin as SigLIP's do.
            if run.objective == config::Objective::Sigmoid {
                (dual.init_logit_scale, dual.init_logit_bias) = start;
            }
            dual
        }
    };
    let set = |slot: &mut usize, value: Option<usize>| *slot = value.unwrap_or(*slot);
    set(&mut config.vision.image_size, plan.image_size);
    set(&mut config.vision.patch_size, plan.patch_size);
    set(&mut config.text.tokens, plan.text_tokens);
    let (vision, text) = (&mut config.vision, &mut config.text);
    for (vision, text, both, own) in [
        (&mut vision.width, &mut text.width, plan.width, plan.text_width),
        (&mut vision.depth, &mut text.depth, plan.depth, plan.text_depth),
        (&mut vision.num_heads, &mut text.num_heads, plan.num_heads, plan.text_num_heads),
        (&mut vision.mlp_dim, &mut text.mlp_dim, plan.mlp_dim, plan.text_mlp_dim),
    ] {
        set(vision, both);
        set(text, own.or(both));
    }
    config.embedding_dim = plan.embedding_dim;
    if let Some(gelu) = plan.gelu {
        (config.vision.gelu, config.text.gelu) = (gelu, gelu);
    }
    config.text.vocab_size = plan.vocab_size.unwrap_or(tokenizer.vocab_size());
    if config.text.vocab_size < tokenizer.vocab_size() {
        let (model, tokenizer) = (config.text.vocab_size, tokenizer.vocab_size());
        return Err(TrainError::Vocabulary { model, tokenizer });
    }
    config.text.padding = match run.text.padding {
        config::Padding::Attended => config.text.padding,
        config::Padding::Masked => jest_model::TextPadding::Masked,
    };
    config.text.pool = match run.text.pool {
        None => config.text.pool,
        Some(config::TextPool::Last) => jest_model::TextPool::Last,
        Some(config::TextPool::Eos) => jest_model::TextPool::Eos,
        Some(config::TextPool::Mean) => jest_model::TextPool::Mean,
        Some(config::TextPool::Pooler) => jest_model::TextPool::Pooler,
    };
    config.text.eos_id = tokenizer.eos_id().unwrap_or(config.text.eos_id);
    let scalar = |slot: &mut f32, value: Option<f64>| *slot = value.map_or(*slot, |value| value as f32);
    scalar(&mut config.init_logit_scale, plan.init_logit_scale);
    scalar(&mut config.init_logit_bias, plan.init_logit_bias);
    config.validate()?;
    let view = Approximation::of(&run.selection, run.steps, 0).scoring(0);
    view.validate(&config).map_err(|source| ConfigError::View { run: run.name.clone(), source })?;
    Ok(config)
}

/// The sources of a run.
///
/// # Errors
/// `Data` when a source names no shard.
pub(crate) fn sources(data: &DataPlan) -> jest_data::Result<Vec<Source>> {
    let options = SourceOptions {
        image_key: data.csv_img_key.clone(),
        caption_key: data.csv_caption_key.clone(),
        separator: data.csv_separator,
        remote: None,
    };
    let mut sources = Vec::new();
    for spec in &data.train {
        sources.extend(Source::parse_list_with(spec, &options)?);
    }
    Ok(sources)
}

fn subset(data: &DataPlan) -> jest_data::Result<Option<Subset>> {
    data.subset.as_deref().map(Subset::open).transpose()
}

/// How many examples an epoch over these data has, about: skipped ones are counted, and of a source that is weighed less than
/// another its share.
///
/// # Errors
/// `Source`, `Table` or `Io`, as [`Source::parse_list`] and [`Source::count`] say.
pub fn count_examples(data: &DataPlan) -> jest_data::Result<u64> {
    let most = data.upsampling_factors.iter().copied().fold(0.0, f64::max);
    let mut count = 0.0;
    for (i, source) in sources(data)?.iter().enumerate() {
        let share = data.upsampling_factors.get(i).map_or(1.0, |factor| factor / most);
        count += source.count()? as f64 * share;
    }
    let subset = subset(data)?.map_or(u64::MAX, |subset| subset.len());
    Ok((count.round() as u64).min(subset))
}

/// How a run's examples are read.
///
/// # Errors
/// `Data` when a source names no shard.
pub fn loader_config(plan: &Plan, run: &RunPlan, model: &ModelConfig, tokenizer: Tokenizer) -> Result<LoaderConfig> {
    let data = &run.data;
    let preprocess = Preprocess {
        size: model.vision.image_size,
        mean: data.image_mean,
        std: data.image_std,
        resize_mode: data.resize_mode,
        interpolation: data.interpolation,
    };
    let mut config = LoaderConfig::new(sources(data)?, preprocess, Arc::new(tokenizer), model.text.tokens);
    config.seed = plan.seed;
    // The next super-batch is made ready while this one is trained on.
    config.prefetch = config.prefetch.max(run.selection.sizes.super_batch());
    config.workers = data.workers;
    config.shuffle = Shuffle { shards: true, buffer: data.shuffle_buffer };
    choose(&mut config, data)?;
    config.weights = data.upsampling_factors.clone();
    config.cache_bytes = data.cache_mb << 20;
    Ok(config)
}

/// Which of the samples are examples, and with which captions.
///
/// # Errors
/// `Data` when the subset cannot be read.
pub(crate) fn choose(config: &mut LoaderConfig, data: &DataPlan) -> jest_data::Result<()> {
    config.captions = Captions { choice: data.captions, json_keys: data.json_text_key.clone() };
    config.subset = subset(data)?.map(Arc::new);
    config.fields = Fields::parse(&data.r#where)?;
    config.limits = Limits {
        member_bytes: data.max_member_mb << 20,
        image_pixels: data.max_image_pixels,
        caption_bytes: data.max_caption_bytes,
        max_skipped_share: data.max_skipped_share,
        max_missing_shards: data.max_missing_shards,
        ..Limits::default()
    };
    Ok(())
}

/// What a run reads, and the sizes of what it trains.
#[derive(Debug)]
pub struct Prepared {
    /// The model.
    pub model: ModelConfig,
    /// Its examples.
    pub data: LoaderConfig,
    /// Its tasks.
    pub evaluation: Evaluation,
}

/// Works out all runs before the first begins, so that a fault in the last does not cost the others' time.
///
/// # Errors
/// As [`tokenizer`], [`model_config`], [`loader_config`]; `Data` when a run has no shard or a task is none; `Unfit` when
/// a reference does not read what its learner reads.
pub fn prepare(plan: &Plan) -> Result<Vec<Prepared>> {
    let mut all: Vec<Prepared> = Vec::new();
    for run in &plan.runs {
        let tokenizer = tokenizer(&run.text)?;
        let model = model_config(run, &tokenizer)?;
        let data = loader_config(plan, run, &model, tokenizer)?;
        data.check()?;
        for origin in &run.reference {
            match origin {
                Origin::Checkpoint(folder) => reference::check(folder, &data)?,
                Origin::Run(name) => {
                    let earlier = plan.runs.iter().position(|earlier| earlier.name == *name).and_then(|at| all.get(at));
                    if let Some(Prepared { model, data: own, .. }) = earlier {
                        let folder = checkpoints_folder(&plan.out, name);
                        reference::fit(&folder, model, Some(&own.tokenizer), Some(own.preprocess), &data)?;
                    }
                }
            }
        }
        all.push(Prepared { model, evaluation: Evaluation::open(&run.evaluation.tasks, &data)?, data });
    }
    Ok(all)
}

/// The folder of an earlier run's newest checkpoint, or the folder that was named, and its state when it has one.
///
/// # Errors
/// `NoCheckpoint` when the run has none that is whole.
pub fn origin(out: &Path, origin: &Origin) -> Result<(PathBuf, Option<RunState>)> {
    match origin {
        Origin::Run(name) => {
            let folder = checkpoints_folder(out, name);
            let (newest, _) = crate::checkpoint::Checkpoints::new(folder.clone(), 1).newest()?;
            let found = newest.ok_or(TrainError::NoCheckpoint { path: folder })?;
            let state = RunState::read(&found.path)?;
            Ok((found.path, Some(state)))
        }
        Origin::Checkpoint(path) => {
            if RunState::is_in(path) {
                crate::checkpoint::verify(path)?;
                return Ok((path.clone(), Some(RunState::read(path)?)));
            }
            Ok((path.clone(), None))
        }
    }
}

/// References that hold no record of what it took to train them, as models of other libraries.
pub fn uncounted(references: &[Origin]) -> impl Iterator<Item = &Path> {
    references.iter().filter_map(|origin| match origin {
        Origin::Checkpoint(path) if !RunState::is_in(path) => Some(path.as_path()),
        _ => None,
    })
}

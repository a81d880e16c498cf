//! What the types cannot say about one run.

use jest_model::Family;
use toml::Table;

use super::ConfigError;
use super::plan::RunPlan;
use super::tables::{Objective, Padding, TextPool};
use jest_select::{Method, ScoreKind};

/// Refuses a name that cannot name a folder, and one that an earlier run has.
pub(super) fn name(name: &str, earlier: &[String]) -> Result<(), ConfigError> {
    let begins = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    if !begins || !name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)) {
        return Err(ConfigError::RunName { name: name.to_owned() });
    }
    if earlier.iter().any(|other| other == name) {
        return Err(ConfigError::SameName { name: name.to_owned() });
    }
    Ok(())
}

/// Refuses what is missing, out of range, or does not go together.
pub(super) fn run(run: &RunPlan) -> Result<(), ConfigError> {
    if run.data.train.is_empty() {
        return Err(ConfigError::NoData { run: run.name.clone() });
    }
    if run.model.preset.is_empty() {
        let remedy = "set model.preset or --model";
        return Err(ConfigError::Missing { run: run.name.clone(), key: "model.preset", remedy });
    }
    if run.schedule.warmup > run.steps {
        return Err(ConfigError::Warmup { run: run.name.clone(), warmup: run.schedule.warmup, steps: run.steps });
    }
    let without_bias = match run.model.family {
        Family::Siglip => None,
        Family::Clip => Some("model.family = \"clip\""),
        Family::Dual => (run.model.init_logit_bias == Some(0.0)).then_some("model.init_logit_bias = 0"),
    };
    if let Some(other) = without_bias.filter(|_| run.objective == Objective::Sigmoid) {
        return Err(ConfigError::Apart {
            run: run.name.clone(),
            key: "objective = \"sigmoid\"",
            other: other.to_string(),
            remedy: "it has no logit_bias; set objective = \"softmax\"",
        });
    }
    towers(run)?;
    if run.text.packing == Some(true) && !reads_ends(run) {
        return Err(ConfigError::Apart {
            run: run.name.clone(),
            key: "text.packing",
            other: "text.padding = \"attended\" or text.pool = \"last\"".to_string(),
            remedy: "padding reaches the embedding there, as SigLIP was published; set padding = \"masked\" and pool = \"eos\", or leave it out",
        });
    }
    run.augmentation.check().map_err(|source| ConfigError::Data { run: run.name.clone(), source })?;
    selection(run)?;
    distillation(run)?;
    for (key, value, fits, expected) in ranges(run) {
        if !fits {
            return Err(ConfigError::Range { run: run.name.clone(), key, value, expected });
        }
    }
    Ok(())
}

/// The keys of `[selection]` among those that are set which the run's method does not read; not those that say what is so anyway.
pub(super) fn unread(run: &RunPlan, set: &Table) -> Vec<&'static str> {
    let (method, sizes) = (run.selection.method, &run.selection.sizes);
    let draws = matches!(method, Method::Joint | Method::Independent | Method::IndependentRowSum | Method::Gibbs);
    let set = |key: &str| {
        let value = set.get("selection").and_then(|table| table.get(key))?;
        Some(value.as_float().or(value.as_integer().map(|value| value as f64)).unwrap_or(f64::INFINITY))
    };
    let uniform = method == Method::Uniform;
    let unread = [
        ("filter_ratio", uniform, 0.0),
        ("super_batch", uniform, sizes.sub_batch() as f64),
        ("chunks", !method.in_chunks(), 1.0),
        ("gain", !draws, 1.0),
        ("logit_scale_factor", !run.selection.is_scored(), 1.0),
    ];
    let told = |(key, unread, anyway): &(&str, bool, f64)| *unread && set(key).is_some_and(|value| value != *anyway);
    unread.into_iter().filter(told).map(|(key, ..)| key).collect()
}

/// Refuses towers that come from two places, and locked ones that come from none.
fn towers(run: &RunPlan) -> Result<(), ConfigError> {
    let keys = [
        ("init_image", "model.lock_image", run.model.lock_image),
        ("init_text", "model.lock_text", run.model.lock_text),
    ];
    for ((key, lock, locked), origin) in keys.into_iter().zip(&run.init_towers) {
        if run.init.is_some() && origin.is_some() {
            let remedy = "init has both towers; leave one of them out";
            return Err(ConfigError::Apart { run: run.name.clone(), key, other: "init".to_string(), remedy });
        }
        if locked && run.init.is_none() && origin.is_none() {
            let (other, remedy) =
                ("a tower drawn from the seed".to_string(), "name its weights in init, init_image or init_text");
            return Err(ConfigError::Apart { run: run.name.clone(), key: lock, other, remedy });
        }
    }
    let model = &run.model;
    for (key, groups, locked) in [
        ("model.lock_image_unlocked_groups", model.lock_image_unlocked_groups, model.lock_image),
        ("model.lock_text_unlocked_layers", model.lock_text_unlocked_layers, model.lock_text),
    ] {
        if groups > 0 && !locked {
            let (other, remedy) = ("a tower that is not locked".to_string(), "lock it, or leave the key out");
            return Err(ConfigError::Apart { run: run.name.clone(), key, other, remedy });
        }
    }
    Ok(())
}

/// Refuses distillation from what the selection does not embed.
fn distillation(run: &RunPlan) -> Result<(), ConfigError> {
    let (method, key) = (run.selection.method, "distillation.weight");
    if run.distillation.weight == 0.0 {
        return Ok(());
    }
    if !run.selection.needs_reference() || method == Method::Rho {
        let other = format!("selection.method = \"{method}\" and selection.score = \"{}\"", run.selection.score);
        let remedy = "they leave no embeddings of a reference to learn from; use \"joint\" with \"learnability\" or \"easy_reference\", with super_batch = batch_size for every example";
        return Err(ConfigError::Apart { run: run.name.clone(), key, other, remedy });
    }
    if run.reference.len() > 1 {
        let other = format!("{} references", run.reference.len());
        return Err(ConfigError::Apart { run: run.name.clone(), key, other, remedy: "one teaches; name one" });
    }
    Ok(())
}

/// Refuses keys of `[selection]` that its method does not read, and methods that the objective does not allow.
fn selection(run: &RunPlan) -> Result<(), ConfigError> {
    let selection = &run.selection;
    let method = selection.method;
    let apart = |key, remedy| {
        let other = format!("selection.method = \"{method}\"");
        Err(ConfigError::Apart { run: run.name.clone(), key, other, remedy })
    };
    if method == Method::Gibbs && run.objective == Objective::Softmax {
        return apart("objective = \"softmax\"", "its log-sum-exps cannot be taken back; use \"sigmoid\" or \"joint\"");
    }
    if selection.gibbs_steps.is_some() && method != Method::Gibbs {
        return apart("selection.gibbs_steps", "only \"gibbs\" reads it; leave it out");
    }
    if selection.threshold.is_some() && method != Method::ClipScore {
        return apart("selection.threshold", "only \"clip_score\" reads it; leave it out");
    }
    if let Some(threshold) = selection.threshold.filter(|threshold| !(-1.0..=1.0).contains(threshold)) {
        let (key, value) = ("selection.threshold", f64::from(threshold));
        return Err(ConfigError::Range { run: run.name.clone(), key, value, expected: "a cosine is between -1 and 1" });
    }
    if !selection.tags.is_empty() && method != Method::Cabs {
        return apart("selection.tags", "only \"cabs\" reads them; leave them out");
    }
    if selection.reference_cache.is_some() && !selection.cache_reference {
        let (key, other) = ("selection.reference_cache", "selection.cache_reference = false".to_owned());
        let remedy = "nothing would be read from it; leave one of them out";
        return Err(ConfigError::Apart { run: run.name.clone(), key, other, remedy });
    }
    cheap(run)?;
    if method == Method::Rho && selection.score != ScoreKind::Learnability {
        return apart(
            "selection.score",
            "it takes the reference's loss off the learner's; leave score out, or use \"top_k\"",
        );
    }
    learner_logits(run)
}

/// Refuses a factor out of range, and one where scores read no loss of the learner.
fn learner_logits(run: &RunPlan) -> Result<(), ConfigError> {
    let (selection, key) = (&run.selection, "selection.logit_scale_factor");
    let factor = selection.logit_scale_factor;
    if !(factor > 0.0 && factor.is_finite()) {
        let expected = "a factor on the logit scale is above 0 and finite";
        return Err(ConfigError::Range { run: run.name.clone(), key, value: f64::from(factor), expected });
    }
    if factor != 1.0 && selection.is_scored() && selection.score.learner_weight() == 0.0 {
        let other = format!("selection.score = \"{}\"", selection.score);
        let remedy = "it reads no loss of the learner; leave one of them out";
        return Err(ConfigError::Apart { run: run.name.clone(), key, other, remedy });
    }
    Ok(())
}

/// What of a run's examples is scored and trained at a cheap view, and when.
fn cheap(run: &RunPlan) -> Result<(), ConfigError> {
    let selection = &run.selection;
    let (approximation, share) = (selection.approximation, selection.cheap_share);
    let shares =
        [("selection.cheap_share", share), ("selection.cheap_share_end", selection.cheap_share_end.unwrap_or(0.0))];
    if let Some((key, value)) = shares.into_iter().find(|(_, share)| !(0.0..=1.0).contains(share)) {
        return Err(ConfigError::Range { run: run.name.clone(), key, value, expected: "a share is between 0 and 1" });
    }
    if let Some((key, _)) = shares.into_iter().find(|(_, share)| approximation.is_none() && *share > 0.0) {
        let other = "a full view".to_owned();
        let remedy = "set selection.approximation, such as { patch_size = 16 }, or leave it out";
        return Err(ConfigError::Apart { run: run.name.clone(), key, other, remedy });
    }
    if approximation.text_tokens.is_some() && !reads_ends(run) {
        let key = "selection.approximation.text_tokens";
        let other = "text.padding = \"attended\" or text.pool = \"last\"".to_owned();
        let remedy =
            "every position is read there, padding too; set padding = \"masked\" and pool = \"eos\", or leave it out";
        return Err(ConfigError::Apart { run: run.name.clone(), key, other, remedy });
    }
    Ok(())
}

/// Whether a text is read by what does not see its padding: masked attention, as always in family dual, or a causal text.
fn reads_ends(run: &RunPlan) -> bool {
    run.model.family != Family::Siglip || (run.text.padding, run.text.pool) == (Padding::Masked, Some(TextPool::Eos))
}

fn ranges(run: &RunPlan) -> [(&'static str, f64, bool, &'static str); 14] {
    let (data, optimizer) = (&run.data, &run.optimizer);
    let share = "a share is between 0 and 1";
    let mean = "a decay of a mean is at least 0 and below 1";
    let one = "at least 1";
    let micro_batch = run.memory.micro_batch.unwrap_or(1);
    let not_negative = |value: f64| value >= 0.0 && value.is_finite();
    [
        ("optimizer.lr", optimizer.lr, not_negative(optimizer.lr), "a learning rate is at least 0 and finite"),
        ("optimizer.beta1", optimizer.beta1, (0.0..1.0).contains(&optimizer.beta1), mean),
        ("optimizer.beta2", optimizer.beta2, (0.0..1.0).contains(&optimizer.beta2), mean),
        ("optimizer.eps", optimizer.eps, optimizer.eps > 0.0 && optimizer.eps.is_finite(), "it is above 0 and finite"),
        (
            "optimizer.weight_decay",
            optimizer.weight_decay,
            not_negative(optimizer.weight_decay),
            "weight decay is at least 0 and finite",
        ),
        (
            "optimizer.grad_clip_norm",
            optimizer.grad_clip_norm,
            optimizer.grad_clip_norm > 0.0,
            "a norm to clip to is above 0; inf never clips",
        ),
        ("data.max_skipped_share", data.max_skipped_share, (0.0..=1.0).contains(&data.max_skipped_share), share),
        ("data.workers", data.workers as f64, data.workers >= 1, one),
        (
            "data.shuffle_buffer",
            data.shuffle_buffer as f64,
            data.shuffle_buffer >= 1,
            "at least 1, which keeps the order",
        ),
        ("data.max_caption_bytes", data.max_caption_bytes as f64, data.max_caption_bytes >= 1, one),
        (
            "distillation.weight",
            run.distillation.weight,
            not_negative(run.distillation.weight),
            "a weight is at least 0 and finite",
        ),
        ("memory.micro_batch", micro_batch as f64, micro_batch >= 1, one),
        ("checkpoint.keep", run.checkpoint.keep as f64, run.checkpoint.keep >= 1, "the last checkpoint is always kept"),
        ("logging.every", run.logging.every as f64, run.logging.every >= 1, one),
    ]
}

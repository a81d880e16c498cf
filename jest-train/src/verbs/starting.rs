//! The parameters a run begins with: drawn from the seed, or those of other models at the sizes of the run.

use std::path::Path;

use jest_kernels::Pass;
use jest_model::{Family, Fate, Import, ModelConfig, NewSizes, Report, Resizing, Tower, TowerImport, TwoTowers};

use super::run_folder::first_difference;
use crate::config::RunPlan;
use crate::say::tell;
use crate::{Result, TrainError};

/// The model in a folder or file, at the sizes of the run; what had to be resized is said.
///
/// # Errors
/// `OtherModel` for a model that differs in more than sizes; `Model` for what cannot be read or resized.
pub(super) fn from(pass: &mut Pass, path: &Path, plan: &RunPlan, config: &ModelConfig, seed: u64) -> Result<TwoTowers> {
    read(pass, Import::open(path)?, path, plan, config, seed)
}

/// A model with towers of others, where they are named; what they do not hold is drawn from the seed.
///
/// # Errors
/// As [`from`].
pub(super) fn from_towers(
    pass: &mut Pass,
    towers: &[(&Path, Tower)],
    plan: &RunPlan,
    config: &ModelConfig,
    seed: u64,
) -> Result<TwoTowers> {
    let open = |(path, tower): &(&Path, Tower)| Ok(TowerImport::open(path, *tower)?);
    let opened = towers.iter().map(open).collect::<Result<Vec<_>>>()?;
    let path = towers.first().map_or(Path::new(""), |(path, _)| path);
    read(pass, Import::towers(config, opened, seed)?, path, plan, config, seed)
}

fn read(
    pass: &mut Pass,
    mut source: Import,
    path: &Path,
    plan: &RunPlan,
    config: &ModelConfig,
    seed: u64,
) -> Result<TwoTowers> {
    let refuse = |difference| Err(TrainError::OtherModel { path: path.to_path_buf(), difference });
    let (stored, run) = (source.config().text.vocab_size, config.text.vocab_size);
    if stored != run && plan.model.vocab_size.is_none() {
        return refuse(format!(
            "a vocabulary of {stored} where the run's tokenizer has {run}; name the tokenizer of the weights, or keep rows by id \
             with model.vocab_size = {run}"
        ));
    }
    let sizes = NewSizes {
        image_size: Some(config.vision.image_size),
        patch_size: Some(config.vision.patch_size),
        text_tokens: Some(config.text.tokens),
        vocab_size: Some(run),
    };
    let (interpolation, text_positions) = (plan.model.init_interpolation, plan.model.init_text_positions);
    source.resize(&sizes, Resizing { interpolation, text_positions, seed })?;
    hold_equal(path, source.config(), config)?;
    if plan.model.lock_text && run > stored {
        return refuse(format!(
            "a vocabulary of {stored}, and the rows of the other {} tokens would be locked as they are drawn; train the tower",
            run - stored
        ));
    }
    let mut report = Report::default();
    let model = source.read(pass, &mut report)?;
    for line in report.resized() {
        tell!("note: run \"{}\" resizes {line}", plan.name);
    }
    for (locked, projection) in
        [(plan.model.lock_image, "visual_projection.weight"), (plan.model.lock_text, "text_projection.weight")]
    {
        let trained = config.family == Family::Dual;
        if locked && !trained && report.0.get(projection) == Some(&Fate::Drawn) {
            return refuse(format!("no {projection}, which would be locked as it is drawn; train the tower"));
        }
    }
    Ok(model)
}

/// Refuses a model that differs from the plan in more than where t and the bias started.
pub(super) fn hold_equal(path: &Path, found: &ModelConfig, expected: &ModelConfig) -> Result<()> {
    let mut found = found.clone();
    (found.init_logit_scale, found.init_logit_bias) = (expected.init_logit_scale, expected.init_logit_bias);
    let (found, expected) = (found.to_hf_json(), expected.to_hf_json());
    if found == expected {
        return Ok(());
    }
    Err(TrainError::OtherModel { path: path.to_path_buf(), difference: first_difference(&expected, &found) })
}

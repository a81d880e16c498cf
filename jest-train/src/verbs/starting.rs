//! The parameters a run begins with: drawn from the seed, or those of another model at the sizes of the run.

use std::path::Path;

use jest_kernels::Pass;
use jest_model::{Import, ModelConfig, NewSizes, Report, Resizing, TwoTowers};

use super::train::first_difference;
use crate::config::RunPlan;
use crate::{Result, TrainError};

/// The model in a folder or file, at the sizes of the run; what had to be resized is said.
///
/// # Errors
/// `OtherModel` for a model that differs in more than sizes; `Model` for what cannot be read or resized.
pub(super) fn from(pass: &mut Pass, path: &Path, plan: &RunPlan, config: &ModelConfig, seed: u64) -> Result<TwoTowers> {
    let mut source = Import::open(path)?;
    let (stored, run) = (source.config().text.vocab_size, config.text.vocab_size);
    if stored != run && plan.model.vocab_size.is_none() {
        let difference = format!(
            "a vocabulary of {stored} where the run's tokenizer has {run}; name the tokenizer of the weights, or keep rows by id \
             with model.vocab_size = {run}"
        );
        return Err(TrainError::OtherModel { path: path.to_path_buf(), difference });
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
    let mut report = Report::default();
    let model = source.read(pass, &mut report)?;
    for line in report.resized() {
        eprintln!("note: run \"{}\" resizes {line}", plan.name);
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

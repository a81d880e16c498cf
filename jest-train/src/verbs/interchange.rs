//! `jest import` and `jest export`: models in the files of other libraries.

use std::fs;
use std::path::{Path, PathBuf};

use jest_data::Preprocess;
use jest_model::{Format, Import, ModelConfig, NewSizes, Report, Resizing, Tower, TowerImport, TwoTowers};

use serde_json::{Value, json};

use super::open;
use crate::checkpoint::{self, Checkpoints};
use crate::cli::{ExportArgs, ExportFormat, ImportArgs};
use crate::say::say;
use crate::{Result, TrainError, storage};

const TOKENIZER: &str = "tokenizer.json";
const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
const PREPROCESSOR: &str = "preprocessor_config.json";

/// Writes a folder that every verb reads, and says what became of every tensor.
pub(super) fn import(args: &ImportArgs) -> Result<()> {
    let device = open::open_device("cpu", 0, jest_kernels::Precision::F32)?;
    let mut pass = device.pass();
    let mut report = Report::default();
    let mut source = match &args.text {
        None => Import::open(&args.source)?,
        Some(text) => {
            let (image, text) = (TowerImport::open(&args.source, Tower::Image)?, TowerImport::open(text, Tower::Text)?);
            Import::join(image, text, args.seed)?
        }
    };
    let ImportArgs { image_size, patch_size, text_tokens, vocab_size, .. } = *args;
    let ImportArgs { interpolation, text_positions, seed, .. } = *args;
    source.resize(
        &NewSizes { image_size, patch_size, text_tokens, vocab_size },
        Resizing { interpolation, text_positions, seed },
    )?;
    let model = source.read(&mut pass, &mut report);
    say!("{report}");
    model?.save(&mut pass, &args.folder, &[("producer".to_string(), "jest".to_string())].into())?;
    // Beside a file of weights as in a folder of them.
    let beside = |path: &Path| if path.is_dir() { path.to_path_buf() } else { path.with_file_name("") };
    copy_tokenizer(&beside(args.text.as_ref().unwrap_or(&args.source)), &args.folder)?;
    let pixels =
        Preprocess { size: source.config().vision.image_size, ..pixels(&beside(&args.source), source.config())? };
    storage::write_atomic(args.folder.join(PREPROCESSOR), pixels.to_json().as_bytes())?;
    say!("{}", args.folder.display());
    Ok(())
}

/// Writes a model's folder as another library reads it.
pub(super) fn export(args: &ExportArgs) -> Result<()> {
    let folder = model_folder(&args.source)?;
    if folder.join(checkpoint::CHECKSUMS).exists() {
        checkpoint::verify(&folder)?;
    }
    let device = open::open_device("cpu", 0, jest_kernels::Precision::F32)?;
    let mut pass = device.pass();
    let model = TwoTowers::load(&mut pass, &folder)?;
    let pixels = pixels(&folder, model.config())?;
    let preprocess_cfg = &pixels.to_open_clip();
    let format = match args.format {
        ExportFormat::Hf => Format::HuggingFace,
        ExportFormat::OpenClip => Format::OpenClip { preprocess_cfg },
        ExportFormat::Onnx => Format::Onnx,
    };
    model.export(&mut pass, &args.folder, format, &[("producer".to_string(), "jest".to_string())].into())?;
    if args.format != ExportFormat::OpenClip {
        storage::write_atomic(args.folder.join(PREPROCESSOR), pixels.to_json().as_bytes())?;
    }
    copy_tokenizer(&folder, &args.folder)?;
    tokenizer_config(&args.folder, model.config())?;
    say!("{}: {} of {}", args.folder.display(), args.format.word(), folder.display());
    Ok(())
}

/// A folder with a model; of a run folder, the newest whole checkpoint of its last run.
fn model_folder(source: &Path) -> Result<PathBuf> {
    let runs = source.join("checkpoints");
    if source.join("config.json").exists() || !runs.exists() {
        return Ok(source.to_path_buf());
    }
    let entries = fs::read_dir(&runs).map_err(TrainError::storage("list", &runs))?;
    let mut newest: Option<(std::time::SystemTime, PathBuf)> = None;
    for entry in entries {
        let folder = entry.map_err(TrainError::storage("list", &runs))?.path();
        let Some(found) = Checkpoints::new(folder, 1).newest()?.0 else { continue };
        let written = fs::metadata(&found.path).and_then(|data| data.modified());
        let written = written.map_err(TrainError::storage("read", &found.path))?;
        if newest.as_ref().is_none_or(|(other, _)| written > *other) {
            newest = Some((written, found.path));
        }
    }
    newest.map(|(_, path)| path).ok_or(TrainError::NoCheckpoint { path: runs })
}

/// How the model's pictures are made, as its folder says; SigLIP's way where it says nothing.
fn pixels(folder: &Path, config: &ModelConfig) -> Result<Preprocess> {
    Ok(Preprocess::open(folder)?.unwrap_or(Preprocess::siglip(config.vision.image_size)))
}

/// The tokenizer belongs to the model.
fn copy_tokenizer(from: &Path, to: &Path) -> Result<()> {
    let path = from.join(TOKENIZER);
    if !path.is_file() {
        say!("note: no {TOKENIZER} beside the weights; put the model's own into {}", to.display());
        return Ok(());
    }
    let bytes = fs::read(&path).map_err(TrainError::storage("read", &path))?;
    storage::write_atomic(to.join(TOKENIZER), &bytes)
}

/// Writes what transformers and open_clip ask for beside `tokenizer.json`: which class reads it, what pads, how long a text may be.
fn tokenizer_config(folder: &Path, config: &ModelConfig) -> Result<()> {
    let path = folder.join(TOKENIZER);
    let Ok(bytes) = fs::read(&path) else { return Ok(()) };
    let json: Value =
        serde_json::from_slice(&bytes).map_err(|source| jest_model::ModelError::Json { path: path.clone(), source })?;
    let mut told = json!({
        "tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": config.text.tokens, "padding_side": "right",
        "model_input_names": ["input_ids"], "clean_up_tokenization_spaces": false,
    });
    if let Some(pad) = json.pointer("/padding/pad_token").filter(|pad| pad.is_string()) {
        told["pad_token"] = pad.clone();
    }
    storage::write_atomic(folder.join(TOKENIZER_CONFIG), format!("{told:#}\n").as_bytes())
}

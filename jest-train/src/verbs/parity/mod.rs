//! `jest parity`: what this program computes against what other libraries computed, one line a value.

mod checks;
mod models;
mod operations;
mod scores;
mod text;

use std::fs;
use std::path::Path;

use jest_kernels::{DeviceKind, Pass};

use super::open;
use crate::cli::ParityArgs;
use crate::say::tell;
use crate::{Result, TrainError};
use checks::Checks;

/// How much further than the CPU device a GPU may be off.
const GPU_SLACK: f64 = 10.0;
/// Folders of this project's own `fixtures` in which other tests find their input; they hold no value to compute.
const INPUTS: [&str; 4] = ["interchange", "probes", "sources", "tensorboard"];

pub(super) fn parity(args: &ParityArgs) -> Result<()> {
    let device = open::device(&args.on)?;
    let slack = if device.info().kind == DeviceKind::Cpu { 1.0 } else { GPU_SLACK };
    let mut checks = Checks::new(slack);
    for name in names(&args.folder)? {
        checks.begin(&name);
        let before = checks.len();
        // A file of its own cannot keep the others from being checked.
        if let Err(error) = group(&mut device.pass(), &args.folder.join(&name), &name, &mut checks) {
            tell!("{name}: {}", error.explain());
            checks.fail("readable");
        } else if checks.len() == before {
            checks.refuse("empty", "holds no expected value; docs/interchange.md lists what it must hold");
        }
    }
    checks.print(args.json)?;
    let (out, all) = (checks.failed(), checks.len());
    if all > 0 && out == 0 {
        return Ok(());
    }
    Err(TrainError::Parity { path: args.folder.clone(), out, all })
}

/// What is in the folder, sorted, without the documents and scripts that say how it was made and the input of other tests.
fn names(folder: &Path) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).map_err(TrainError::storage("list", folder))? {
        let name = entry.map_err(TrainError::storage("list", folder))?.file_name().to_string_lossy().into_owned();
        if INPUTS.contains(&name.as_str()) {
            tell!("{name}: passed over; the input of other tests");
        } else if !name.ends_with(".md") && !name.ends_with(".py") {
            all.push(name);
        }
    }
    all.sort();
    Ok(all)
}

/// All values of one file or folder.
fn group(pass: &mut Pass, path: &Path, name: &str, checks: &mut Checks) -> Result<()> {
    match name {
        "losses.safetensors" => operations::losses(pass, path, checks),
        "adamw.safetensors" => operations::adamw(pass, path, checks),
        "pi_resize.safetensors" => operations::pi_resize(pass, path, checks),
        "jest_scores.safetensors" => scores::jest_scores(pass, path, checks),
        "preprocess" => operations::preprocess(path, checks),
        "text" => text::text(path, checks),
        _ if ["hf_siglip_", "hf_clip_", "hf_dual_"].iter().any(|kind| name.starts_with(kind)) => {
            models::hugging_face(pass, path, checks)
        }
        _ => {
            tell!("{name}: not known; docs/interchange.md lists the files and folders that can be checked");
            checks.fail("known");
            Ok(())
        }
    }
}

//! What lies in a run folder from before: gone on with, or kept under another name.

use std::fs;
use std::path::{Path, PathBuf};

use crate::assemble;
use crate::config::{Overrides, Surroundings, resolve};
use crate::{Result, TrainError};

/// Whether two paths are one folder.
pub(super) fn same_folder(a: &Path, b: &Path) -> bool {
    let real = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    real(a) == real(b)
}

/// Gives the folder of an earlier run another name, so that nothing of it is lost.
pub(super) fn set_aside(out: &Path) -> Result<PathBuf> {
    let name = out.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let free = (1u32..).map(|n| out.with_file_name(format!("{name}.{n}"))).find(|path| !path.exists());
    let aside = free.unwrap_or_else(|| out.with_extension("old"));
    fs::rename(out, &aside).map_err(TrainError::storage("rename", out))?;
    Ok(aside)
}

/// Refuses to go on under another plan; device, threads and tiles may change, and keys that are new have their defaults.
pub(super) fn hold_against_saved_plan(path: &Path, text: &str) -> Result<()> {
    let Ok(saved) = fs::read_to_string(path) else {
        return Err(TrainError::NothingToResume { path: path.to_path_buf() });
    };
    let fixed = |text: &str| {
        let free = |line: &&str| {
            ["device", "threads", "autotune", "tiles"].iter().any(|key| line.starts_with(&format!("{key} = ")))
        };
        text.lines().filter(|line| !free(line)).collect::<Vec<_>>().join("\n")
    };
    let around = Surroundings { cores: 1, exists: &|path| path.exists(), count: &assemble::count_examples };
    let with_new_keys = resolve(&saved, None, &Overrides::default(), &around).ok();
    let saved = with_new_keys.and_then(|resolved| resolved.plan.to_toml().ok()).unwrap_or(saved);
    let (saved, now) = (fixed(&saved), fixed(text));
    if saved == now {
        return Ok(());
    }
    Err(TrainError::OtherPlan { path: path.to_path_buf(), difference: first_difference(&saved, &now) })
}

/// The first line in which two texts differ, as `was X, is Y`.
pub(super) fn first_difference(before: &str, now: &str) -> String {
    let mut now_lines = now.lines();
    for was in before.lines() {
        let is = now_lines.next().unwrap_or("nothing");
        if was != is {
            return format!("was `{}`, is `{}`", was.trim(), is.trim());
        }
    }
    format!("was nothing, is `{}`", now_lines.next().unwrap_or_default().trim())
}

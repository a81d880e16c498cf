//! What lies in a run folder from before: gone on with, or kept under another name.

use std::fs;
use std::path::{Path, PathBuf};

use jest_kernels::Device;

use crate::config::{Overrides, Plan, Surroundings, resolve};
use crate::tiles::Tiles;
use crate::{Result, TrainError, assemble, storage};

/// The resolved plan of a run folder.
pub(super) const PLAN: &str = "plan.toml";

/// The plan with the tiles that the device has now, and its text.
pub(super) fn with_tiles(plan: &Plan, device: &Device) -> Result<(Plan, String)> {
    let plan = Plan { tiles: Tiles(device.tiles()), ..plan.clone() };
    let text = plan.to_toml().map_err(|source| TrainError::PlanText { source })?;
    Ok((plan, text))
}

/// Writes the plan anew where tiles were chosen in a run that has ended or was stopped.
pub(super) fn keep_tiles(plan: &Plan, device: &Device, ran: &Result<()>) -> Result<()> {
    let (tuned, text) = with_tiles(plan, device)?;
    if matches!(ran, Ok(()) | Err(TrainError::Stopped { .. })) && tuned != *plan {
        storage::write_atomic(plan.out.join(PLAN), text.as_bytes())?;
    }
    Ok(())
}

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

/// Refuses to go on under another plan; device, its memory, threads and tiles may change, and keys that are new have their defaults.
pub(super) fn hold_against_saved_plan(path: &Path, text: &str) -> Result<()> {
    let Ok(saved) = fs::read_to_string(path) else {
        return Err(TrainError::NothingToResume { path: path.to_path_buf() });
    };
    let fixed = |text: &str| {
        let free = |line: &&str| {
            ["device", "device_mb", "threads", "autotune", "tiles"]
                .iter()
                .any(|key| line.starts_with(&format!("{key} = ")))
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

#[cfg(test)]
mod tests {
    use jest_kernels::testing::lesser_gpu;

    use super::*;

    #[test]
    fn a_run_that_ended_or_was_stopped_leaves_its_tiles_in_the_plan() {
        let folder = tempfile::tempdir().unwrap();
        let text = format!(
            "out = '{}'\nbatch_size = 8\nsteps = 3\ndata.train = 'a.tar'\ntext.tokenizer = 't.json'\nmodel.preset = 'mu'",
            folder.path().display()
        );
        let around = Surroundings { cores: 1, exists: &|_| true, count: &|_| Ok(100) };
        let plan = resolve(&text, None, &Overrides::default(), &around).unwrap().plan;
        let device = lesser_gpu(Default::default());
        let written = |ran| {
            keep_tiles(&plan, &device, &ran).unwrap();
            let read = fs::read_to_string(folder.path().join(PLAN)).ok();
            fs::remove_file(folder.path().join(PLAN)).ok();
            read.is_some_and(|text| text.contains("wide"))
        };
        let stopped = || Err(TrainError::Stopped { run: "a".into(), step: 1, checkpoint: "c".into() });
        assert!(!written(Ok(())) && !written(stopped()), "nothing was chosen");
        let info = device.info();
        let class = format!("ab f32 z1 m64 n64 k64 fours rows on {}, {}", info.name, info.driver);
        device.use_tiles([(class, "wide".to_owned())].into());
        assert!(written(Ok(())) && written(stopped()));
        assert!(!written(Err(TrainError::NothingToResume { path: "p".into() })));
    }
}

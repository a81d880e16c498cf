//! The plan in words for the terminal, and in full for the run folder.

use std::fmt;
use std::path::Path;

use jest_select::Method;

use super::plan::{Plan, RunPlan};
use super::resolve::Resolved;
use crate::error::{Result, TrainError};
use crate::storage::write_atomic;

/// File of the plan in the run folder.
pub const PLAN: &str = "plan.toml";

impl Plan {
    /// Writes `plan.toml` into the run folder: `jest train --config plan.toml` does the same again.
    ///
    /// # Errors
    /// `Storage`.
    pub fn save(&self, out: impl AsRef<Path>) -> Result<()> {
        let path = out.as_ref().join(PLAN);
        match self.to_toml() {
            Ok(text) => write_atomic(path, text.as_bytes()),
            Err(error) => Err(TrainError::storage("write", path)(std::io::Error::other(error))),
        }
    }
}

/// A line for all runs, a line for each, and a line for each remark.
impl fmt::Display for Resolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Plan { device, threads, device_mb: _, precision, seed, autotune: _, tiles: _, out, runs } = &self.plan;
        writeln!(f, "plan: device {device}, {threads} threads, {precision}, seed {seed}, in {}", out.display())?;
        for run in runs {
            writeln!(f, "  {}", describe(run))?;
        }
        self.notes.iter().try_for_each(|note| writeln!(f, "note: {note}"))
    }
}

/// `jest: 400 steps of mu, sigmoid, lr 0.001; joint, 128 of 640 (filter_ratio 0.8) in 16 chunks by learnability to curator`.
fn describe(run: &RunPlan) -> String {
    let (selection, sizes) = (&run.selection, &run.selection.sizes);
    let objective = match run.objective {
        super::Objective::Sigmoid => "sigmoid",
        super::Objective::Softmax => "softmax",
    };
    let mut text = format!(
        "{}: {} steps of {}, {objective}, lr {}; {}, {}",
        run.name,
        run.steps,
        run.model.preset,
        run.optimizer.lr,
        selection.method,
        sizes.sub_batch()
    );
    if selection.method != Method::Uniform {
        let ratio = (sizes.filter_ratio() * 1e4).round() / 1e4;
        text += &format!(" of {} (filter_ratio {ratio}) in {} chunks", sizes.super_batch(), sizes.chunks());
        if selection.is_scored() {
            text += &format!(" by {}", selection.score);
        }
    }
    let cheap = &selection.approximation;
    if !cheap.is_none() {
        let parts = [
            cheap.patch_size.map(|size| format!("patches of {size}")),
            cheap.keep_tokens.map(|kept| format!("{kept} patches kept")),
            cheap.text_tokens.map(|tokens| format!("{tokens} text tokens")),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        let end = selection.cheap_share_end.map(|end| format!(" to {end}")).unwrap_or_default();
        let share = format!("{}{end}", selection.cheap_share);
        text += &format!(", cheap view of {} (share {})", parts.join(", "), share);
    }
    if selection.logit_scale_factor != 1.0 {
        text += &format!(", logit scale times {} in scores", selection.logit_scale_factor);
    }
    if sizes.gain() != 1.0 {
        text += &format!(", gain {}", sizes.gain());
    }
    for reference in &run.reference {
        let cached = if selection.cache_reference { "cached" } else { "not cached" };
        text += &format!(", reference {reference} ({cached})");
    }
    if let Some(init) = &run.init {
        text += &format!(", from {init}");
    }
    let locked = [run.model.lock_image, run.model.lock_text];
    for ((tower, origin), locked) in ["image", "text"].into_iter().zip(&run.init_towers).zip(locked) {
        if let Some(origin) = origin {
            text += &format!(", {tower} tower from {origin}");
        }
        if locked {
            text += &format!(", {tower} tower locked");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use crate::config::{Override, Overrides, Surroundings, resolve};

    #[test]
    fn a_plan_is_printed_with_its_remarks_and_saved_as_a_configuration() {
        let config = "batch_size = 100\nsteps = 50\ndata.train = 'a.tar'\nmodel.preset = 'mu'\n
            [[run]]\nname = 'first'\n[[run]]\nname = 'second'\nreference = 'first'\nsteps = 9\n
            selection = { filter_ratio = 0.8, chunks = 10, gain = 2 }";
        let around = Surroundings { cores: 2, exists: &|_| true, count: &|_| Ok(1000) };
        let keys = vec![Override::parse("steps=7").unwrap()];
        let resolved = resolve(config, Some("two"), &Overrides { keys, ..Overrides::default() }, &around).unwrap();
        let expected = "plan: device auto, 2 threads, f32, seed 0, in runs/two\n  \
            first: 7 steps of mu, sigmoid, lr 0.001; uniform, 100\n  \
            second: 9 steps of mu, sigmoid, lr 0.001; joint, 100 of 500 (filter_ratio 0.8) in 10 chunks by learnability, \
            gain 2, reference first (cached)\n\
            note: run \"second\" sets steps itself: --set steps=7 does not reach it; --set run.second.steps=VALUE does\n";
        assert_eq!(resolved.to_string(), expected);

        let out = tempfile::tempdir().unwrap();
        resolved.plan.save(out.path()).unwrap();
        let text = std::fs::read_to_string(out.path().join(super::PLAN)).unwrap();
        assert_eq!(resolve(&text, None, &Overrides::default(), &around).unwrap().plan, resolved.plan);
    }
}

//! The report at the end of `jest train`: curves, table, and the most and least learnable examples.

use std::path::PathBuf;

use jest_kernels::Device;

use super::open;
use crate::assemble;
use crate::clock::SystemClock;
use crate::config::{Origin, Plan, RunPlan};
use crate::events::Summary;
use crate::history::History;
use crate::learnability::{Extremes, Scorers, score_all};
use crate::meter::Meter;
use crate::reference::Reference;
use crate::report::{GalleryItem, Report, render};
use crate::{Result, storage};

/// Pictures at either end of the gallery.
const GALLERY: usize = 48;
/// Examples that the gallery looks at: of a large data set, the first.
const CANDIDATES: usize = 20_000;

/// Writes `report.html` into the run folder.
pub(super) fn write(
    plan: &Plan,
    text: &str,
    summary: &Summary,
    device: &Device,
    clock: &SystemClock,
) -> Result<PathBuf> {
    let scored = plan.runs.iter().rev().find(|run| run.selection.needs_reference());
    let (most, least) = match scored {
        Some(run) => gallery(plan, run, device, clock)?,
        None => (Vec::new(), Vec::new()),
    };
    let history = History::read(plan.out.join("metrics.jsonl"))?;
    let title = plan.out.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let html = render(&Report { title: &title, plan: text, summary, history: &history, most: &most, least: &least })?;
    let path = plan.out.join("report.html");
    storage::write_atomic(&path, html.as_bytes())?;
    Ok(path)
}

/// The extremes of learnability over the data of a run, by its last checkpoint and its reference.
fn gallery(
    plan: &Plan,
    run: &RunPlan,
    device: &Device,
    clock: &SystemClock,
) -> Result<(Vec<GalleryItem>, Vec<GalleryItem>)> {
    let mut pass = device.pass();
    let (folder, _) = assemble::origin(&plan.out, &Origin::Run(run.name.clone()))?;
    let (learner, reads) = open::checkpoint(&mut pass, &folder)?;
    let data = assemble::loader_config(plan, run, learner.config(), reads.tokenizer)?;
    let mut meter = Meter::new(clock);
    let mut references = Vec::new();
    for origin in &run.reference {
        let (folder, _) = assemble::origin(&plan.out, origin)?;
        let mut reference = Reference::load(&mut pass, &folder, &data)?;
        if run.selection.cache_reference {
            reference.use_cache(&mut pass, &run.cache_folder(&plan.out), &data)?;
        }
        references.push(reference);
    }
    let mut extremes = Extremes::new(GALLERY);
    let mut scorers = Scorers { learner: &learner, references, objective: run.objective };
    score_all(&mut pass, &mut scorers, &data, CANDIDATES, &mut meter, |batch, losses| {
        extremes.add(batch, losses);
        Ok(())
    })?;
    Ok(extremes.into_galleries())
}

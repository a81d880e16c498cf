//! `jest curate`: a part of a data set, by the method that training would select with.

use std::collections::HashSet;
use std::path::Path;

use jest_data::{ExampleId, LoaderConfig, ShardSize, ShardWriter, SuperBatch, survey};
use jest_model::TwoTowers;
use jest_select::{BatchPlan, Method, Reads, Selection};

use super::open;
use crate::approximation::Approximation;
use crate::audit::Choices;
use crate::cli::CurateArgs;
use crate::clock::SystemClock;
use crate::config::{Objective, OptimizerPlan};
use crate::learner::Learner;
use crate::meter::Meter;
use crate::optimizer::Optimizer;
use crate::reference::Reference;
use crate::say::{say, tell};
use crate::selector::{Pick, Scored, Selector};
use crate::{Result, TrainError, storage, verbs::score::objective_of};

/// Share of a super-batch that is kept where nothing else is said.
const KEEP: f64 = 0.2;

pub(super) fn curate(args: &CurateArgs) -> Result<()> {
    let device = open::device(&args.on)?;
    let mut pass = device.pass();
    // A method without a learner reads the data as its reference does.
    let folder = args.learner.as_ref().or(args.reference.first()).ok_or(TrainError::NothingToCurateBy)?;
    let (model, tokenizer) = open::checkpoint(&mut pass, folder)?;
    let data = open::pairs(&args.pairs, &model, tokenizer)?;
    let references: Result<Vec<Reference>> =
        args.reference.iter().map(|folder| Reference::load(&mut pass, folder, &data)).collect();
    let objective = args.objective.map_or_else(|| objective_of(folder, &model), Ok)?;
    let mut curator = Curator { args, learner: learner(&mut pass, model, objective)?, references: Some(references?) };
    curator.check()?;
    // A folder that cannot be written to is told of before the work.
    let shards = args.out.extension().is_none().then(|| ShardWriter::create(&args.out, ShardSize::default()));
    let shards = shards.transpose()?;
    let clock = SystemClock::start();
    let (mut meter, mut kept, mut choices, mut read) = (Meter::new(&clock), Vec::new(), Choices::default(), 0);
    for (step, batch) in (1..).zip(jest_data::read_all(&data, args.super_batch.get())?) {
        let batch = batch?;
        read += batch.len();
        curator.pick(&mut pass, step, &batch, &mut meter, &mut choices, &mut kept)?;
    }
    match shards {
        Some(shards) => copy(shards, &args.out, &data, &kept)?,
        None => write(&args.out, &kept)?,
    }
    if let Some(audit) = &args.audit {
        choices.write(audit)?;
    }
    if kept.is_empty() {
        tell!("warning: nothing is kept; take a larger --keep or --super-batch, or a lower --threshold");
    }
    say!("{}: {} of {read} examples", args.out.display(), kept.len());
    Ok(())
}

fn learner(pass: &mut jest_kernels::Pass, model: TwoTowers, objective: Objective) -> Result<Learner> {
    let optimizer = Optimizer::new(pass, &model, OptimizerPlan::default(), None)?;
    Ok(Learner::new(model, optimizer, objective))
}

/// An example that is kept.
struct Kept {
    id: ExampleId,
    /// The uid in its JSON, else its id.
    uid: ExampleId,
    key: String,
    source: String,
}

struct Curator<'a> {
    args: &'a CurateArgs,
    learner: Learner,
    references: Option<Vec<Reference>>,
}

impl Curator<'_> {
    /// Refuses a method whose models were not given.
    fn check(&self) -> Result<()> {
        let (args, reads) = (self.args, self.args.method.reads());
        let needs = |missing| Err(TrainError::Curate { method: args.method.to_string(), missing });
        let by_learner = reads == Reads::Losses || (reads == Reads::Scores && args.score.learner_weight() != 0.0);
        let by_reference = reads == Reads::Losses
            || reads == Reads::Cosines
            || (reads == Reads::Scores && args.score.reference_weight() != 0.0);
        if by_learner && args.learner.is_none() {
            return needs("--learner");
        }
        if by_reference && args.reference.is_empty() {
            return needs("--reference");
        }
        if args.threshold.is_some() && args.method != Method::ClipScore {
            return Err(TrainError::Threshold { method: args.method.to_string() });
        }
        Ok(())
    }

    /// The cosine that everything with it or more is kept by.
    fn least(&self) -> Option<f32> {
        self.args.threshold.filter(|_| self.args.keep.is_none()).map(|threshold| threshold.0)
    }

    fn pick(
        &mut self,
        pass: &mut jest_kernels::Pass,
        step: u64,
        batch: &SuperBatch,
        meter: &mut Meter<'_>,
        choices: &mut Choices,
        kept: &mut Vec<Kept>,
    ) -> Result<()> {
        let args = self.args;
        let least = self.least();
        let sizes = match (least, args.keep) {
            // All are ranked, and the threshold cuts.
            (Some(_), _) => sizes(batch.len(), 1.0, 1),
            (None, keep) => sizes(batch.len(), keep.map_or(KEEP, |keep| keep.0), args.chunks.get()),
        };
        let Some((sub_batch, chunks)) = sizes else { return Ok(()) };
        let plan = BatchPlan::new(batch.len(), sub_batch, chunks)?.with_gain(args.gain.0)?;
        let selection = Selection::new(args.method, plan);
        let among = args.threshold.filter(|_| least.is_none());
        let mut scored = Scored {
            selection: among.map_or(selection, |threshold| selection.with_threshold(threshold.0)),
            kind: args.score,
            references: self.references.take().unwrap_or_default(),
            tags: args.tags.clone(),
            approximation: Approximation::default(),
            logit_scale_factor: 1.0,
            seed: args.seed,
            audit: args.audit.is_some(),
            distillation: false,
        };
        let pick = match args.method.reads() {
            Reads::Nothing => Pick::uniform(&selection, args.seed, step),
            _ => scored.pick(pass, &self.learner, batch, step, meter)?,
        };
        let pick = match least {
            Some(least) => reaching(pick, least),
            None => pick,
        };
        self.references = Some(scored.references);
        choices.add(step, batch, &pick);
        kept.extend(pick.indices.iter().map(|index| Kept {
            id: batch.ids[*index],
            uid: batch.json[*index].as_deref().and_then(uid).unwrap_or(batch.ids[*index]),
            key: batch.keys[*index].clone(),
            source: batch.sources[*index].to_string(),
        }));
        Ok(())
    }
}

/// Of a pick by one score those alone that have this much or more.
fn reaching(pick: Pick, least: f32) -> Pick {
    let scored = pick.indices.iter().copied().zip(pick.scores.iter().copied());
    let (indices, scores) = scored.filter(|(_, score)| *score >= least).unzip();
    Pick { indices, scores, ..pick }
}

/// b and N for n candidates: their share, and as many chunks as divide it; none where nothing is to be kept.
fn sizes(n: usize, keep: f64, chunks: usize) -> Option<(usize, usize)> {
    let share = (n as f64 * keep).round() as usize;
    let chunks = chunks.clamp(1, share.max(1));
    // The nearest multiple that there are enough candidates for.
    let sub_batch = ((share + chunks / 2) / chunks * chunks).min(n / chunks * chunks);
    (sub_batch > 0).then_some((sub_batch, chunks))
}

/// The `uid` of a DataComp sample.
fn uid(json: &str) -> Option<ExampleId> {
    let sample: serde_json::Value = serde_json::from_str(json).ok()?;
    sample.get("uid")?.as_str()?.parse().ok()
}

/// The samples that are kept as they lie on disk, in the order of the data.
fn copy(mut shards: ShardWriter, path: &Path, data: &LoaderConfig, kept: &[Kept]) -> Result<()> {
    let ids: HashSet<ExampleId> = kept.iter().map(|kept| kept.id).collect();
    let mut found = 0;
    for source in &data.sources {
        let each = |sample: jest_data::Surveyed| {
            let wanted = ids.contains(&sample.id);
            found += usize::from(wanted);
            if wanted { shards.add(&sample) } else { Ok(()) }
        };
        // What is skipped here was skipped when it was selected from.
        survey(source, &data.limits, each, |_| ())?;
    }
    if found != ids.len() {
        return Err(TrainError::Changed { path: path.to_path_buf(), kept: ids.len(), found });
    }
    shards.finish()?;
    Ok(())
}

/// A DataComp subset for `.npy`, one line an example for anything else.
fn write(path: &Path, kept: &[Kept]) -> Result<()> {
    if path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("npy")) {
        jest_data::Subset::write(path, kept.iter().map(|kept| kept.uid))?;
        return Ok(());
    }
    let mut text = String::new();
    for Kept { uid, key, source, .. } in kept {
        text += &format!("{uid}\t{source}\t{key}\n");
    }
    storage::write_atomic(path, text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_kept_in_chunks_that_divide() {
        for (n, keep, chunks, expected) in [
            (100, 0.2, 4, Some((20, 4))),
            (100, 0.21, 4, Some((20, 4))),
            (100, 0.22, 4, Some((24, 4))),
            (7, 0.2, 16, Some((1, 1))),
            (1, 0.2, 16, None),
            (10, 1.0, 4, Some((8, 4))),
            (12, 1.0, 4, Some((12, 4))),
        ] {
            assert_eq!(sizes(n, keep, chunks), expected, "{n} {keep} {chunks}");
        }
    }

    #[test]
    fn uids_come_from_the_sample() {
        let hex = "0123456789abcdef0123456789abcdef";
        assert_eq!(uid(&format!("{{\"uid\":\"{hex}\"}}")).unwrap().to_string(), hex);
        for json in ["{}", "{\"uid\":3}", "{\"uid\":\"short\"}", "["] {
            assert_eq!(uid(json), None, "{json}");
        }
    }
}

//! Figure 2: super-batches of several pools, scored by a reference and a learner a seed.

use std::path::{Path, PathBuf};

use jest_data::{DataError, Fields, Loader, LoaderConfig};
use jest_kernels::Pass;
use jest_model::{TwoTowers, View};
use jest_select::{DenseScores, Embeddings, LearnerLoss, ReferenceLoss, ScoreKind, ScoreTerms};

use super::open;
use crate::cli::{OnDevice, Pairs};
use crate::say::say;
use crate::signals::StopFlag;
use crate::studies::{self, Panel, Pool, StudyError};
use crate::{Result, TrainError, embed};

/// A seed, and what its learner and the reference make of its super-batch.
type Seed = (u64, [Embedded; 2]);

/// Draws from at most so many candidates of every pool of the data in `train` that is large enough; `learners` are seeds with
/// their checkpoints.
pub(super) fn panels(
    on: &OnDevice,
    train: &Path,
    most: usize,
    reference: &Path,
    learners: &[(u64, PathBuf)],
    stop: &StopFlag,
) -> Result<Vec<Panel>> {
    let mut pass = open::device(on)?.pass();
    let mut panels = Vec::new();
    for pool in studies::POOLS {
        let mut most = Some(most);
        while let Some(size) = most {
            let of = |pass: &mut Pass, (seed, learner): &(u64, PathBuf)| -> Result<Seed> {
                let [learner, reference] = [learner.as_path(), reference]
                    .map(|folder| Embedded::of(pass, folder, train, (&pool, size, *seed)));
                Ok((*seed, [learner?, reference?]))
            };
            going_on(stop)?;
            most = match learners.iter().map(|learner| of(&mut pass, learner)).collect::<Result<Vec<Seed>>>() {
                // Of the shipped sample, clothes alone do not fill a super-batch.
                Err(TrainError::Data(error @ DataError::TooFewExamples { .. }))
                    if !pool.conditions.is_empty() || pool.smaller(size).is_some() =>
                {
                    say!("note: fewer draws{}: {error}", pool.title);
                    pool.smaller(size)
                }
                embedded => {
                    panels.extend(drawn(&pool, size, &embedded?, stop)?);
                    None
                }
            };
        }
    }
    Ok(panels)
}

/// An error once a budget or a signal asks for the end.
fn going_on(stop: &StopFlag) -> Result<()> {
    if stop.is_set() {
        return Err(StudyError::Stopped { study: "fig2".into() }.into());
    }
    Ok(())
}

/// The panels of one pool.
fn drawn(pool: &Pool, most: usize, embedded: &[Seed], stop: &StopFlag) -> Result<Vec<Panel>> {
    let scores = |seed: u64, super_batch: usize| {
        going_on(stop)?;
        let Some((_, [learner, reference])) = embedded.iter().find(|(known, _)| *known == seed) else {
            return Err(StudyError::Nothing { study: "fig2".into() }.into());
        };
        let (learner, reference) =
            (LearnerLoss(learner.first(super_batch)?), ReferenceLoss(reference.first(super_batch)?));
        Ok(DenseScores::new(&ScoreTerms::new(ScoreKind::Learnability, Some(learner), Some(reference))?))
    };
    let seeds: Vec<u64> = embedded.iter().map(|(seed, _)| *seed).collect();
    studies::sampler(pool, most, &seeds, &scores)
}

/// Embeddings of a super-batch on the host, with t and bias.
struct Embedded {
    image: Vec<f32>,
    text: Vec<f32>,
    width: usize,
    logit_scale: f32,
    logit_bias: f32,
}

impl Embedded {
    /// By the model in a folder, of the first examples that the seed's order has of a pool.
    fn of(pass: &mut Pass, folder: &Path, train: &Path, (pool, most, seed): (&Pool, usize, u64)) -> Result<Self> {
        let (model, reads) = open::checkpoint(pass, folder)?;
        let pairs = Pairs { data: train.display().to_string(), workers: 2 };
        let data = open::pairs(&pairs, &model, reads)?;
        let data = LoaderConfig { seed, fields: Fields::parse(pool.conditions)?, ..data };
        Self::by(pass, &model, data, pool.candidates(most))
    }

    fn by(pass: &mut Pass, model: &TwoTowers, data: LoaderConfig, candidates: usize) -> Result<Self> {
        let batch = Loader::new(data, Default::default())?.next_super_batch(candidates)?;
        let [image, text] = embed::both(pass, model, &batch, &View::default())?;
        Ok(Self {
            image: pass.read(&image)?,
            text: pass.read(&text)?,
            width: image.cols(),
            logit_scale: pass.read(model.logit_scale.value())?[0].exp(),
            logit_bias: pass.read(model.logit_bias.value())?[0],
        })
    }

    fn first(&self, n: usize) -> Result<Embeddings<'_>> {
        let (image, text) = (&self.image[..n * self.width], &self.text[..n * self.width]);
        Ok(Embeddings::new(image, text, self.width, self.logit_scale, self.logit_bias)?)
    }
}

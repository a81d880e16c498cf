//! Learnability of single examples, for `jest score` and the report's gallery.

use jest_data::{LoaderConfig, SuperBatch};
use jest_kernels::ops::selection_scores::{self, Candidates};
use jest_kernels::ops::sigmoid_loss::LogitParameters;
use jest_kernels::{Pass, Tensor};
use jest_model::{TwoTowers, View};

use crate::config::Objective;
use crate::meter::Meter;
use crate::reference::Reference;
use crate::report::GalleryItem;
use crate::{Result, embed};

/// Examples scored at once.
const BLOCK: usize = 512;

/// Losses of single pairs, the diagonal of the pair losses: see [`pair_losses`].
#[derive(Clone, Debug, PartialEq)]
pub struct PairLosses {
    /// By the learner: `[n]`.
    pub learner: Vec<f32>,
    /// By the reference, or their mean over several: `[n]`.
    pub reference: Vec<f32>,
}

impl PairLosses {
    /// Learner loss minus reference loss of example `i`.
    pub fn learnability(&self, i: usize) -> f32 {
        self.learner[i] - self.reference[i]
    }
}

/// Whose losses are set against each other.
#[derive(Debug)]
pub struct Scorers<'a> {
    /// The model being trained.
    pub learner: &'a TwoTowers,
    /// Frozen ones, whose losses are averaged.
    pub references: Vec<Reference>,
    /// The loss.
    pub objective: Objective,
}

/// Reads a data set once, up to `limit` examples and the batch they end in, and gives each batch with its losses to `each`.
///
/// # Errors
/// As data or device report, or `each` does.
pub fn score_all(
    pass: &mut Pass,
    scorers: &mut Scorers<'_>,
    data: &LoaderConfig,
    limit: usize,
    meter: &mut Meter<'_>,
    mut each: impl FnMut(&SuperBatch, &PairLosses) -> Result<()>,
) -> Result<()> {
    let Scorers { learner, references, objective } = scorers;
    let (mut seen, count) = (0, references.len().max(1) as f32);
    for batch in jest_data::read_all(data, BLOCK)? {
        let batch = batch?;
        seen += batch.len();
        let own = embed::both(pass, learner, &batch, &View::default())?;
        let mut mean = vec![0.0; batch.len()];
        for reference in references.iter_mut() {
            let other = reference.embeddings(pass, &batch, meter)?;
            let losses = pair_losses(pass, reference.model().logit_parameters(), &other, *objective)?;
            mean.iter_mut().zip(losses).for_each(|(mean, loss)| *mean += loss / count);
        }
        let learner = pair_losses(pass, learner.logit_parameters(), &own, *objective)?;
        let losses = PairLosses { learner, reference: mean };
        each(&batch, &losses)?;
        if seen >= limit {
            break;
        }
    }
    Ok(())
}

/// The loss of each pair alone: `softplus(-(t cos + bias))` for the sigmoid objective, `-t cos` for softmax, which has
/// nothing to set a pair against.
///
/// # Errors
/// As the device reports.
pub fn pair_losses(
    pass: &mut Pass,
    LogitParameters { log_scale, bias }: LogitParameters<'_>,
    [image, text]: &[Tensor; 2],
    objective: Objective,
) -> Result<Vec<f32>> {
    if objective == Objective::Softmax {
        let (d, scale) = (image.cols(), pass.read(log_scale)?[0].exp());
        let (image, text) = (pass.read(image)?, pass.read(text)?);
        let pairs = image.chunks_exact(d).zip(text.chunks_exact(d));
        let cosine =
            |(a, b): (&[f32], &[f32])| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
        return Ok(pairs.map(|pair| -scale * cosine(pair) as f32).collect());
    }
    let mut losses = pass.zeros(&[image.rows()])?;
    selection_scores::diagonal(pass, 1.0, Candidates { image, text, log_scale, bias }, &mut losses)?;
    Ok(pass.read(&losses)?)
}

/// The most and the least learnable examples seen so far.
#[derive(Debug)]
pub struct Extremes {
    size: usize,
    most: Vec<GalleryItem>,
    least: Vec<GalleryItem>,
}

impl Extremes {
    /// Keeps `size` at either end.
    pub fn new(size: usize) -> Self {
        Self { size, most: Vec::new(), least: Vec::new() }
    }

    /// Looks at a batch.
    pub fn add(&mut self, batch: &SuperBatch, losses: &PairLosses) {
        for i in 0..batch.len() {
            let score = losses.learnability(i);
            keep(&mut self.most, self.size, batch, i, score, |new, old| new > old);
            keep(&mut self.least, self.size, batch, i, score, |new, old| new < old);
        }
    }

    /// Most learnable first, and least learnable first.
    pub fn into_galleries(self) -> (Vec<GalleryItem>, Vec<GalleryItem>) {
        (self.most, self.least)
    }
}

/// Inserts in order when `better` than the last that is kept.
fn keep(
    kept: &mut Vec<GalleryItem>,
    size: usize,
    batch: &SuperBatch,
    i: usize,
    score: f32,
    better: impl Fn(f32, f32) -> bool,
) {
    let place = kept.iter().position(|item| better(score, item.score)).unwrap_or(kept.len());
    if place >= size {
        return;
    }
    let item = GalleryItem {
        id: batch.ids[i].to_string(),
        caption: batch.captions[i].clone(),
        score,
        rgb: batch.image_rgb(i).to_vec(),
        side: batch.preprocess.size,
    };
    kept.insert(place, item);
    kept.truncate(size);
}

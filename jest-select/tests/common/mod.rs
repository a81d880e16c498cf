//! What several tests draw from: embeddings at random, and numbers of threads.

#![allow(dead_code, reason = "each test crate uses its own part")]

use std::num::NonZeroUsize;

use jest_select::{Candidate, Embeddings, Gumbel, LearnerLoss, Noise, ReferenceLoss, ScoreKind, ScoreTerms};

/// The three kinds of score.
pub const KINDS: [ScoreKind; 3] = [ScoreKind::Learnability, ScoreKind::EasyReference, ScoreKind::HardLearner];

/// Embeddings of learner and reference that are not close to each other, of different widths.
pub struct Toy {
    matrices: [(Vec<f32>, usize); 4],
    logit_bias: f32,
}

impl Toy {
    pub fn new(super_batch: usize, width: usize, logit_bias: f32, seed: u64) -> Self {
        let matrix = |step, width| (unit_rows(super_batch, width, seed, step), width);
        let matrices = [matrix(0, width), matrix(1, width), matrix(2, width + 1), matrix(3, width + 1)];
        Self { matrices, logit_bias }
    }

    pub fn terms(&self, kind: ScoreKind) -> ScoreTerms<'_> {
        let [learner_image, learner_text, image, text] = &self.matrices;
        let learner =
            Embeddings::new(&learner_image.0, &learner_text.0, learner_image.1, 11.0, self.logit_bias).unwrap();
        let reference = Embeddings::new(&image.0, &text.0, image.1, 14.0, self.logit_bias - 1.0).unwrap();
        ScoreTerms::new(kind, Some(LearnerLoss(learner)), Some(ReferenceLoss(reference))).unwrap()
    }
}

/// `[rows, width]`, directions at random.
pub fn unit_rows(rows: usize, width: usize, seed: u64, step: u64) -> Vec<f32> {
    let noise = Gumbel::new(seed, step);
    // The difference of two Gumbel values is symmetric about 0.
    let value = |i: usize| noise.at(0, Candidate::new(i as u32)) - noise.at(1, Candidate::new(i as u32));
    let mut matrix: Vec<f32> = (0..rows * width).map(value).collect();
    for row in matrix.chunks_exact_mut(width) {
        let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt();
        row.iter_mut().for_each(|x| *x /= norm);
    }
    matrix
}

pub fn threads(n: usize) -> NonZeroUsize {
    NonZeroUsize::new(n).unwrap()
}

/// Largest `|a - b|`; NaN if there is one.
pub fn largest_difference(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    // `f64::max` would drop a NaN.
    let worse = |max: f64, x: f64| if max.is_nan() || max >= x { max } else { x };
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, worse)
}

/// The scores of candidates that can still be drawn.
pub fn only_open(scores: &[f32], open: &[bool]) -> Vec<f64> {
    scores.iter().zip(open).filter(|&(_, &open)| open).map(|(&score, _)| f64::from(score)).collect()
}

//! Conditional scores of joint example selection after picks that are given.

use std::num::NonZeroUsize;
use std::path::Path;

use jest_kernels::ops::selection_scores::Candidates;
use jest_kernels::{Pass, Tensor};
use jest_select::{
    Candidate, ConditionalScores, DenseScores, Embeddings, LearnerLoss, ReferenceLoss, ScoreKind, ScoreTerms,
    SoftmaxScores, StreamingScores,
};

use super::checks::{Checks, Expected};
use crate::selector::{DeviceScores, Term};
use crate::{Result, TrainError};

const SCORES: f64 = 1e-5;
const KINDS: [(&str, ScoreKind); 3] = [
    ("learnability", ScoreKind::Learnability),
    ("easy_reference", ScoreKind::EasyReference),
    ("hard_learner", ScoreKind::HardLearner),
];

/// One model's embeddings of all candidates.
struct Model {
    image: Vec<f32>,
    text: Vec<f32>,
    width: usize,
    scale: f32,
    bias: f32,
}

impl Model {
    fn read(expected: &mut Expected, name: &str) -> Result<Self> {
        let image = expected.tensor(&format!("{name}.image"))?;
        let &[rows @ (1..), width @ (1..)] = image.shape.as_slice() else {
            return Err(TrainError::Values {
                name: image.name,
                problem: "is no table of embeddings; its shape is [B, d]",
            });
        };
        let text = expected.shaped(&format!("{name}.text"), &[rows, width])?;
        let scale_bias = expected.shaped(&format!("{name}.scale_bias"), &[2])?;
        Ok(Self { image: image.values, text, width, scale: scale_bias[0], bias: scale_bias[1] })
    }

    fn candidates(&self) -> usize {
        self.image.len() / self.width
    }

    fn embeddings(&self) -> Result<Embeddings<'_>> {
        Ok(Embeddings::new(&self.image, &self.text, self.width, self.scale, self.bias)?)
    }

    /// Image, text, logarithm of t, bias.
    fn upload(&self, pass: &mut Pass) -> Result<[Tensor; 4]> {
        let shape = [self.candidates(), self.width];
        let mut number = |value: f32| pass.upload(&[value], &[1]);
        let (log_scale, bias) = (number(self.scale.ln())?, number(self.bias)?);
        Ok([pass.upload(&self.image, &shape)?, pass.upload(&self.text, &shape)?, log_scale, bias])
    }
}

/// Every form of the scores: dense, streaming and the device's for the sigmoid, the host's for the softmax.
pub(super) fn jest_scores(pass: &mut Pass, path: &Path, checks: &mut Checks) -> Result<()> {
    let mut expected = Expected::open(path)?;
    let (shape, picks) = expected.indices("picks")?;
    if picks.is_empty() {
        let problem = "is empty; it holds the candidates of each chunk";
        return Err(TrainError::Values { name: "picks".to_string(), problem });
    }
    let picks: Vec<Candidate> = picks.into_iter().map(Candidate::new).collect();
    let chunks: Vec<&[Candidate]> = picks.chunks(shape.last().copied().unwrap_or(1).max(1)).collect();
    let models = [Model::read(&mut expected, "learner")?, Model::read(&mut expected, "reference")?];
    let super_batch = models[0].candidates();
    if models[1].candidates() != super_batch {
        let problem = "has another number of candidates than learner.image; both are of one super-batch";
        return Err(TrainError::Values { name: "reference.image".to_string(), problem });
    }
    if picks.iter().any(|pick| pick.index() >= super_batch) {
        let problem = "has a candidate that learner.image does not; they count from 0";
        return Err(TrainError::Values { name: "picks".to_string(), problem });
    }
    let on_device = [models[0].upload(pass)?, models[1].upload(pass)?];
    for (word, kind) in KINDS {
        let (learner, reference) = (LearnerLoss(models[0].embeddings()?), ReferenceLoss(models[1].embeddings()?));
        let terms = ScoreTerms::new(kind, Some(learner), Some(reference))?;
        let mut values = Values { expected: &mut expected, chunks: &chunks, checks };
        let sigmoid = format!("sigmoid.{word}");
        values.hold(&sigmoid, DenseScores::new(&terms))?;
        values.hold(&sigmoid, StreamingScores::new(terms.clone(), NonZeroUsize::MIN))?;
        values.hold(&format!("softmax.{word}"), SoftmaxScores::new(terms, NonZeroUsize::MIN))?;
        let weights = [kind.learner_weight(), kind.reference_weight()];
        let device_terms = on_device.iter().zip(weights).filter(|(_, weight)| *weight != 0.0);
        let device_terms = device_terms.map(|([image, text, log_scale, bias], weight)| Term {
            weight,
            candidates: Candidates { image, text, log_scale, bias },
        });
        values.hold(&sigmoid, DeviceScores::new(pass, device_terms.collect(), super_batch)?)?;
    }
    Ok(())
}

struct Values<'a> {
    expected: &'a mut Expected,
    chunks: &'a [&'a [Candidate]],
    checks: &'a mut Checks,
}

impl Values<'_> {
    /// The scores before each chunk, of the candidates that are still open.
    fn hold<S: ConditionalScores>(&mut self, name: &str, mut scores: S) -> Result<()>
    where
        crate::TrainError: From<S::Error>,
    {
        let mut open = vec![true; scores.conditional().len()];
        for (k, chunk) in self.chunks.iter().enumerate() {
            let name = format!("{name}.{k}");
            let want = self.expected.shaped(&name, &[open.len()])?;
            let of_open = |values: &[f32]| -> Vec<f32> {
                values.iter().zip(&open).filter_map(|(value, open)| open.then_some(*value)).collect()
            };
            self.checks.compare(&name, &of_open(scores.conditional()), &of_open(&want), SCORES);
            scores.condition_on(chunk)?;
            for picked in *chunk {
                if let Some(slot) = open.get_mut(picked.index()) {
                    *slot = false;
                }
            }
        }
        Ok(())
    }
}

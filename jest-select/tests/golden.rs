//! Conditional scores against those of another implementation: `fixtures/jest_scores.safetensors`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::path::Path;

use common::{KINDS, largest_difference, only_open, threads};
use jest_select::{Candidate, ConditionalScores, DenseScores, SoftmaxScores, StreamingScores};
use jest_select::{Embeddings, InputError, LearnerLoss, ReferenceLoss, ScoreKind, ScoreTerms};
use safetensors::SafeTensors;

/// The golden values are f64 sums rounded to f32, of embeddings rounded to f32.
const LIMIT: f64 = 1e-5;

struct Golden {
    bytes: Vec<u8>,
}

impl Golden {
    fn open() -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/jest_scores.safetensors");
        Self { bytes: std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())) }
    }

    fn floats(&self, name: &str) -> Vec<f32> {
        let tensors = SafeTensors::deserialize(&self.bytes).unwrap();
        let data = tensors.tensor(name).unwrap().data().to_vec();
        data.as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()
    }

    /// The picks that the values were computed for, a chunk each.
    fn chunks(&self) -> Vec<Vec<Candidate>> {
        let tensors = SafeTensors::deserialize(&self.bytes).unwrap();
        let picks = tensors.tensor("picks").unwrap();
        let draws = picks.shape()[1];
        let picks: Vec<_> = picks.data().as_chunks::<8>().0.iter().map(|&bytes| i64::from_le_bytes(bytes)).collect();
        picks.chunks(draws).map(|chunk| chunk.iter().map(|&pick| Candidate::new(pick as u32)).collect()).collect()
    }
}

struct Rows {
    image: Vec<f32>,
    text: Vec<f32>,
    scale_bias: Vec<f32>,
}

impl Rows {
    fn of(golden: &Golden, model: &str) -> Self {
        let floats = |name| golden.floats(&format!("{model}.{name}"));
        Self { image: floats("image"), text: floats("text"), scale_bias: floats("scale_bias") }
    }

    fn embeddings(&self) -> Embeddings<'_> {
        Embeddings::new(&self.image, &self.text, 16, self.scale_bias[0], self.scale_bias[1]).unwrap()
    }
}

/// Both models' embeddings, from which each test makes its scores.
struct Models {
    golden: Golden,
    learner: Rows,
    reference: Rows,
}

impl Models {
    fn open() -> Self {
        let golden = Golden::open();
        let (learner, reference) = (Rows::of(&golden, "learner"), Rows::of(&golden, "reference"));
        Self { golden, learner, reference }
    }

    fn terms(&self, kind: ScoreKind) -> ScoreTerms<'_> {
        let (learner, reference) = (self.learner.embeddings(), self.reference.embeddings());
        ScoreTerms::new(kind, Some(LearnerLoss(learner)), Some(ReferenceLoss(reference))).unwrap()
    }

    /// Conditions `scores` on the golden picks and compares before each chunk; candidates that are picked are left out.
    fn check<S: ConditionalScores<Error = InputError>>(&self, name: &str, mut scores: S) {
        let mut open = vec![true; scores.conditional().len()];
        for (k, chunk) in self.golden.chunks().iter().enumerate() {
            let expected = self.golden.floats(&format!("{name}.{k}"));
            assert_eq!(scores.conditional().len(), expected.len());
            let (got, expected) = (only_open(scores.conditional(), &open), only_open(&expected, &open));
            let size = expected.iter().fold(0.0, |max: f64, x| max.max(x.abs()));
            let error = largest_difference(&got, &expected) / size;
            println!("{name}.{k}: {error:.1e}");
            assert!(error <= LIMIT, "{name}.{k}: {error:e}");
            scores.condition_on(chunk).unwrap();
            chunk.iter().for_each(|candidate| open[candidate.index()] = false);
        }
    }
}

#[test]
fn dense_sigmoid() {
    let models = Models::open();
    for kind in KINDS {
        models.check(&format!("sigmoid.{kind}"), DenseScores::new(&models.terms(kind)));
    }
}

#[test]
fn streaming_sigmoid() {
    let models = Models::open();
    for kind in KINDS {
        models.check(&format!("sigmoid.{kind}"), StreamingScores::new(models.terms(kind), threads(2)));
    }
}

#[test]
fn streaming_softmax() {
    let models = Models::open();
    for kind in KINDS {
        models.check(&format!("softmax.{kind}"), SoftmaxScores::new(models.terms(kind), threads(2)));
    }
}

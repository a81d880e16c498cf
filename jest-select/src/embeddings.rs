//! Embeddings of a super-batch, and the losses that a score is made of.

use crate::{InputError, ScoreKind};

/// Largest distance of a row's norm from 1 that counts as unit: half-precision rows pass, rows not normalised do not.
const UNIT_TOLERANCE: f32 = 1e-2;

/// Image and text embeddings of a super-batch under one model: `logits_ij = logit_scale * image_i . text_j + logit_bias`.
///
/// # Shapes
/// image, text: `[B, d]`, unit rows, row i of both from the same example.
#[derive(Debug, Clone, Copy)]
pub struct Embeddings<'a> {
    pub(crate) image: &'a [f32],
    pub(crate) text: &'a [f32],
    pub(crate) width: usize,
    pub(crate) logit_scale: f32,
    pub(crate) logit_bias: f32,
}

impl<'a> Embeddings<'a> {
    /// Embeddings of `width` d, with the scale as used (not its log) and the bias of the model they come from.
    ///
    /// # Errors
    /// A width of 0, rows cut short, image and text of different lengths, a row that is not finite or not of norm 1, a
    /// scale that is not positive and finite, a bias that is not finite.
    pub fn new(
        image: &'a [f32],
        text: &'a [f32],
        width: usize,
        logit_scale: f32,
        logit_bias: f32,
    ) -> Result<Self, InputError> {
        if width == 0 {
            return Err(InputError::Zero { what: "embedding width" });
        }
        let whole = image.len().next_multiple_of(width);
        for (what, rows, expected) in [("image", image, whole), ("text", text, image.len())] {
            if rows.len() != expected {
                return Err(InputError::Length { what, expected, got: rows.len() });
            }
        }
        for (side, rows) in [("image", image), ("text", text)] {
            for (row, values) in rows.chunks_exact(width).enumerate() {
                let norm = values.iter().map(|x| x * x).sum::<f32>().sqrt();
                // False for NaN.
                let unit = (norm - 1.0).abs() <= UNIT_TOLERANCE;
                if !unit {
                    return Err(InputError::NotUnit { side, row, norm });
                }
            }
        }
        if !(logit_scale > 0.0 && logit_scale.is_finite()) {
            return Err(InputError::LogitParameter { what: "logit_scale", value: logit_scale });
        }
        if !logit_bias.is_finite() {
            return Err(InputError::LogitParameter { what: "logit_bias", value: logit_bias });
        }
        Ok(Self { image, text, width, logit_scale, logit_bias })
    }

    /// B, the number of candidates.
    pub fn super_batch(&self) -> usize {
        self.image.len() / self.width
    }

    /// Cosine of each candidate's own image and text, in f64. `[B]`
    pub(crate) fn own_cosines(&self) -> impl Iterator<Item = f64> {
        let rows = self.image.chunks_exact(self.width).zip(self.text.chunks_exact(self.width));
        rows.map(|(image, text)| dot(image, text))
    }
}

/// `sum_i a_i * b_i` in f64.
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}

/// The loss of the model being trained, as its embeddings. Not to be taken for the reference's: it is another type.
#[derive(Debug, Clone, Copy)]
pub struct LearnerLoss<'a>(pub Embeddings<'a>);

/// The loss of the frozen scorer, as its embeddings.
#[derive(Debug, Clone, Copy)]
pub struct ReferenceLoss<'a>(pub Embeddings<'a>);

/// The losses of a score with their signs: `sum over terms of weight * loss`.
#[derive(Debug, Clone)]
pub struct ScoreTerms<'a> {
    kind: ScoreKind,
    terms: Vec<(f64, Embeddings<'a>)>,
}

impl<'a> ScoreTerms<'a> {
    /// The terms of `kind`. A loss that the kind does not weigh may be `None`, and is left out if it is given.
    ///
    /// Learner and reference may differ in width; each has its own scale and bias.
    ///
    /// # Errors
    /// `MissingLoss` if a loss that the kind weighs is `None`; `Length` if the two are of different super-batches.
    pub fn new(
        kind: ScoreKind,
        learner: Option<LearnerLoss<'a>>,
        reference: Option<ReferenceLoss<'a>>,
    ) -> Result<Self, InputError> {
        Self::ensemble(kind, learner, reference.as_slice())
    }

    /// The terms of `kind` with the mean loss of several references, each with its own width, scale and bias.
    ///
    /// # Errors
    /// As [`new`](Self::new); `MissingLoss` if there is no reference where the kind weighs it.
    pub fn ensemble(
        kind: ScoreKind,
        learner: Option<LearnerLoss<'a>>,
        references: &[ReferenceLoss<'a>],
    ) -> Result<Self, InputError> {
        let mut terms: Vec<(f64, Embeddings<'a>)> = Vec::with_capacity(1 + references.len());
        if kind.learner_weight() != 0.0 {
            let LearnerLoss(loss) = learner.ok_or(InputError::MissingLoss { kind, missing: "learner" })?;
            terms.push((f64::from(kind.learner_weight()), loss));
        }
        if kind.reference_weight() != 0.0 {
            if references.is_empty() {
                return Err(InputError::MissingLoss { kind, missing: "reference" });
            }
            let weight = f64::from(kind.reference_weight()) / references.len() as f64;
            terms.extend(references.iter().map(|reference| (weight, reference.0)));
        }
        if let [(_, first), others @ ..] = &terms[..] {
            let expected = first.super_batch();
            if let Some((_, other)) = others.iter().find(|(_, other)| other.super_batch() != expected) {
                let got = other.super_batch();
                return Err(InputError::Length { what: "the super-batch of the reference", expected, got });
            }
        }
        Ok(Self { kind, terms })
    }

    /// What the terms add up to.
    pub fn kind(&self) -> ScoreKind {
        self.kind
    }

    /// B, the number of candidates.
    pub fn super_batch(&self) -> usize {
        // Every kind weighs at least one loss.
        self.terms.first().map_or(0, |(_, embeddings)| embeddings.super_batch())
    }

    /// Weight and embeddings of each term: one a model.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (f64, &Embeddings<'a>)> {
        self.terms.iter().map(|(weight, embeddings)| (*weight, embeddings))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_refused_is_named() {
        let rows = [1.0, 0.0, 0.0, 1.0];
        let check = |result: Result<Embeddings, InputError>, expected: &str| {
            let message = result.unwrap_err().to_string();
            assert!(message.starts_with(expected), "{message}");
        };
        assert_eq!(Embeddings::new(&rows, &rows, 2, 10.0, -10.0).unwrap().super_batch(), 2);
        check(Embeddings::new(&rows, &rows, 0, 10.0, 0.0), "embedding width is 0");
        check(Embeddings::new(&rows[..3], &rows[..3], 2, 10.0, 0.0), "image has 3 entries, expected 4: one whole row");
        check(Embeddings::new(&rows, &rows[..2], 2, 10.0, 0.0), "text has 2 entries, expected 4: one whole row");
        check(Embeddings::new(&rows, &[1.0, 0.0, 0.6, 0.6], 2, 10.0, 0.0), "text row 1 has norm 0.848");
        check(Embeddings::new(&[0.0, f32::NAN, 0.0, 1.0], &rows, 2, 10.0, 0.0), "image row 0 has norm NaN");
        check(Embeddings::new(&rows, &rows, 2, 0.0, 0.0), "logit_scale 0 is not usable");
        check(Embeddings::new(&rows, &rows, 2, f32::INFINITY, 0.0), "logit_scale inf is not usable");
        check(Embeddings::new(&rows, &rows, 2, 1.0, f32::NAN), "logit_bias NaN is not usable");
    }

    #[test]
    fn terms_need_what_they_weigh() {
        let rows = [1.0, 0.0, 0.0, 1.0];
        let two = Embeddings::new(&rows, &rows, 2, 10.0, -10.0).unwrap();
        let one = Embeddings::new(&rows[..2], &rows[..2], 2, 10.0, -10.0).unwrap();
        let (learner, reference) = (Some(LearnerLoss(two)), Some(ReferenceLoss(two)));
        for (kind, learner, reference, count) in [
            (ScoreKind::Learnability, learner, reference, 2),
            (ScoreKind::EasyReference, None, reference, 1),
            (ScoreKind::HardLearner, learner, None, 1),
            (ScoreKind::HardLearner, learner, reference, 1),
        ] {
            let terms = ScoreTerms::new(kind, learner, reference).unwrap();
            assert_eq!((terms.iter().count(), terms.super_batch(), terms.kind()), (count, 2, kind));
        }
        let error = ScoreTerms::new(ScoreKind::Learnability, learner, None).unwrap_err().to_string();
        assert_eq!(error, "score learnability needs the loss of the reference; pass it, or choose another kind");
        let error = ScoreTerms::new(ScoreKind::Learnability, learner, Some(ReferenceLoss(one))).unwrap_err();
        assert!(matches!(error, InputError::Length { expected: 2, got: 1, .. }), "{error}");
    }
}

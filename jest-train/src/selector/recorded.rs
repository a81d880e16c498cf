//! Conditional scores that remember what the picks scored when they were drawn.

use jest_select::{Candidate, ConditionalScores, SubBatch};

use crate::events::{Contrast, Picked};

/// Passes scores on, and keeps those of every pick from before its chunk was added.
#[derive(Debug)]
pub(super) struct Recorded<S> {
    scores: S,
    diagonal: Vec<f32>,
    /// Sums of rows, where the draw was by them.
    sums: Option<Vec<f32>>,
    taken: Vec<bool>,
    picked: Mean,
    candidates: Mean,
    /// Of every pick, in the order of the draw.
    at_draw: Vec<f32>,
}

/// A running mean in f64.
#[derive(Clone, Copy, Debug, Default)]
struct Mean {
    sum: f64,
    count: usize,
}

impl Mean {
    fn add(&mut self, values: impl Iterator<Item = f32>) {
        values.for_each(|value| {
            self.sum += f64::from(value);
            self.count += 1;
        });
    }

    fn value(self) -> f32 {
        (self.sum / self.count.max(1) as f64) as f32
    }
}

impl<S: ConditionalScores> Recorded<S> {
    /// Before the first draw.
    pub(super) fn new(scores: S) -> Self {
        let diagonal = scores.conditional().to_vec();
        Self {
            taken: vec![false; diagonal.len()],
            diagonal,
            sums: None,
            scores,
            picked: Mean::default(),
            candidates: Mean::default(),
            at_draw: Vec::new(),
        }
    }

    fn record(&mut self, chunk: &[Candidate]) {
        let conditional = self.sums.as_deref().unwrap_or(self.scores.conditional());
        let free = conditional.iter().zip(&self.taken).filter(|(_, taken)| !**taken);
        self.candidates.add(free.map(|(score, _)| *score));
        let drawn = chunk.iter().map(|candidate| conditional[candidate.index()]);
        self.at_draw.extend(drawn.clone());
        self.picked.add(drawn);
        chunk.iter().for_each(|candidate| self.taken[candidate.index()] = true);
    }

    /// What there is to tell of a finished draw; `sources[i]` is where candidate i comes from.
    pub(super) fn finish(mut self, picks: &SubBatch, sources: &[impl AsRef<str>]) -> (Picked, Vec<f32>) {
        // No score is computed after the last chunk, so it was not seen by `condition_on`.
        if let Some(last) = picks.chunks().last() {
            self.record(last);
        }
        let indices: Vec<usize> = picks.indices().collect();
        let (mut own, mut all) = (Mean::default(), Mean::default());
        own.add(indices.iter().map(|index| self.diagonal[*index]));
        all.add(self.diagonal.iter().copied());
        let mut shares = std::collections::BTreeMap::<String, f32>::new();
        for index in &indices {
            *shares.entry(sources[*index].as_ref().to_string()).or_default() += 1.0 / indices.len() as f32;
        }
        let picked = Picked {
            digest: Picked::digest_of(indices.iter().map(|index| *index as u32)),
            conditional: Contrast { picked: self.picked.value(), super_batch: self.candidates.value() },
            score: Contrast { picked: own.value(), super_batch: all.value() },
            shares,
        };
        (picked, self.at_draw)
    }
}

impl<S: ConditionalScores> ConditionalScores for Recorded<S> {
    type Error = S::Error;

    fn conditional(&self) -> &[f32] {
        self.scores.conditional()
    }

    fn condition_on(&mut self, chunk: &[Candidate]) -> Result<(), S::Error> {
        self.record(chunk);
        self.scores.condition_on(chunk)
    }

    fn row_sums(&mut self) -> Result<Option<Vec<f32>>, S::Error> {
        self.sums = self.scores.row_sums()?;
        Ok(self.sums.clone())
    }
}

#[cfg(test)]
mod tests {
    use jest_select::{BatchPlan, DenseScores, Gumbel, Method, Selection};

    use super::*;

    #[test]
    fn picks_are_recorded_as_they_were_drawn() {
        // S_ij = 1 off the diagonal, S_ii = i: after one pick every other candidate gains 2.
        let matrix = (0..16).map(|at| if at / 4 == at % 4 { (at / 4) as f64 } else { 1.0 }).collect();
        let mut scores = Recorded::new(DenseScores::from_matrix(matrix, 4).unwrap());
        let plan = BatchPlan::new(4, 2, 2).unwrap().with_gain(f32::INFINITY).unwrap();
        let picks = Selection::new(Method::Joint, plan).pick(&mut scores, &Gumbel::new(0, 0)).unwrap();
        assert_eq!(picks.indices().collect::<Vec<_>>(), [3, 2]);
        let (picked, at_draw) = scores.finish(&picks, &["a", "a", "b", "a"]);
        assert_eq!(at_draw, [3.0, 4.0]);
        // Drawn at 3 and at 2 + 2; the free candidates were 0, 1, 2, 3 and then 2, 3, 4.
        assert_eq!(picked.conditional, Contrast { picked: 3.5, super_batch: 15.0 / 7.0 });
        assert_eq!(picked.score, Contrast { picked: 2.5, super_batch: 1.5 });
        assert_eq!(picked.shares.get("b"), Some(&0.5));
    }

    #[test]
    fn draws_by_sums_of_rows_record_sums_of_rows() {
        let matrix = (0..16).map(|at| if at / 4 == at % 4 { 0.0 } else { (at / 4) as f64 }).collect();
        let mut scores = Recorded::new(DenseScores::from_matrix(matrix, 4).unwrap());
        let plan = BatchPlan::new(4, 2, 1).unwrap().with_gain(f32::INFINITY).unwrap();
        let picks = Selection::new(Method::IndependentRowSum, plan).pick(&mut scores, &Gumbel::new(0, 0)).unwrap();
        assert_eq!(picks.indices().collect::<Vec<_>>(), [3, 2]);
        let (picked, at_draw) = scores.finish(&picks, &["a"; 4]);
        assert_eq!(at_draw, [9.0, 6.0]);
        assert_eq!(picked.conditional, Contrast { picked: 7.5, super_batch: 4.5 });
    }
}

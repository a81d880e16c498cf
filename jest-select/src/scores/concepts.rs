//! Concept-balanced selection: scores from tags, without a model.

use std::collections::HashMap;

use super::open::OpenCandidates;
use crate::{Candidate, ConditionalScores, InputError};

/// `h(x) = mean over tags c of x of ((t - n_c) / t + 1 / F_c if n_c < t, else 0)`: what x adds to a batch that is to show
/// every concept equally often.
///
/// n_c counts c among the picked, F_c in the super-batch; t is the same for every concept, its share of all tags that b
/// examples have on average, rounded up. An example without tags scores 0. Picked one at a time without noise
/// ([`Method::Cabs`](crate::Method::Cabs)) this is the greedy batch.
///
/// # Source
/// Concept-aware batch sampling, CABS-DM (arXiv 2511.20643).
#[derive(Debug, Clone)]
pub struct ConceptScores {
    /// Concepts of each candidate, each once.
    tags: Vec<Vec<usize>>,
    concepts: Vec<Concept>,
    target: usize,
    conditional: Vec<f32>,
    open: OpenCandidates<()>,
}

/// One concept of a super-batch.
#[derive(Debug, Clone, Default)]
struct Concept {
    /// Who has it: F_c of them.
    members: Vec<Candidate>,
    /// n_c
    picked: usize,
}

impl ConceptScores {
    /// Scores of candidates with these tags, b of which are to be picked. `[B]`, any number of tags each
    ///
    /// # Errors
    /// `Zero` for a sub-batch of 0.
    pub fn new(tags: &[Vec<impl AsRef<str>>], sub_batch: usize) -> Result<Self, InputError> {
        if sub_batch == 0 {
            return Err(InputError::Zero { what: "sub-batch" });
        }
        let mut known: HashMap<&str, usize> = HashMap::new();
        let mut concepts: Vec<Concept> = Vec::new();
        let mut all = Vec::with_capacity(tags.len());
        for (candidate, words) in (0u32..).map(Candidate::new).zip(tags) {
            let mut own: Vec<usize> = Vec::with_capacity(words.len());
            for word in words {
                let concept = *known.entry(word.as_ref()).or_insert(concepts.len());
                if concept == concepts.len() {
                    concepts.push(Concept::default());
                }
                if !own.contains(&concept) {
                    own.push(concept);
                    concepts[concept].members.push(candidate);
                }
            }
            all.push(own);
        }
        let occurrences: usize = concepts.iter().map(|concept| concept.members.len()).sum();
        let target = (occurrences * sub_batch).div_ceil((tags.len() * concepts.len()).max(1)).max(1);
        let open = OpenCandidates::new(std::iter::repeat_n((), all.len()));
        let mut scores = Self { conditional: vec![0.0; all.len()], tags: all, concepts, target, open };
        (0..scores.tags.len()).for_each(|x| scores.conditional[x] = scores.h(x));
        Ok(scores)
    }

    /// t, how often each concept is to be picked.
    pub fn target(&self) -> usize {
        self.target
    }

    fn h(&self, x: usize) -> f32 {
        let target = self.target as f64;
        let wanted = self.tags[x].iter().map(|&concept| &self.concepts[concept]);
        let sum: f64 = wanted
            .filter(|concept| concept.picked < self.target)
            .map(|concept| (target - concept.picked as f64) / target + 1.0 / concept.members.len() as f64)
            .sum();
        (sum / self.tags[x].len().max(1) as f64) as f32
    }
}

impl ConditionalScores for ConceptScores {
    type Error = InputError;

    fn conditional(&self) -> &[f32] {
        &self.conditional
    }

    fn condition_on(&mut self, chunk: &[Candidate]) -> Result<(), InputError> {
        self.open.close(chunk)?;
        for candidate in chunk {
            for at in 0..self.tags[candidate.index()].len() {
                let concept = self.tags[candidate.index()][at];
                self.concepts[concept].picked += 1;
                for member in 0..self.concepts[concept].members.len() {
                    let x = self.concepts[concept].members[member].index();
                    self.conditional[x] = self.h(x);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BatchPlan, Gumbel, Method, Selection};

    #[test]
    fn the_formula_by_hand() {
        // 8 tags, 3 concepts, 6 candidates, b = 3: t = ceil(8 * 3 / (6 * 3)) = 2. F: a 4, b 3, c 1.
        let tags = [vec!["a"], vec!["a", "b", "a"], vec!["b"], vec!["a", "c"], vec![], vec!["a", "b"]];
        let mut scores = ConceptScores::new(&tags, 3).unwrap();
        assert_eq!(scores.target(), 2);
        let (a, b, c) = (1.0 + 0.25, 1.0 + 1.0 / 3.0, 1.0 + 1.0);
        let close = |got: &[f32], want: [f64; 6]| {
            got.iter().zip(want).for_each(|(got, want)| assert!((f64::from(*got) - want).abs() < 1e-6, "{got} {want}"));
        };
        close(scores.conditional(), [a, (a + b) / 2.0, b, (a + c) / 2.0, 0.0, (a + b) / 2.0]);
        scores.condition_on(&[Candidate::new(3)]).unwrap();
        let (a, c) = (a - 0.5, c - 0.5);
        close(scores.conditional(), [a, (a + b) / 2.0, b, (a + c) / 2.0, 0.0, (a + b) / 2.0]);
        scores.condition_on(&[Candidate::new(0)]).unwrap();
        // a has its two, and counts no more.
        close(scores.conditional(), [0.0, b / 2.0, b, c / 2.0, 0.0, b / 2.0]);
        assert!(scores.condition_on(&[Candidate::new(0)]).is_err());
    }

    #[test]
    fn a_greedy_batch_is_balanced() {
        // Nine in ten are dogs; the batch is not.
        let tags: Vec<Vec<String>> =
            (0..100).map(|i| vec![if i % 10 > 0 { "dog".to_owned() } else { format!("rare{}", i / 50) }]).collect();
        let plan = BatchPlan::new(100, 12, 4).unwrap();
        let mut scores = ConceptScores::new(&tags, 12).unwrap();
        let picked = Selection::new(Method::Cabs, plan).pick(&mut scores, &Gumbel::new(0, 0)).unwrap();
        let count = |word: &str| picked.indices().filter(|&i| tags[i][0] == word).count();
        assert_eq!((count("dog"), count("rare0"), count("rare1")), (4, 4, 4));
        // Without any tags all scores are 0, and the lowest places are taken.
        let none: Vec<Vec<&str>> = vec![vec![]; 5];
        let plan = BatchPlan::new(5, 2, 1).unwrap();
        let picked =
            Selection::new(Method::Cabs, plan).pick(&mut ConceptScores::new(&none, 2).unwrap(), &Gumbel::new(0, 0));
        assert!(picked.unwrap().indices().eq([0, 1]));
        assert!(ConceptScores::new(&none, 0).is_err());
    }
}

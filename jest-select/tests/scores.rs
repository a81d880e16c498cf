//! Scores: the streamed against the dense, the identities of the conditional, and what joint selection is for.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{KINDS, Toy, largest_difference, only_open, threads};
use jest_select::{
    BatchPlan, Candidate, ConditionalScores, DenseScores, Gumbel, InputError, Method, ScoreKind, Selection,
};
use jest_select::{SoftmaxScores, StreamingScores, pick_uniform, select};
use proptest::prelude::*;

fn candidates(indices: impl IntoIterator<Item = usize>) -> Vec<Candidate> {
    indices.into_iter().map(|index| Candidate::new(index as u32)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// In chunks of every ragged length, for every kind.
    #[test]
    fn streamed_equals_dense(
        super_batch in 2usize..70, width in 1usize..20, c in 1usize..20, logit_bias in -12.0f32..0.0, seed: u64,
    ) {
        let toy = Toy::new(super_batch, width, logit_bias, seed);
        let picks = pick_uniform(&BatchPlan::new(super_batch, super_batch - 1, 1).unwrap(), &Gumbel::new(seed, 9));
        for kind in KINDS {
            let mut dense = DenseScores::new(&toy.terms(kind));
            let mut streamed = StreamingScores::new(toy.terms(kind), threads(2));
            let mut open = vec![true; super_batch];
            for chunk in picks.candidates().chunks(c) {
                dense.condition_on(chunk).unwrap();
                streamed.condition_on(chunk).unwrap();
                chunk.iter().for_each(|candidate| open[candidate.index()] = false);
                let (a, b) = (only_open(streamed.conditional(), &open), only_open(dense.conditional(), &open));
                // Held against the size of the terms, not of their sum: learner and reference may cancel.
                let scale = 15.0 * (1 + 2 * (super_batch - a.len())) as f64;
                let worst = largest_difference(&a, &b);
                prop_assert!(worst <= 1e-6 * scale, "{} of {}", worst, scale);
            }
        }
    }

    /// `S_ij = l_i - r_j` has no pairs in it: after n picks the conditional is `(n + 1) (l_x - r_x) + const`.
    #[test]
    fn separable_scores_degenerate_to_independent(
        losses in prop::collection::vec((-2.0f64..2.0, -2.0f64..2.0), 8..30), n in 1usize..8,
    ) {
        let super_batch = losses.len();
        let matrix = losses.iter().flat_map(|(l, _)| losses.iter().map(move |(_, r)| l - r)).collect();
        let mut scores = DenseScores::from_matrix(matrix, super_batch).unwrap();
        scores.condition_on(&candidates(0..n)).unwrap();
        let constant: f64 = losses[..n].iter().map(|(l, r)| l - r).sum();
        for (conditional, (l, r)) in scores.conditional().iter().zip(&losses) {
            let expected = (n + 1) as f64 * (l - r) + constant;
            prop_assert!((f64::from(*conditional) - expected).abs() <= 1e-5, "{} is not {}", conditional, expected);
        }
    }

    /// One at a time, what each pick adds sums to the score of the batch.
    #[test]
    fn conditionals_telescope_to_the_sum_of_scores(super_batch in 1usize..40, logit_bias in -10.0f32..0.0, seed: u64) {
        let toy = Toy::new(super_batch, 5, logit_bias, seed);
        let dense = DenseScores::new(&toy.terms(ScoreKind::Learnability));
        let mut streamed = StreamingScores::new(toy.terms(ScoreKind::Learnability), threads(1));
        let picks = pick_uniform(&BatchPlan::new(super_batch, super_batch.div_ceil(2), 1).unwrap(), &Gumbel::new(seed, 4));
        let (mut sum, mut size) = (0.0, 0.0);
        for &pick in picks.candidates() {
            let added = f64::from(streamed.conditional()[pick.index()]);
            (sum, size) = (sum + added, size + added.abs());
            streamed.condition_on(&[pick]).unwrap();
        }
        let total = dense.total(picks.candidates());
        prop_assert!((sum - total).abs() <= 1e-6 * (size + 30.0 * picks.candidates().len() as f64), "{sum} is not {total}");
    }

    /// Chunks only group: conditioning on two chunks is conditioning on both at once.
    #[test]
    fn chunks_merge(c in 1usize..40, seed: u64) {
        let toy = Toy::new(41, 6, -2.0, seed);
        let terms = || toy.terms(ScoreKind::HardLearner);
        let all = candidates(0..40);
        let sigmoid = || StreamingScores::new(terms(), threads(1));
        let (once, twice) = (last_after(sigmoid(), &[&all]), last_after(sigmoid(), &[&all[..c], &all[c..]]));
        prop_assert!((once - twice).abs() <= 1e-6 * once, "sigmoid: {} and {}", once, twice);
        let softmax = || SoftmaxScores::new(terms(), threads(1));
        let (once, twice) = (last_after(softmax(), &[&all]), last_after(softmax(), &[&all[..c], &all[c..]]));
        prop_assert!((once - twice).abs() <= 1e-5, "softmax: {} and {}", once, twice);
    }
}

/// The score of the last candidate after these chunks.
fn last_after<S: ConditionalScores<Error = InputError>>(mut scores: S, chunks: &[&[Candidate]]) -> f32 {
    chunks.iter().for_each(|chunk| scores.condition_on(chunk).unwrap());
    *scores.conditional().last().unwrap()
}

#[test]
fn a_chunk_that_cannot_be_is_refused() {
    let toy = Toy::new(6, 3, -2.0, 0);
    let mut scores = StreamingScores::new(toy.terms(ScoreKind::Learnability), threads(1));
    scores.condition_on(&candidates([1, 4])).unwrap();
    let before = scores.conditional().to_vec();
    for (chunk, wrong) in [([0, 6], 6), ([2, 2], 2), ([3, 4], 4)] {
        let error = scores.condition_on(&candidates(chunk)).unwrap_err();
        assert_eq!(error, InputError::Chunk { candidate: Candidate::new(wrong), super_batch: 6 });
        assert!(error.to_string().starts_with(&format!("candidate {wrong} cannot be conditioned on")), "{error}");
    }
    assert_eq!(scores.conditional(), before);
    scores.condition_on(&candidates([0, 2, 3])).unwrap();
}

/// Scores of picked candidates do not change the draw, so the streamed scores need not compute them.
#[test]
fn dense_and_streamed_pick_the_same() {
    let toy = Toy::new(120, 8, -3.0, 6);
    for kind in KINDS {
        let plan = BatchPlan::new(120, 40, 8).unwrap();
        let noise = Gumbel::new(2, 3);
        let dense = select(&mut DenseScores::new(&toy.terms(kind)), &plan, &noise).unwrap();
        let streamed = select(&mut StreamingScores::new(toy.terms(kind), threads(2)), &plan, &noise).unwrap();
        assert_eq!(dense, streamed, "{kind}");
    }
}

/// The paper's figure 2 in small: joint selection finds batches that score higher than independent and random ones.
#[test]
fn joint_selection_beats_independent_and_random() {
    let toy = Toy::new(320, 16, -3.0, 1);
    let scores = DenseScores::new(&toy.terms(ScoreKind::Learnability));
    let mean = |method, chunks| {
        let plan = BatchPlan::new(320, 64, chunks).unwrap();
        let draws = (0..5).map(|step| {
            let picked = Selection::new(method, plan).pick(&mut scores.clone(), &Gumbel::new(8, step)).unwrap();
            scores.total(picked.candidates()) / 64.0
        });
        draws.sum::<f64>() / 5.0
    };
    let [random, one, joint] = [mean(Method::Uniform, 1), mean(Method::Joint, 1), mean(Method::Joint, 16)];
    println!("random {random:.2}, N = 1 {one:.2}, N = 16 {joint:.2}");
    assert!(joint > one + 1.0 && joint > random + 1.0, "random {random}, N = 1 {one}, N = 16 {joint}");
}

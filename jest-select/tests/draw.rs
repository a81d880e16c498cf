//! The draw: sizes, symmetry, its limits in the gain, and its law.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::convert::Infallible;

use common::{Toy, threads};
use jest_select::{
    BatchPlan, Candidate, ConditionalScores, DenseScores, Gumbel, Method, Noise, ScoreKind, SelectError,
};
use jest_select::{Selection, StreamingScores, pick_uniform, select};
use proptest::prelude::*;

/// Scores that do not depend on what is picked, and count how often they are conditioned.
struct Fixed {
    conditional: Vec<f32>,
    conditioned: usize,
}

impl Fixed {
    fn new(conditional: impl Into<Vec<f32>>) -> Self {
        Self { conditional: conditional.into(), conditioned: 0 }
    }
}

impl ConditionalScores for Fixed {
    type Error = Infallible;

    fn conditional(&self) -> &[f32] {
        &self.conditional
    }

    fn condition_on(&mut self, _: &[Candidate]) -> Result<(), Infallible> {
        self.conditioned += 1;
        Ok(())
    }
}

/// The noise of a super-batch whose candidate x was candidate `old[x]`.
struct Relabelled<'a> {
    noise: Gumbel,
    old: &'a [usize],
}

impl Noise for Relabelled<'_> {
    fn at(&self, chunk: usize, candidate: Candidate) -> f32 {
        self.noise.at(chunk, Candidate::new(self.old[candidate.index()] as u32))
    }
}

fn plan(super_batch: usize, sub_batch: usize, chunks: usize, gain: f32) -> BatchPlan {
    BatchPlan::new(super_batch, sub_batch, chunks).unwrap().with_gain(gain).unwrap()
}

/// B, b and N that divide.
fn sizes() -> impl Strategy<Value = (usize, usize, usize)> {
    (1usize..6, 1usize..6, 0usize..20).prop_map(|(chunks, c, rest)| (chunks * c + rest, chunks * c, chunks))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn exact_size_in_range_and_no_repeats((super_batch, sub_batch, chunks) in sizes(), gain in 0.0f32..200.0, seed: u64) {
        let toy = Toy::new(super_batch, 3, -3.0, seed);
        let plan = plan(super_batch, sub_batch, chunks, gain);
        for method in [Method::Joint, Method::Independent, Method::TopK, Method::Uniform] {
            let mut scores = DenseScores::new(&toy.terms(ScoreKind::Learnability));
            let picked = Selection::new(method, plan).pick(&mut scores, &Gumbel::new(seed, 1)).unwrap();
            let mut seen = vec![false; super_batch];
            for index in picked.indices() {
                prop_assert!(!std::mem::replace(&mut seen[index], true), "{method} repeats {index}");
            }
            prop_assert_eq!(picked.candidates().len(), sub_batch);
            prop_assert_eq!(picked.chunks().len(), if method == Method::Joint { chunks } else { 1 });
            prop_assert!(picked.chunks().all(|chunk| chunk.len() == picked.chunk_size()));
            prop_assert_eq!(picked.chunks().flatten().count(), sub_batch);
        }
    }

    #[test]
    fn relabelling_candidates_relabels_picks(
        (old, (sub_batch, chunks)) in sizes().prop_flat_map(|(super_batch, sub_batch, chunks)| {
            (Just((0..super_batch).collect::<Vec<_>>()).prop_shuffle(), Just((sub_batch, chunks)))
        }),
        seed: u64,
    ) {
        let super_batch = old.len();
        let toy = Toy::new(super_batch, 3, -1.0, seed);
        let scores = DenseScores::new(&toy.terms(ScoreKind::Learnability));
        let entry = |x: usize, y: usize| scores.score(Candidate::new(old[x] as u32), Candidate::new(old[y] as u32));
        let pairs = (0..super_batch).flat_map(|x| (0..super_batch).map(move |y| (x, y)));
        let matrix = pairs.map(|(x, y)| entry(x, y)).collect();
        let mut relabelled = DenseScores::from_matrix(matrix, super_batch).unwrap();

        let (plan, noise) = (plan(super_batch, sub_batch, chunks, 1.0), Gumbel::new(seed, 0));
        let picked = select(&mut scores.clone(), &plan, &noise).unwrap();
        let again = select(&mut relabelled, &plan, &Relabelled { noise, old: &old }).unwrap();
        prop_assert!(picked.indices().eq(again.indices().map(|x| old[x])));
    }

    #[test]
    fn infinite_gain_is_top_k_with_ties_to_the_lower_index(
        scores in prop::collection::vec(-3i8..3, 1..40), share in 0.0f64..1.0, seed: u64,
    ) {
        let sub_batch = 1 + (share * (scores.len() - 1) as f64) as usize;
        // -0 ties with 0.
        let negated = |(x, &s): (usize, &i8)| if s == 0 && x % 2 == 0 { 0.0 } else { -f32::from(s) };
        let values: Vec<f32> = scores.iter().enumerate().map(negated).collect();
        let mut expected: Vec<usize> = (0..values.len()).collect();
        expected.sort_by_key(|&x| scores[x]);
        expected.truncate(sub_batch);

        let infinite = plan(values.len(), sub_batch, 1, f32::INFINITY);
        let picked = select(&mut Fixed::new(values.clone()), &infinite, &Gumbel::new(seed, 0)).unwrap();
        prop_assert!(picked.indices().eq(expected.iter().copied()));
        let finite = Selection::new(Method::TopK, plan(values.len(), sub_batch, 1, 1.0));
        let picked = finite.pick(&mut Fixed::new(values), &Gumbel::new(seed, 0)).unwrap();
        prop_assert!(picked.indices().eq(expected));
    }

    #[test]
    fn gain_0_does_not_read_the_scores(values in prop::collection::vec(-1e38f32..1e38, 12), seed: u64) {
        let (plan, noise) = (plan(12, 6, 3, 0.0), Gumbel::new(seed, 0));
        let picked = select(&mut Fixed::new(values), &plan, &noise).unwrap();
        prop_assert_eq!(picked, select(&mut Fixed::new([0.0; 12]), &plan, &noise).unwrap());
    }
}

#[test]
fn a_large_finite_gain_does_not_overflow() {
    let scores = [1e38, 2e38, 3e38, -3e38];
    let picked = select(&mut Fixed::new(scores), &plan(4, 3, 1, 1e38), &Gumbel::new(0, 0)).unwrap();
    assert!(picked.indices().eq([2, 1, 0]));
}

#[test]
fn nothing_is_conditioned_on_the_last_chunk() {
    for (chunks, expected) in [(1, 0), (2, 1), (4, 3)] {
        let mut scores = Fixed::new([0.0; 8]);
        select(&mut scores, &plan(8, 4, chunks, 1.0), &Gumbel::new(0, 0)).unwrap();
        assert_eq!(scores.conditioned, expected);
    }
}

#[test]
fn a_score_that_is_not_finite_names_its_candidate() {
    for (value, word) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf"), (f32::NEG_INFINITY, "-inf")] {
        for gain in [0.0, 1.0, f32::INFINITY] {
            let mut scores = Fixed::new([0.5, 0.0, value, 1.0]);
            let error = select(&mut scores, &plan(4, 2, 2, gain), &Gumbel::new(0, 0)).unwrap_err();
            let expected = format!("candidate 2 has score {word} in chunk 0; check");
            assert!(error.to_string().starts_with(&expected), "{error}");
        }
    }
}

#[test]
fn scores_of_another_super_batch_are_refused() {
    let error = select(&mut Fixed::new([0.0; 5]), &plan(6, 2, 1, 1.0), &Gumbel::new(0, 0)).unwrap_err();
    assert!(matches!(error, SelectError::ScoreCount { super_batch: 6, got: 5 }), "{error}");
}

#[test]
fn a_failing_score_stops_the_draw() {
    struct Failing;
    impl ConditionalScores for Failing {
        type Error = std::fmt::Error;
        fn conditional(&self) -> &[f32] {
            &[0.0; 4]
        }
        fn condition_on(&mut self, _: &[Candidate]) -> Result<(), std::fmt::Error> {
            Err(std::fmt::Error)
        }
    }
    let error = select(&mut Failing, &plan(4, 2, 2, 1.0), &Gumbel::new(0, 0)).unwrap_err();
    assert!(std::error::Error::source(&error).is_some());
    assert_eq!(error.to_string(), "scores could not be conditioned on chunk 0");
}

/// Pearson's statistic of how often each of 12 candidates is among the 4 picked, over 20,000 steps.
fn imbalance(pick: impl Fn(&Gumbel) -> Vec<usize>) -> f64 {
    let steps = 20_000;
    let mut counts = [0.0; 12];
    for step in 0..steps {
        pick(&Gumbel::new(11, step)).into_iter().for_each(|x| counts[x] += 1.0);
    }
    let (p, n) = (4.0 / 12.0, steps as f64);
    // A count has variance n p (1 - p); fixed totals leave 11 of 12 degrees of freedom.
    counts.iter().map(|count| (count - n * p).powi(2) / (n * p * (1.0 - p))).sum::<f64>() * 11.0 / 12.0
}

#[test]
fn gain_0_equal_scores_and_uniform_are_uniform() {
    // The 99.9 % point of chi-square with 11 degrees of freedom is 31.3; the seed is fixed.
    let wild: Vec<f32> = (0..12).map(|x| (x as f32 - 6.0) * 1e30).collect();
    let draw = |values: &[f32], gain, noise: &Gumbel| -> Vec<usize> {
        select(&mut Fixed::new(values), &plan(12, 4, 2, gain), noise).unwrap().indices().collect()
    };
    for (name, statistic) in [
        ("gain 0", imbalance(|noise| draw(&wild, 0.0, noise))),
        ("equal scores", imbalance(|noise| draw(&[7.5; 12], 1.0, noise))),
        ("uniform", imbalance(|noise| pick_uniform(&plan(12, 4, 2, 1.0), noise).indices().collect())),
    ] {
        assert!(statistic < 31.3, "{name}: {statistic}");
    }
    let first_only = imbalance(|noise| draw(&wild, 1.0, noise));
    assert!(first_only > 1e4, "the statistic cannot tell: {first_only}");
}

#[test]
fn gumbel_top_k_is_drawing_without_replacement_from_the_softmax() {
    let scores = [0.3f32, -1.2, 1.0, 0.0, -0.4];
    let weights = scores.map(|s| f64::from(s).exp());
    let total: f64 = weights.iter().sum();
    let steps = 200_000;
    // Both as one chunk of two, and as two chunks of one: scores that do not change make them the same law.
    for chunks in [1, 2] {
        let mut counts = [[0.0; 5]; 5];
        for step in 0..steps {
            let picked = select(&mut Fixed::new(scores), &plan(5, 2, chunks, 1.0), &Gumbel::new(5, step)).unwrap();
            let [first, second] = [picked.candidates()[0].index(), picked.candidates()[1].index()];
            counts[first][second] += 1.0 / steps as f64;
        }
        for (first, row) in counts.iter().enumerate() {
            for (second, frequency) in row.iter().enumerate().filter(|&(second, _)| second != first) {
                let p = weights[first] / total * weights[second] / (total - weights[first]);
                let error = (frequency - p).abs();
                let standard_error = (p * (1.0 - p) / steps as f64).sqrt();
                assert!(error < 4.0 * standard_error, "{first} then {second}: {frequency} is not {p}");
            }
        }
    }
}

/// Chunk after chunk, the law is the softmax of `gain * conditional`: this holds only if each chunk's noise is fresh.
#[test]
fn a_second_chunk_is_drawn_from_the_softmax_of_its_conditional() {
    #[rustfmt::skip]
    let s = [
        0.5, 1.0, -1.0, 0.0,
        0.3, -0.4, 0.8, -0.6,
        -0.7, 0.2, 0.1, 1.1,
        0.4, -1.2, 0.9, 0.0,
    ];
    let (gain, steps) = (1.5, 100_000);
    let scores = DenseScores::from_matrix(s.to_vec(), 4).unwrap();
    let mut counts = [[0.0; 4]; 4];
    for step in 0..steps {
        let picked = select(&mut scores.clone(), &plan(4, 2, 2, gain as f32), &Gumbel::new(6, step)).unwrap();
        let [first, second] = [picked.candidates()[0].index(), picked.candidates()[1].index()];
        counts[first][second] += 1.0 / steps as f64;
    }
    let alone: [f64; 4] = std::array::from_fn(|x| (gain * s[x * 5]).exp());
    for first in 0..4 {
        let beside = |x: usize| (gain * (s[x * 5] + s[x * 4 + first] + s[first * 4 + x])).exp();
        let total: f64 = (0..4).filter(|&x| x != first).map(beside).sum();
        for second in (0..4).filter(|&x| x != first) {
            let p = alone[first] / alone.iter().sum::<f64>() * beside(second) / total;
            let (error, standard_error) = ((counts[first][second] - p).abs(), (p * (1.0 - p) / steps as f64).sqrt());
            assert!(error < 4.0 * standard_error, "{first} then {second}: {} is not {p}", counts[first][second]);
        }
    }
}

#[test]
fn same_picks_for_any_number_of_threads() {
    // Large enough that three threads are of use.
    let toy = Toy::new(1_501, 121, -8.0, 9);
    let plan = plan(1_501, 200, 4, 1.0);
    let pick = |n| {
        let mut scores = StreamingScores::new(toy.terms(ScoreKind::Learnability), threads(n));
        let picked = select(&mut scores, &plan, &Gumbel::new(1, 2)).unwrap();
        (picked, scores.conditional().iter().map(|score| score.to_bits()).collect::<Vec<_>>())
    };
    let alone = pick(1);
    for n in [2, 3, 300] {
        assert_eq!(pick(n), alone, "{n} threads");
    }
}

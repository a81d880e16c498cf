//! The methods beside joint selection: what each picks, and what each refuses.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{KINDS, Toy, largest_difference, threads};
use jest_select::{
    BatchPlan, Candidate, ConditionalScores, DenseScores, Embeddings, FixedScores, Gumbel, InputError, LearnerLoss,
    Method, ReferenceLoss, ScoreKind, ScoreTerms, SelectError, Selection, SoftmaxScores, StreamingScores,
};
use proptest::prelude::*;

fn plan(super_batch: usize, sub_batch: usize, gain: f32) -> BatchPlan {
    BatchPlan::new(super_batch, sub_batch, 1).unwrap().with_gain(gain).unwrap()
}

/// Places of the k largest, ties to the lower place.
fn best(scores: &[f32], k: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    order.truncate(k);
    order
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&value| f64::from(value)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn row_sums_are_those_of_the_matrix(super_batch in 1usize..150, logit_bias in -9.0f32..0.0, n in 1usize..4, seed: u64) {
        let toy = Toy::new(super_batch, 7, logit_bias, seed);
        for kind in KINDS {
            let mut dense = DenseScores::new(&toy.terms(kind));
            let mut streamed = StreamingScores::new(toy.terms(kind), threads(n));
            let (a, b) = (streamed.row_sums().unwrap().unwrap(), dense.row_sums().unwrap().unwrap());
            let worst = largest_difference(&wide(&a), &wide(&b));
            prop_assert!(worst <= 15e-6 * (1 + super_batch) as f64, "{kind}: {worst}");
        }
    }

    /// `S_ij = l_i - r_j` has no pairs in it, so joint selection without noise takes the best, as RHO-LOSS does.
    #[test]
    fn separable_scores_are_picked_independently(
        losses in prop::collection::vec((-20i8..20, -20i8..20), 12..40), chunks in 1usize..5, seed: u64,
    ) {
        // Eighths, with a part that makes ties impossible: exact in f32.
        let l: Vec<f64> = losses.iter().enumerate().map(|(i, (l, _))| f64::from(*l) / 8.0 + i as f64 / 1024.0).collect();
        let r: Vec<f64> = losses.iter().map(|(_, r)| f64::from(*r) / 8.0).collect();
        let matrix = l.iter().flat_map(|l| r.iter().map(move |r| l - r)).collect();
        let mut scores = DenseScores::from_matrix(matrix, l.len()).unwrap();
        let sizes = BatchPlan::new(l.len(), 2 * chunks, chunks).unwrap().with_gain(f32::INFINITY).unwrap();
        let noise = Gumbel::new(seed, 0);
        let joint = Selection::new(Method::Joint, sizes).pick(&mut scores, &noise).unwrap();
        let narrow = |values: &[f64]| values.iter().map(|&value| value as f32).collect::<Vec<_>>();
        let mut scalars = FixedScores::rho(&narrow(&l), &narrow(&r)).unwrap();
        let rho = Selection::new(Method::Rho, sizes).pick(&mut scalars, &noise).unwrap();
        prop_assert!(joint.indices().eq(rho.indices()));
    }
}

/// Of equation 1, loop by loop.
#[test]
fn softmax_row_sums_are_the_loss_in_the_super_batch() {
    let (n, d) = (37, 5);
    let (image, text) = (common::unit_rows(n, d, 3, 0), common::unit_rows(n, d, 3, 1));
    let e = Embeddings::new(&image, &text, d, 9.0, 0.0).unwrap();
    let terms =
        || jest_select::ScoreTerms::new(ScoreKind::HardLearner, Some(jest_select::LearnerLoss(e)), None).unwrap();
    let logit = |i: usize, j: usize| -> f64 {
        (0..d).map(|k| 9.0 * f64::from(image[i * d + k]) * f64::from(text[j * d + k])).sum()
    };
    let expected: Vec<f64> = (0..n)
        .map(|x| {
            let row: f64 = (0..n).map(|j| logit(x, j).exp()).sum();
            let col: f64 = (0..n).map(|j| logit(j, x).exp()).sum();
            -logit(x, x) + 0.5 * (row.ln() + col.ln())
        })
        .collect();
    let got = SoftmaxScores::new(terms(), threads(2)).row_sums().unwrap().unwrap();
    assert!(largest_difference(&wide(&got), &expected) < 1e-5);
    // Asked for too late, there are none: the sums are of candidates that are all still open.
    let mut late = SoftmaxScores::new(terms(), threads(1));
    late.condition_on(&[Candidate::new(3)]).unwrap();
    assert_eq!(late.row_sums().unwrap(), None);
}

#[test]
fn independent_reads_the_diagonal_or_the_row_sums() {
    let toy = Toy::new(90, 6, -2.0, 4);
    let mut scores = StreamingScores::new(toy.terms(ScoreKind::Learnability), threads(2));
    let sums = scores.row_sums().unwrap().unwrap();
    for (method, values) in
        [(Method::Independent, scores.conditional().to_vec()), (Method::IndependentRowSum, sums.clone())]
    {
        let selection = Selection::new(method, plan(90, 20, f32::INFINITY));
        let picked = selection.pick(&mut scores, &Gumbel::new(0, 0)).unwrap();
        assert!(picked.indices().eq(best(&values, 20)), "{method}");
        assert_eq!(picked.chunks().len(), 1);
    }
    assert_ne!(best(&sums, 20), best(scores.conditional(), 20));
    let error = Selection::new(Method::IndependentRowSum, plan(2, 1, 1.0))
        .pick(&mut FixedScores::new(vec![0.0; 2]), &Gumbel::new(0, 0))
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "method independent_row_sum needs scores of pairs, which these scores do not have; use sigmoid scores, or another method"
    );
}

/// Every batch of two out of four, as often as `exp(gain * score)` says.
#[test]
fn gibbs_draws_batches_by_their_score() {
    #[rustfmt::skip]
    let s = [
        0.5, 0.6, -0.5, 0.0,
        0.3, -0.4, 0.4, -0.6,
        -0.7, 0.2, 0.1, 0.8,
        0.4, -0.6, 0.9, 0.0,
    ];
    let scores = DenseScores::from_matrix(s.to_vec(), 4).unwrap();
    let (gain, draws) = (1.3f32, 40_000);
    let pairs: Vec<(u32, u32)> = (0..4).flat_map(|a| (a + 1..4).map(move |b| (a, b))).collect();
    let weight = |(a, b): (u32, u32)| (f64::from(gain) * scores.total(&[Candidate::new(a), Candidate::new(b)])).exp();
    let total: f64 = pairs.iter().map(|pair| weight(*pair)).sum();
    let selection = Selection::new(Method::Gibbs, plan(4, 2, gain)).with_gibbs_steps(12);
    let mut counts = std::collections::BTreeMap::<(u32, u32), f64>::new();
    for step in 0..draws {
        let picked = selection.pick(&mut scores.clone(), &Gumbel::new(1, step)).unwrap();
        let [a, b] = [0, 1].map(|at| u32::from(picked.candidates()[at]));
        *counts.entry((a.min(b), a.max(b))).or_default() += 1.0 / draws as f64;
    }
    for pair in pairs {
        let p = weight(pair) / total;
        let standard_error = (p * (1.0 - p) / draws as f64).sqrt();
        let got = counts[&pair];
        assert!((got - p).abs() < 4.0 * standard_error, "{pair:?}: {got} is not {p}");
    }
}

/// The paper's figure 2: brute force finds the best batches, chunks come close, and N = 1 is no better than chance.
#[test]
fn gibbs_is_the_ceiling_of_joint_selection() {
    let toy = Toy::new(256, 16, -3.0, 2);
    let scores = DenseScores::new(&toy.terms(ScoreKind::Learnability));
    let mean = |method, chunks| {
        let plan = BatchPlan::new(256, 64, chunks).unwrap();
        let draws = (0..5).map(|step| {
            let selection = Selection::new(method, plan).with_gibbs_steps(2_000);
            let picked = selection.pick(&mut scores.clone(), &Gumbel::new(8, step)).unwrap();
            let mut places: Vec<usize> = picked.indices().collect();
            places.sort_unstable();
            places.dedup();
            assert_eq!(places.len(), 64);
            scores.total(picked.candidates()) / 64.0
        });
        draws.sum::<f64>() / 5.0
    };
    let [one, joint, brute] = [mean(Method::Joint, 1), mean(Method::Joint, 16), mean(Method::Gibbs, 1)];
    println!("N = 1 {one:.2}, N = 16 {joint:.2}, Gibbs {brute:.2}");
    assert!(joint > one + 1.0 && brute > joint, "N = 1 {one}, N = 16 {joint}, Gibbs {brute}");
}

#[test]
fn gibbs_refuses_what_it_cannot_use() {
    let toy = Toy::new(8, 3, -2.0, 0);
    let selection = Selection::new(Method::Gibbs, plan(8, 2, 1.0));
    let mut softmax = SoftmaxScores::new(toy.terms(ScoreKind::Learnability), threads(1));
    let error = selection.pick(&mut softmax, &Gumbel::new(0, 0)).unwrap_err();
    assert!(error.to_string().starts_with("method gibbs needs a way to take a candidate back"), "{error}");
    for value in [f32::NAN, f32::NEG_INFINITY] {
        let mut scores = FixedScores::new(vec![0.0, 1.0, value, 0.0, 0.0, 0.0, 0.0, 0.0]);
        let error = selection.pick(&mut scores, &Gumbel::new(0, 0)).unwrap_err();
        assert!(matches!(error, SelectError::NonFinite { chunk: 0, .. }), "{error}");
    }
    let error = selection.pick(&mut FixedScores::new(vec![0.0; 7]), &Gumbel::new(0, 0)).unwrap_err();
    assert!(matches!(error, SelectError::ScoreCount { super_batch: 8, got: 7 }), "{error}");
    let mut dense = DenseScores::new(&toy.terms(ScoreKind::Learnability));
    let error = dense.take_back(Candidate::new(1)).unwrap_err();
    assert_eq!(error, InputError::NotPicked { candidate: Candidate::new(1), super_batch: 8 });
}

#[test]
fn conditioning_and_taking_back_leaves_the_scores() {
    let toy = Toy::new(12, 4, -2.0, 7);
    let mut scores = DenseScores::new(&toy.terms(ScoreKind::Learnability));
    let before = wide(scores.conditional());
    let picks: Vec<Candidate> = [3, 9, 4].map(Candidate::new).to_vec();
    scores.condition_on(&picks).unwrap();
    for pick in picks {
        assert!(scores.take_back(pick).unwrap());
    }
    assert!(largest_difference(&wide(scores.conditional()), &before) < 1e-5);
}

#[test]
fn clip_scores_pick_the_best_or_those_above_a_threshold() {
    let image = [1.0, 0.0, 0.0, 1.0, 0.6, 0.8, -1.0, 0.0];
    let text = [1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0];
    let embeddings = Embeddings::new(&image, &text, 2, 10.0, 0.0).unwrap();
    let mut scores = FixedScores::clip_score(&embeddings);
    assert_eq!(scores.conditional(), [1.0, 0.0, 0.6, -1.0]);
    let selection = Selection::new(Method::ClipScore, plan(4, 2, 1.0));
    assert!(selection.pick(&mut scores, &Gumbel::new(0, 0)).unwrap().indices().eq([0, 2]));
    let mut counts = [0; 4];
    for step in 0..3_000 {
        let picked = selection.with_threshold(0.0).pick(&mut scores, &Gumbel::new(0, step)).unwrap();
        picked.indices().for_each(|at| counts[at] += 1);
    }
    assert_eq!(counts[3], 0);
    assert!(counts[..3].iter().all(|count| (1_880..2_120).contains(count)), "{counts:?}");
    let error = selection.with_threshold(0.7).pick(&mut scores, &Gumbel::new(0, 0)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "1 of 4 candidates score 0.7 or more, 2 are needed; lower the threshold or draw more"
    );
    let mut with_nan = FixedScores::new(vec![f32::NAN, 1.0, 1.0, f32::NAN]);
    assert_eq!(
        {
            let mut places: Vec<_> =
                selection.with_threshold(-1.0).pick(&mut with_nan, &Gumbel::new(0, 0)).unwrap().indices().collect();
            places.sort_unstable();
            places
        },
        [1, 2]
    );
    assert!(selection.pick(&mut with_nan, &Gumbel::new(0, 0)).is_err());
    assert!(FixedScores::rho(&[1.0], &[]).is_err());
}

/// Nothing tells candidates apart: each method still gives b of them, none twice.
#[test]
fn equal_scores_give_a_batch() {
    for method in Method::ALL {
        for gain in [0.0, 1.0, f32::INFINITY] {
            let selection = Selection::new(method, plan(9, 4, gain));
            let mut scores = DenseScores::from_matrix(vec![0.25; 81], 9).unwrap();
            let picked = selection.pick(&mut scores, &Gumbel::new(3, 1)).unwrap();
            let mut places: Vec<usize> = picked.indices().collect();
            places.sort_unstable();
            places.dedup();
            assert_eq!(places.len(), 4, "{method}, gain {gain}");
            if matches!(method, Method::TopK | Method::Rho | Method::ClipScore | Method::Cabs) {
                assert!(picked.indices().eq(0..4), "{method}: ties go to the lower index");
            }
        }
    }
}

/// Scores of the learner's losses, by both objectives.
fn both<'a>(image: &'a [f32], text: &'a [f32], d: usize, n: usize) -> (StreamingScores<'a>, SoftmaxScores<'a>) {
    let e = Embeddings::new(image, text, d, 9.0, -3.0).unwrap();
    let terms = || ScoreTerms::new(ScoreKind::HardLearner, Some(LearnerLoss(e)), None).unwrap();
    (StreamingScores::new(terms(), threads(n)), SoftmaxScores::new(terms(), threads(n)))
}

#[test]
fn equal_embeddings_are_picked_in_order() {
    let rows = [0.6f32, 0.8].repeat(12);
    let plan = BatchPlan::new(12, 6, 3).unwrap().with_gain(f32::INFINITY).unwrap();
    for method in [Method::Joint, Method::Independent, Method::IndependentRowSum, Method::TopK] {
        let (mut sigmoid, mut softmax) = both(&rows, &rows, 2, 2);
        let selection = Selection::new(method, plan);
        let picked = selection.pick(&mut sigmoid, &Gumbel::new(3, 1)).unwrap();
        assert!(picked.indices().eq(0..6), "sigmoid, {method}");
        let picked = selection.pick(&mut softmax, &Gumbel::new(3, 1)).unwrap();
        assert!(picked.indices().eq(0..6), "softmax, {method}");
    }
}

/// Sums beyond f32 are told by candidate, whichever scores hold them: in the chunk that they first reach, and in row sums at once.
#[test]
fn scores_that_overflow_are_refused_by_candidate() {
    // Pictures of the first half look at the captions of the second, and the other way round, at the largest cosine; each at its
    // own caption at the least. Losses of pairs alone are 3e38, and of two pairs beyond f32.
    let half = |x: f32| [x, 0.0].repeat(6);
    let (image, text) = ([half(1.0), half(-1.0)].concat(), [half(-1.0), half(1.0)].concat());
    let e = || Embeddings::new(&image, &text, 2, 3e38, 0.0).unwrap();
    let plan = BatchPlan::new(12, 12, 2).unwrap().with_gain(f32::INFINITY).unwrap();
    for (kind, score) in [(ScoreKind::HardLearner, "inf"), (ScoreKind::EasyReference, "-inf")] {
        let terms = || ScoreTerms::new(kind, Some(LearnerLoss(e())), Some(ReferenceLoss(e()))).unwrap();
        for (method, first) in [
            (Method::Joint, format!("candidate 6 has score {score} in chunk 1")),
            (Method::IndependentRowSum, format!("candidate 0 has score {score} in chunk 0")),
        ] {
            let (selection, noise) = (Selection::new(method, plan), Gumbel::new(0, 0));
            let streamed = selection.pick(&mut StreamingScores::new(terms(), threads(2)), &noise);
            let softmax = selection.pick(&mut SoftmaxScores::new(terms(), threads(2)), &noise);
            for picked in [streamed, softmax] {
                let said = picked.unwrap_err().to_string();
                assert!(said.starts_with(&first), "{method}: {said}");
            }
        }
    }
    // What is no number does not become a score.
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        assert!(Embeddings::new(&[value, 0.0], &[1.0, 0.0], 2, 1.0, 0.0).is_err(), "{value}");
    }
}

/// Large enough that three threads are of use.
#[test]
fn softmax_picks_and_row_sums_do_not_depend_on_the_number_of_threads() {
    let toy = Toy::new(1_501, 121, -8.0, 9);
    let plan = BatchPlan::new(1_501, 200, 4).unwrap();
    let bits = |scores: &[f32]| scores.iter().map(|score| score.to_bits()).collect::<Vec<_>>();
    let pick = |n| {
        let softmax = || SoftmaxScores::new(toy.terms(ScoreKind::Learnability), threads(n));
        let streaming = || StreamingScores::new(toy.terms(ScoreKind::Learnability), threads(n));
        let (joint, by_sums) = (Selection::new(Method::Joint, plan), Selection::new(Method::IndependentRowSum, plan));
        let (mut scores, noise) = (softmax(), Gumbel::new(1, 2));
        let drawn = [
            joint.pick(&mut scores, &noise).unwrap(),
            by_sums.pick(&mut softmax(), &noise).unwrap(),
            by_sums.pick(&mut streaming(), &noise).unwrap(),
        ];
        let sums = [softmax().row_sums().unwrap().unwrap(), streaming().row_sums().unwrap().unwrap()];
        (drawn, bits(scores.conditional()), sums.map(|sums| bits(&sums)))
    };
    let alone = pick(1);
    for n in [2, 3, 300] {
        assert!(pick(n) == alone, "{n} threads");
    }
}

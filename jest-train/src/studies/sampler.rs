//! How close a draw in chunks comes to brute force: figure 2, which needs no training.

use jest_select::{BatchPlan, Candidate, DenseScores, Gumbel, InputError, Method, SelectError, Selection};

use super::StudyError;
use super::figure::{Kind, Panel, Point, Series};
use crate::{Result, TrainError};

/// Examples drawn in every comparison.
const SUB_BATCH: usize = 256;
/// Numbers of chunks.
const CHUNKS: [usize; 6] = [1, 2, 4, 8, 16, 32];
/// Steps of Gibbs sampling; the last stands for convergence.
const GIBBS: [usize; 7] = [1, 10, 100, 300, 1000, 3000, 10_000];
/// Super-batches, in sub-batches.
const RATIOS: [usize; 4] = [1, 2, 5, 10];

/// A part of the pool, of which super-batches are made.
#[derive(Debug, Clone, Copy)]
pub struct Pool {
    /// How titles go on with it.
    pub title: &'static str,
    /// What the JSON of its examples says, as `data.where` has it.
    pub conditions: &'static [&'static str],
    /// The gains at which its chunks are drawn.
    pub gains: &'static [f32],
    /// Whether super-batches of other sizes are drawn from, too.
    pub ratios: bool,
}

/// The pool as it is; its clean pairs; its clothes, whose ten captions repeat in every batch.
pub const POOLS: [Pool; 3] = [
    Pool { title: "", conditions: &[], gains: &[1.0, 100.0], ratios: true },
    Pool { title: " without noise", conditions: &["noise=none"], gains: &[100.0], ratios: false },
    Pool { title: " of clothes alone", conditions: &["source=fashion-mnist"], gains: &[100.0], ratios: false },
];

impl Pool {
    /// Examples of the largest super-batch that is drawn from.
    pub fn candidates(&self) -> usize {
        SUB_BATCH * if self.ratios { RATIOS[RATIOS.len() - 1] } else { 2 }
    }
}

/// Mean score `sum_ij S_ij / b` of drawn batches, one draw a seed.
#[derive(Default)]
struct Draws {
    /// By number of chunks.
    chunks: Vec<(f64, Vec<f64>)>,
    /// By steps of Gibbs sampling; step 0 is a random batch.
    gibbs: Vec<(f64, Vec<f64>)>,
    /// By filter ratio, in 16 chunks.
    ratios: Vec<(f64, Vec<f64>)>,
}

/// What a seed's score matrix is made of: the candidates' scores in the order of the data, most of them first.
type Scores<'a> = &'a dyn Fn(usize) -> Result<DenseScores>;

/// The panels of figure 2 for one pool, of one super-batch a seed: `scores(seed, B)` is the score matrix of its first B examples.
///
/// # Errors
/// As `scores` does, or the draw reports.
pub fn sampler(pool: &Pool, seeds: &[u64], scores: &dyn Fn(u64, usize) -> Result<DenseScores>) -> Result<Vec<Panel>> {
    let mut panels = Vec::new();
    for &gain in pool.gains {
        let mut draws = Draws::default();
        for &seed in seeds {
            one_seed(&mut draws, (gain, pool.ratios), seed, &|super_batch| scores(seed, super_batch))?;
        }
        let [chunks, ratios] = draws.panels(pool.title, gain);
        panels.push(chunks);
        panels.extend(pool.ratios.then_some(ratios));
    }
    Ok(panels)
}

fn one_seed(draws: &mut Draws, (gain, by_ratio): (f32, bool), seed: u64, scores: Scores<'_>) -> Result<()> {
    let middle = scores(2 * SUB_BATCH)?;
    let draw = |scores: &DenseScores, super_batch: usize, chunks: usize, method: Method, steps: usize| {
        let plan = BatchPlan::new(super_batch, SUB_BATCH, chunks)?.with_gain(gain)?;
        let selection = Selection::new(method, plan).with_gibbs_steps(steps);
        let picked = selection.pick(&mut scores.clone(), &Gumbel::new(seed, 0)).map_err(refused)?;
        Ok::<f64, TrainError>(mean(scores, picked.candidates()))
    };
    for chunks in CHUNKS {
        push(&mut draws.chunks, chunks as f64, draw(&middle, 2 * SUB_BATCH, chunks, Method::Joint, 0)?);
    }
    for steps in std::iter::once(0).chain(GIBBS) {
        push(&mut draws.gibbs, steps as f64, draw(&middle, 2 * SUB_BATCH, 1, Method::Gibbs, steps)?);
    }
    for ratio in RATIOS.into_iter().filter(|_| by_ratio) {
        let scores = scores(ratio * SUB_BATCH)?;
        let filtered = 1.0 - 1.0 / ratio as f64;
        push(&mut draws.ratios, filtered, draw(&scores, ratio * SUB_BATCH, 16, Method::Joint, 0)?);
    }
    Ok(())
}

fn refused(error: SelectError<InputError>) -> TrainError {
    StudyError::Figure { problem: error.to_string() }.into()
}

fn mean(scores: &DenseScores, batch: &[Candidate]) -> f64 {
    scores.total(batch) / batch.len() as f64
}

fn push(all: &mut Vec<(f64, Vec<f64>)>, x: f64, value: f64) {
    match all.iter_mut().find(|(known, _)| *known == x) {
        Some((_, values)) => values.push(value),
        None => all.push((x, vec![value])),
    }
}

impl Draws {
    /// Scores on the scale where one chunk is 0 and converged Gibbs sampling 1, seed by seed.
    fn panels(&self, of: &str, gain: f32) -> [Panel; 2] {
        let none = Vec::new();
        let values = |all: &'_ [(f64, Vec<f64>)], x: f64| {
            all.iter().find(|(known, _)| *known == x).map(|(_, values)| values.clone())
        };
        let zero = values(&self.chunks, 1.0).unwrap_or_else(|| none.clone());
        let one = self.gibbs.last().map(|(_, values)| values.clone()).unwrap_or_default();
        let scaled = |all: &[(f64, Vec<f64>)], low: &[f64], high: &[f64]| {
            let point = |(x, values): &(f64, Vec<f64>)| {
                let seeds = values.iter().zip(low).zip(high);
                // A seed whose batches all score the same has no scale.
                let scaled =
                    seeds.map(|((value, low), high)| (value - low) / (high - low)).filter(|value| value.is_finite());
                Point::of(*x, &scaled.collect::<Vec<_>>())
            };
            all.iter().filter_map(point).collect::<Vec<Point>>()
        };
        let random: Vec<Point> = scaled(&self.gibbs[..1.min(self.gibbs.len())], &zero, &one);
        let flat = |points: &[Point]| {
            let ends = [1.0, 10_000.0];
            points.iter().flat_map(|point| ends.map(|x| Point { x, ..*point })).collect()
        };
        let steps =
            Series { name: "Gibbs, steps".into(), points: scaled(self.gibbs.get(1..).unwrap_or(&[]), &zero, &one) };
        let chunks = Series { name: "joint, chunks".into(), points: scaled(&self.chunks, &zero, &one) };
        let uniform = values(&self.ratios, 0.0).unwrap_or_default();
        let half = values(&self.ratios, 0.5).unwrap_or_default();
        let ratios = Series { name: "16 chunks".into(), points: scaled(&self.ratios, &uniform, &half) };
        let panel = |title: String, x_label: &str, y_label: &str, kind, series| Panel {
            title,
            x_label: x_label.into(),
            y_label: y_label.into(),
            kind,
            series,
        };
        [
            panel(
                format!("Joint learnability of 256 out of 512{of}, gain {gain}"),
                "chunks, or steps of Gibbs sampling",
                "0: one chunk, 1: converged Gibbs",
                Kind::LogLines,
                vec![chunks, steps, Series { name: "random batch".into(), points: flat(&random) }],
            ),
            panel(
                format!("By filter ratio, gain {gain}"),
                "filter ratio f",
                "0: f = 0, 1: f = 0.5",
                Kind::Lines,
                vec![ratios],
            ),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scores with stripes, as a learnability matrix has them: an example is good or bad company, whatever it is alone.
    fn scores(seed: u64, super_batch: usize) -> DenseScores {
        let noise = |i: usize, k: u64| {
            let mixed = (i as u64 + 1)
                .wrapping_mul(0x9E37_79B9_7F4A_7C15)
                .wrapping_add(k ^ (seed << 20))
                .wrapping_mul(0xBF58_476D_1CE4_E5B9);
            (mixed >> 40) as f64 / (1u64 << 24) as f64 - 0.5
        };
        let mut s = vec![0.0; super_batch * super_batch];
        for i in 0..super_batch {
            for j in 0..super_batch {
                s[i * super_batch + j] = if i == j { 4.0 * noise(i, 1) } else { 0.05 * (noise(i, 2) + noise(j, 3)) };
            }
        }
        DenseScores::from_matrix(s, super_batch).unwrap()
    }

    #[test]
    fn chunks_close_in_on_brute_force_and_one_chunk_is_no_better_than_chance() {
        let panels = sampler(&POOLS[0], &[0, 1], &|seed, super_batch| Ok(scores(seed, super_batch))).unwrap();
        assert_eq!(panels.len(), 4);
        let [chunks, gibbs, random] = &panels[0].series[..] else { panic!("three curves") };
        let at = |series: &Series, x: f64| series.points.iter().find(|point| point.x == x).unwrap().mean;
        assert_eq!((at(chunks, 1.0), at(gibbs, 10_000.0)), (0.0, 1.0));
        assert!(at(chunks, 16.0) > 0.9 && at(chunks, 16.0) > at(chunks, 2.0), "{chunks:?}");
        assert!(at(gibbs, 1.0) < at(gibbs, 1000.0));
        assert_eq!(random.points.len(), 2);
        let ratios = &panels[1].series[0];
        assert_eq!((at(ratios, 0.0), at(ratios, 0.5)), (0.0, 1.0));
        assert!(at(ratios, 0.9) > at(ratios, 0.8) && at(ratios, 0.8) > 1.0);
        assert!(ratios.points.iter().all(|point| point.n == 2));
    }
}

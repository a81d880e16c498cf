//! How close a draw in chunks comes to brute force: figure 2, which needs no training.

use jest_select::{BatchPlan, Candidate, DenseScores, Gumbel, InputError, Method, SelectError, Selection};

use super::StudyError;
use super::figure::{Kind, Panel, Point, Series};
use crate::{Result, TrainError};

/// Numbers of chunks.
const CHUNKS: [usize; 6] = [1, 2, 4, 8, 16, 32];
/// Steps of Gibbs sampling of 256 examples, and as many more for more of them; the last stands for convergence.
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
    /// What is drawn of it.
    pub draws: &'static [Draw],
}

/// Draws of one size from super-batches of another.
#[derive(Debug, Clone, Copy)]
pub struct Draw {
    /// Examples drawn.
    pub sub_batch: usize,
    /// The super-batch, in sub-batches.
    pub ratio: usize,
    /// The gain of chunks.
    pub gain: f32,
    /// Whether it is drawn at every filter ratio, too.
    pub ratios: bool,
}

const SMALL: Draw = Draw { sub_batch: 256, ratio: 2, gain: 100.0, ratios: false };
const LARGE: Draw = Draw { sub_batch: 1024, ..SMALL };
const LARGER: Draw = Draw { sub_batch: 2048, ..SMALL };
/// At the paper's filter ratio, 0.8.
const OF_FIVE: [Draw; 3] = [SMALL.of(5), LARGE.of(5), LARGER.of(5)];

/// The pool as it is; its clean pairs; its clothes, whose ten captions repeat in every batch.
pub const POOLS: [Pool; 3] = [
    Pool {
        title: "",
        conditions: &[],
        draws: &[
            OF_FIVE[0],
            OF_FIVE[1],
            OF_FIVE[2],
            SMALL.of(10),
            LARGE.of(10),
            Draw { ratios: true, ..SMALL },
            LARGE,
            LARGER,
            Draw { gain: 1.0, ..SMALL },
        ],
    },
    Pool {
        title: " without noise",
        conditions: &["noise=none"],
        draws: &[OF_FIVE[0], OF_FIVE[1], OF_FIVE[2], SMALL, LARGE, LARGER],
    },
    Pool { title: " of clothes alone", conditions: &["source=fashion-mnist"], draws: &[SMALL, LARGE, LARGER] },
];

impl Pool {
    /// Its draws from at most so many candidates.
    pub fn draws(&self, most: usize) -> impl Iterator<Item = &Draw> {
        self.draws.iter().filter(move |draw| draw.candidates() <= most)
    }

    /// The most that leaves out the draws from the most candidates of these, while some are left.
    pub fn smaller(&self, most: usize) -> Option<usize> {
        let largest = self.candidates(most);
        self.draws(largest.saturating_sub(1)).map(Draw::candidates).max()
    }

    /// Examples of the largest super-batch that these are drawn from.
    pub fn candidates(&self, most: usize) -> usize {
        self.draws(most).map(Draw::candidates).max().unwrap_or(0)
    }
}

impl Draw {
    /// Of super-batches of another size.
    const fn of(self, ratio: usize) -> Self {
        Self { ratio, ..self }
    }

    fn super_batch(&self) -> usize {
        self.sub_batch * self.ratio
    }

    /// Examples of its largest super-batch.
    fn candidates(&self) -> usize {
        self.sub_batch * if self.ratios { RATIOS[RATIOS.len() - 1] } else { self.ratio }
    }

    /// Steps of Gibbs sampling, in proportion to the examples.
    fn gibbs(&self) -> impl Iterator<Item = usize> {
        let times = self.sub_batch / SMALL.sub_batch;
        GIBBS.into_iter().map(move |steps| steps * times)
    }
}

/// Mean score `sum_ij S_ij / b` of drawn batches, one draw a seed.
#[derive(Default)]
struct Drawn {
    /// By number of chunks.
    chunks: Vec<(f64, Vec<f64>)>,
    /// By steps of Gibbs sampling; step 0 is a random batch.
    gibbs: Vec<(f64, Vec<f64>)>,
    /// By filter ratio, in 16 chunks.
    ratios: Vec<(f64, Vec<f64>)>,
}

/// What a seed's score matrix is made of: the candidates' scores in the order of the data, most of them first.
type Scores<'a> = &'a dyn Fn(usize) -> Result<DenseScores>;

/// The panels of figure 2 for one pool, of one super-batch of at most so many candidates a seed: `scores(seed, B)` is the score
/// matrix of its first B examples.
///
/// # Errors
/// As `scores` does, or the draw reports.
pub fn sampler(
    pool: &Pool,
    most: usize,
    seeds: &[u64],
    scores: &dyn Fn(u64, usize) -> Result<DenseScores>,
) -> Result<Vec<Panel>> {
    let mut panels = Vec::new();
    for draw in pool.draws(most) {
        let mut drawn = Drawn::default();
        for &seed in seeds {
            drawn.add(draw, seed, &|super_batch| scores(seed, super_batch))?;
        }
        let [chunks, ratios] = drawn.panels(draw, pool.title);
        panels.push(chunks);
        panels.extend(draw.ratios.then_some(ratios));
    }
    Ok(panels)
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

impl Drawn {
    /// What one seed's super-batch gives.
    fn add(&mut self, draw: &Draw, seed: u64, scores: Scores<'_>) -> Result<()> {
        let Draw { sub_batch, gain, ratios, .. } = *draw;
        let middle = scores(draw.super_batch())?;
        let mean = |scores: &DenseScores, super_batch: usize, chunks: usize, method: Method, steps: usize| {
            let plan = BatchPlan::new(super_batch, sub_batch, chunks)?.with_gain(gain)?;
            let selection = Selection::new(method, plan).with_gibbs_steps(steps);
            let picked = selection.pick(&mut scores.clone(), &Gumbel::new(seed, 0)).map_err(refused)?;
            Ok::<f64, TrainError>(mean(scores, picked.candidates()))
        };
        for chunks in CHUNKS {
            push(&mut self.chunks, chunks as f64, mean(&middle, draw.super_batch(), chunks, Method::Joint, 0)?);
        }
        for steps in std::iter::once(0).chain(draw.gibbs()) {
            push(&mut self.gibbs, steps as f64, mean(&middle, draw.super_batch(), 1, Method::Gibbs, steps)?);
        }
        for ratio in RATIOS.into_iter().filter(|_| ratios) {
            let scores = scores(ratio * sub_batch)?;
            let filtered = 1.0 - 1.0 / ratio as f64;
            push(&mut self.ratios, filtered, mean(&scores, ratio * sub_batch, 16, Method::Joint, 0)?);
        }
        Ok(())
    }

    /// Scores on the scale where one chunk is 0 and converged Gibbs sampling 1, seed by seed.
    fn panels(&self, draw: &Draw, of: &str) -> [Panel; 2] {
        let (b, gain) = (draw.sub_batch, draw.gain);
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
            let ends = [1.0, self.gibbs.last().map_or(1.0, |(steps, _)| *steps)];
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
                format!("Joint learnability of {b} out of {}{of}, gain {gain}", draw.super_batch()),
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
    fn a_pool_gives_what_it_has_examples_for() {
        let [whole, clean, _] = &POOLS;
        // One after the other as the pool turns out too small.
        let steps = |pool: &Pool| {
            std::iter::successors(Some(pool.candidates(usize::MAX)), |most| pool.smaller(*most)).collect::<Vec<_>>()
        };
        assert_eq!(steps(whole), [10_240, 5120, 4096, 2560, 2048, 1280, 512]);
        assert_eq!(steps(clean), [10_240, 5120, 4096, 2048, 1280, 512]);
        let drawn = |most| whole.draws(most).map(|draw| (draw.sub_batch, draw.ratio)).collect::<Vec<_>>();
        assert_eq!(drawn(2048), [(256, 5), (1024, 2), (256, 2)]);
        assert_eq!(whole.draws(usize::MAX).count(), 9);
        assert!(LARGER.gibbs().eq([8, 80, 800, 2400, 8000, 24_000, 80_000]));
    }

    #[test]
    fn chunks_close_in_on_brute_force_and_one_chunk_is_no_better_than_chance() {
        let panels = sampler(&POOLS[0], 2560, &[0, 1], &|seed, super_batch| Ok(scores(seed, super_batch))).unwrap();
        let titles: Vec<&str> = panels.iter().map(|panel| panel.title.as_str()).collect();
        let [of_1280, of_2560, of_512, by_ratio, large, noisy] = [
            "Joint learnability of 256 out of 1280, gain 100",
            "Joint learnability of 256 out of 2560, gain 100",
            "Joint learnability of 256 out of 512, gain 100",
            "By filter ratio, gain 100",
            "Joint learnability of 1024 out of 2048, gain 100",
            "Joint learnability of 256 out of 512, gain 1",
        ];
        assert_eq!(titles, [of_1280, of_2560, of_512, by_ratio, large, noisy]);
        let [chunks, gibbs, random] = &panels[2].series[..] else { panic!("three curves") };
        let at = |series: &Series, x: f64| series.points.iter().find(|point| point.x == x).unwrap().mean;
        assert_eq!((at(chunks, 1.0), at(gibbs, 10_000.0)), (0.0, 1.0));
        assert!(at(chunks, 16.0) > 0.9 && at(chunks, 16.0) > at(chunks, 2.0), "{chunks:?}");
        assert!(at(gibbs, 1.0) < at(gibbs, 1000.0));
        assert_eq!(random.points.len(), 2);
        assert!(at(&panels[0].series[0], 16.0) > 0.9);
        let ratios = &panels[3].series[0];
        assert_eq!((at(ratios, 0.0), at(ratios, 0.5)), (0.0, 1.0));
        assert!(at(ratios, 0.9) > at(ratios, 0.8) && at(ratios, 0.8) > 1.0);
        assert!(ratios.points.iter().all(|point| point.n == 2));
    }
}

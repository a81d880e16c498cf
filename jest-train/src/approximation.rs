//! Cheap views of the towers: what candidates are scored at, and a part of every sub-batch is trained at.

use std::ops::Range;

use jest_model::View;

use crate::config::SelectionPlan;

/// Flexi-JEST: candidates are scored at a cheap view, and that share of every sub-batch is trained at it, so that one set
/// of weights serves both. The default scores and trains at the full view.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Approximation {
    /// The cheap view; the full one where nothing is approximated.
    view: View,
    /// Share of a sub-batch that is trained at it, in the first update and in the last.
    shares: [f64; 2],
    /// Updates of the run.
    steps: u64,
    seed: u64,
}

/// Neighbouring examples that are computed at one view.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// Rows of the batch.
    pub rows: Range<usize>,
    /// Their view.
    pub view: View,
}

/// What patches are dropped for: each has its own draws.
#[derive(Clone, Copy)]
enum Purpose {
    Scoring,
    Training,
}

impl Approximation {
    /// The approximation of a run of so many updates whose plan has this seed.
    pub fn of(plan: &SelectionPlan, steps: u64, seed: u64) -> Self {
        let asked = &plan.approximation;
        let view = View {
            patch_size: asked.patch_size,
            keep_tokens: asked.keep_tokens,
            text_tokens: asked.text_tokens,
            ..View::default()
        };
        let shares = [plan.cheap_share, plan.cheap_share_end.unwrap_or(plan.cheap_share)];
        Self { view, shares, steps, seed }
    }

    /// The view at which the candidates of update `step` (from 0) are scored.
    pub fn scoring(&self, step: u64) -> View {
        self.view_of(step, Purpose::Scoring)
    }

    /// The order in which a sub-batch of n is trained in update `step`, and the views of its parts, full first.
    ///
    /// Every chunk of a draw falls into both parts: at a share of one half every second example is cheap, the first not.
    pub fn training(&self, n: usize, step: u64) -> (Vec<usize>, Vec<Part>) {
        let cheap = self.cheap(n, step);
        let is_cheap = |i: &usize| (i + 1) * cheap / n > i * cheap / n;
        let (mut order, cheap_ones): (Vec<usize>, Vec<usize>) = (0..n).partition(|i| !is_cheap(i));
        order.extend(cheap_ones);
        let parts = [(0..n - cheap, View::default()), (n - cheap..n, self.view_of(step, Purpose::Training))];
        (
            order,
            parts.into_iter().filter(|(rows, _)| !rows.is_empty()).map(|(rows, view)| Part { rows, view }).collect(),
        )
    }

    /// How many of n are trained at the cheap view in update `step`, rounded to the nearest: the share goes from that of
    /// the first update to that of the last in a straight line.
    fn cheap(&self, n: usize, step: u64) -> usize {
        let [first, last] = self.shares;
        let way = step as f64 / self.steps.saturating_sub(1).max(1) as f64;
        ((first + (last - first) * way.min(1.0)) * n as f64).round() as usize
    }

    fn view_of(&self, step: u64, purpose: Purpose) -> View {
        let mut hasher = blake3::Hasher::new();
        for number in [self.seed, step, purpose as u64] {
            hasher.update(&number.to_le_bytes());
        }
        let seed = hasher.finalize().as_bytes().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        View { seed: if self.view.keep_tokens.is_some() { seed } else { 0 }, ..self.view }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_is_every_second_and_any_share_is_spread() {
        let with = |share| Approximation { view: View::patches(16), shares: [share; 2], steps: 10, seed: 1 };
        let (order, parts) = with(0.5).training(6, 0);
        assert_eq!(order, [0, 2, 4, 1, 3, 5]);
        assert_eq!(parts, [Part { rows: 0..3, view: View::default() }, Part { rows: 3..6, view: View::patches(16) }]);
        for (share, cheap) in [(0.0, 0), (0.25, 4), (0.3, 5), (0.75, 12), (0.95, 15), (1.0, 16)] {
            let (mut order, parts) = with(share).training(16, 3);
            let got: usize = parts.iter().filter(|part| part.view != View::default()).map(|part| part.rows.len()).sum();
            assert_eq!(got, cheap, "{share}");
            assert_eq!(parts.iter().map(|part| part.rows.len()).sum::<usize>(), 16);
            // In each quarter of the draw about as many.
            let in_first = order[16 - cheap..].iter().filter(|i| **i < 4).count();
            assert!(in_first.abs_diff(cheap / 4) <= 1, "{share}: {order:?}");
            order.sort_unstable();
            assert!(order.into_iter().eq(0..16));
        }
        let (order, parts) = Approximation::default().training(3, 9);
        assert_eq!((order, parts), (vec![0, 1, 2], vec![Part { rows: 0..3, view: View::default() }]));
    }

    #[test]
    fn a_share_goes_to_its_end_in_a_straight_line() {
        let falling = Approximation { view: View::patches(16), shares: [1.0, 0.0], steps: 5, seed: 1 };
        let cheap = |of: &Approximation, step| {
            let (_, parts) = of.training(8, step);
            parts.iter().filter(|part| part.view != View::default()).map(|part| part.rows.len()).sum::<usize>()
        };
        assert_eq!([0, 1, 2, 3, 4, 5].map(|step| cheap(&falling, step)), [8, 6, 4, 2, 0, 0]);
        let one = Approximation { steps: 1, ..falling };
        assert_eq!(cheap(&one, 0), 8);
    }

    #[test]
    fn patches_are_drawn_anew_for_every_step_and_purpose() {
        let view = View { keep_tokens: Some(4), ..View::default() };
        let with = |seed| Approximation { view, shares: [1.0; 2], steps: 9, seed };
        let mut seeds: Vec<u64> = (0..4).map(|step| with(0).scoring(step).seed).collect();
        seeds.extend((0..4).map(|step| with(0).training(8, step).1[0].view.seed));
        seeds.extend((0..4).map(|step| with(1).scoring(step).seed));
        seeds.sort_unstable();
        seeds.dedup();
        assert_eq!(seeds.len(), 12);
        assert_eq!(with(5).scoring(7), with(5).scoring(7));
        let patches = Approximation { view: View::patches(16), shares: [1.0; 2], steps: 9, seed: 3 };
        assert_eq!(patches.scoring(2), View::patches(16));
    }
}

//! Dynamic scale of the loss, so that gradients stay in the range of f16.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// Exponent of the first scale: 65,536, as in other libraries.
const FIRST: i32 = 16;
/// Good updates in a row after which the scale doubles.
const GROWTH: u32 = 2_000;
/// Skipped updates in a row after which a gradient is taken for broken, not for large.
const PATIENCE: u32 = 40;

/// `scale = 2^exponent`: halved after an update that was skipped, doubled after 2,000 good ones in a row.
///
/// What became of an update is known while the next one is under way, so it counts from the one after that on. It
/// does so also where it is known earlier, as after a checkpoint: a resumed run scales as one that was not stopped.
///
/// # Source
/// Micikevicius et al., "Mixed precision training", arXiv 1710.03740.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossScale {
    exponent: i32,
    good: u32,
    skipped: u64,
    skipped_in_a_row: u32,
    /// Updates begun whose fate does not count yet.
    open: u32,
    /// What became of the first of them, where known: true when it was made.
    known: VecDeque<bool>,
}

impl Default for LossScale {
    fn default() -> Self {
        Self { exponent: FIRST, good: 0, skipped: 0, skipped_in_a_row: 0, open: 0, known: VecDeque::new() }
    }
}

impl LossScale {
    /// The scale of the update that begins now, a power of two, and how many updates count as skipped from now on.
    pub fn begin(&mut self) -> (f32, u64) {
        let mut skipped = 0;
        while self.open > 1
            && let Some(made) = self.known.pop_front()
        {
            self.open -= 1;
            self.count(made);
            skipped += u64::from(!made);
        }
        self.open += 1;
        (2f32.powi(self.exponent), skipped)
    }

    /// Notes whether an update was made; once for each that began, in order.
    pub fn learn(&mut self, made: bool) {
        self.known.push_back(made);
        self.skipped_in_a_row = if made { 0 } else { self.skipped_in_a_row + 1 };
        self.skipped += u64::from(!made);
    }

    fn count(&mut self, made: bool) {
        self.good = if made { self.good + 1 } else { 0 };
        if !made {
            self.exponent = (self.exponent - 1).max(-24);
        } else if self.good == GROWTH {
            (self.exponent, self.good) = ((self.exponent + 1).min(24), 0);
        }
    }

    /// Updates skipped so far.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// True when so many updates in a row were skipped that no scale can be the cause.
    pub fn has_failed(&self) -> bool {
        self.skipped_in_a_row >= PATIENCE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scales of updates that overflow above a limit, their fate told one update late.
    fn scales(limit: f32, updates: usize) -> (Vec<f32>, LossScale) {
        let (mut scale, mut all, mut late) = (LossScale::default(), Vec::new(), None);
        for _ in 0..updates {
            let (now, _) = scale.begin();
            if let Some(made) = late.replace(now <= limit) {
                scale.learn(made);
            }
            all.push(now);
        }
        (all, scale)
    }

    #[test]
    fn it_halves_until_updates_are_made() {
        let (all, scale) = scales(10_000.0, 12);
        assert_eq!(all[..8], [65_536.0, 65_536.0, 32_768.0, 16_384.0, 8_192.0, 4_096.0, 4_096.0, 4_096.0]);
        assert_eq!((scale.skipped(), scale.has_failed()), (4, false));
    }

    #[test]
    fn it_doubles_after_many_good_updates() {
        let (all, _) = scales(f32::MAX, GROWTH as usize + 2);
        assert_eq!((all[GROWTH as usize], all[GROWTH as usize + 1]), (65_536.0, 131_072.0));
    }

    #[test]
    fn what_is_known_early_counts_no_earlier() {
        let (want, _) = scales(10_000.0, 12);
        for stop in 1..11 {
            let (mut scale, mut got, mut late) = (LossScale::default(), Vec::new(), None);
            for update in 0..12 {
                let (now, _) = scale.begin();
                if let Some(made) = late.take() {
                    scale.learn(made);
                }
                got.push(now);
                if update == stop {
                    scale.learn(now <= 10_000.0);
                    let text = serde_json::to_string(&scale).unwrap();
                    scale = serde_json::from_str(&text).unwrap();
                } else {
                    late = Some(now <= 10_000.0);
                }
            }
            assert_eq!(got, want, "stopped after update {stop}");
        }
    }

    #[test]
    fn a_gradient_that_is_never_finite_fails() {
        let (all, scale) = scales(0.0, 60);
        assert!(scale.has_failed());
        assert_eq!(all.last(), Some(&2f32.powi(-24)));
    }
}

//! Learning rate and decay of every step.

use serde::{Deserialize, Serialize};

/// Shape of the learning rate after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScheduleKind {
    /// Half a cosine, from 1 down to 0 at the last step.
    #[default]
    Cosine,
    /// 1 throughout.
    Const,
}

/// What weight decay is multiplied by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decay {
    /// By the learning rate of the step: torch's and open_clip's `lr * wd`.
    Lr,
    /// By the schedule alone, not by the peak learning rate: big_vision's, and the paper's.
    #[default]
    Schedule,
}

/// Warm-up, then [`ScheduleKind`]. Steps are 0-based: the update about to be made.
///
/// ```
/// use jest_train::schedule::{Decay, Schedule, ScheduleKind};
///
/// let schedule = Schedule { kind: ScheduleKind::Cosine, warmup: 2, steps: 6, lr: 0.1, weight_decay: 1e-4, decay: Decay::Schedule };
/// let factors: Vec<f64> = (0..6).map(|step| schedule.factor_at(step)).collect();
/// assert_eq!(factors[..4], [0.5, 1.0, 1.0, 0.8535533905932737]);
/// assert!((schedule.lr_at(4) - 0.05).abs() < 1e-15);
/// ```
///
/// # Source
/// open_clip's `cosine_lr` and big_vision's `create_learning_rate_schedule`; they differ in the warm-up, which is open_clip's here.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    /// Shape after the warm-up.
    pub kind: ScheduleKind,
    /// Steps of the warm-up; 0 for none.
    pub warmup: u64,
    /// Steps of the run.
    pub steps: u64,
    /// Peak learning rate.
    pub lr: f64,
    /// Share of a parameter taken off it at a factor of 1, before [`Decay`].
    pub weight_decay: f64,
    /// What `weight_decay` is multiplied by.
    pub decay: Decay,
}

impl Schedule {
    /// `(step + 1) / warmup` while warming up, then `0.5 * (1 + cos(pi * (step - warmup) / (steps - warmup)))`, or 1.
    pub fn factor_at(&self, step: u64) -> f64 {
        if step < self.warmup {
            return (step + 1) as f64 / self.warmup as f64;
        }
        match self.kind {
            ScheduleKind::Const => 1.0,
            ScheduleKind::Cosine => {
                let length = self.steps.saturating_sub(self.warmup).max(1);
                let done = (step - self.warmup).min(length) as f64 / length as f64;
                0.5 * (1.0 + (std::f64::consts::PI * done).cos())
            }
        }
    }

    /// `lr * factor_at(step)`.
    pub fn lr_at(&self, step: u64) -> f64 {
        self.lr * self.factor_at(step)
    }

    /// The share of a parameter that this step takes off it: `lr * wd * factor`, or `wd * factor`.
    pub fn decay_at(&self, step: u64) -> f64 {
        match self.decay {
            Decay::Lr => self.weight_decay * self.lr_at(step),
            Decay::Schedule => self.weight_decay * self.factor_at(step),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(kind: ScheduleKind, warmup: u64, steps: u64) -> Schedule {
        Schedule { kind, warmup, steps, lr: 1e-3, weight_decay: 1e-4, decay: Decay::Schedule }
    }

    fn check(schedule: Schedule, step: u64, expected: f64) {
        let got = schedule.factor_at(step);
        assert!((got - expected).abs() <= 1e-15, "{schedule:?} at {step}: {got}, expected {expected}");
    }

    #[test]
    fn hand_values() {
        let cosine = schedule(ScheduleKind::Cosine, 4, 12);
        for (step, expected) in
            [(0, 0.25), (1, 0.5), (3, 1.0), (4, 1.0), (6, 0.5 + 0.125_f64.sqrt()), (8, 0.5), (12, 0.0)]
        {
            check(cosine, step, expected);
        }
        check(cosine, 10, 0.5 - 0.125_f64.sqrt());
        let constant = schedule(ScheduleKind::Const, 4, 12);
        for (step, expected) in [(0, 0.25), (3, 1.0), (4, 1.0), (11, 1.0)] {
            check(constant, step, expected);
        }
    }

    #[test]
    fn edges_stay_finite() {
        check(schedule(ScheduleKind::Cosine, 0, 1), 0, 1.0);
        check(schedule(ScheduleKind::Cosine, 5, 5), 4, 1.0);
        check(schedule(ScheduleKind::Cosine, 5, 5), 5, 1.0);
        check(schedule(ScheduleKind::Cosine, 2, 6), 900, 0.0);
    }

    #[test]
    fn decay_follows_the_schedule_or_the_learning_rate() {
        let paper = schedule(ScheduleKind::Cosine, 4, 12);
        let torch = Schedule { decay: Decay::Lr, weight_decay: 0.1, ..paper };
        for step in 0..12 {
            assert!((paper.decay_at(step) - 1e-4 * paper.factor_at(step)).abs() < 1e-18);
            assert!((paper.decay_at(step) - torch.decay_at(step)).abs() < 1e-18, "1e-4 is 0.1 at lr 1e-3");
        }
    }
}

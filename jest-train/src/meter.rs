//! Where a run's seconds and floating-point operations go.

use std::time::Duration;

use crate::clock::Clock;
use crate::events::{Cost, Flops, Seconds, Timing};

/// What time is spent on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Forward, backward and update on the sub-batch.
    Learn,
    /// The learner's embeddings of the super-batch, and the selection.
    Score,
    /// The reference's embeddings.
    Reference,
    /// Waiting for examples.
    Data,
    /// Evaluation.
    Eval,
}

/// Adds up seconds and FLOPs by kind.
pub struct Meter<'a> {
    clock: &'a dyn Clock,
    /// Seconds so far.
    pub seconds: Seconds,
    /// Floating-point operations executed so far; a multiply-add counts two.
    pub flops: Flops,
    /// The earlier runs that made the first parameters.
    pub init: Vec<Cost>,
    /// Runs that made references.
    references: Vec<Cost>,
    lap: (Duration, Seconds),
}

impl<'a> Meter<'a> {
    /// Starts from zero.
    pub fn new(clock: &'a dyn Clock) -> Self {
        Self {
            clock,
            seconds: Seconds::default(),
            flops: Flops::default(),
            init: Vec::new(),
            references: Vec::new(),
            lap: (clock.now(), Seconds::default()),
        }
    }

    /// Notes what earlier runs took to make parameters that this one begins with, each run once.
    pub fn note_init(&mut self, costs: Vec<Cost>) {
        for cost in costs {
            if !self.init.iter().any(|known| known.is_of(&cost)) {
                self.init.push(cost);
            }
        }
    }

    /// Books what earlier runs took to make a reference, each run once, but for references within them: not those that
    /// made the first parameters, too.
    pub fn charge_reference(&mut self, costs: Vec<Cost>) {
        for cost in costs {
            if !self.init.iter().chain(&self.references).any(|known| known.is_of(&cost)) {
                self.flops.reference += cost.flops;
                self.seconds.reference += cost.seconds;
                self.references.push(cost);
            }
        }
    }

    /// Runs `work` and books its time.
    pub fn spend<R>(&mut self, kind: Kind, work: impl FnOnce() -> R) -> R {
        let start = self.clock.now();
        let result = work();
        let seconds = (self.clock.now() - start).as_secs_f64();
        let slot = match kind {
            Kind::Learn => &mut self.seconds.learn,
            Kind::Score => &mut self.seconds.score,
            Kind::Reference => &mut self.seconds.reference,
            Kind::Data => &mut self.seconds.data,
            Kind::Eval => &mut self.seconds.eval,
        };
        *slot += seconds;
        result
    }

    /// What was spent since the last lap, or since the meter was made.
    pub fn lap(&mut self) -> Timing {
        let now = self.clock.now();
        let (then, before) = std::mem::replace(&mut self.lap, (now, self.seconds));
        let seconds = self.seconds.since(&before);
        Timing { wall: (now - then).as_secs_f64(), waited: seconds.data, seconds }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::FakeClock;

    #[test]
    fn time_is_booked_by_kind() {
        let clock = FakeClock::default();
        let mut meter = Meter::new(&clock);
        meter.spend(Kind::Learn, || clock.advance(Duration::from_secs(2)));
        meter.spend(Kind::Data, || clock.advance(Duration::from_secs(1)));
        meter.spend(Kind::Learn, || clock.advance(Duration::from_secs(3)));
        assert_eq!((meter.seconds.learn, meter.seconds.data, meter.seconds.total()), (5.0, 1.0, 6.0));
        assert_eq!((meter.lap().wall, meter.lap().wall), (6.0, 0.0));
        clock.advance(Duration::from_secs(1));
        meter.spend(Kind::Score, || clock.advance(Duration::from_secs(2)));
        let lap = meter.lap();
        assert_eq!((lap.wall, lap.seconds.score, lap.seconds.learn), (3.0, 2.0, 0.0));
    }
}

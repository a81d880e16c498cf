//! Time, read at the edge and passed in.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// Monotonic time since some fixed moment.
pub trait Clock {
    /// Time since that moment; never less than an answer before.
    fn now(&self) -> Duration;
}

/// The machine's clock.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock(Instant);

impl SystemClock {
    /// A clock that is zero now.
    pub fn start() -> Self {
        Self(Instant::now())
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }
}

/// A clock for tests: it stands still until told to advance.
#[derive(Debug, Default)]
pub struct FakeClock(Cell<Duration>);

impl FakeClock {
    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        self.0.set(self.0.get() + by);
    }
}

impl Clock for FakeClock {
    fn now(&self) -> Duration {
        self.0.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_moves_forward() {
        let fake = FakeClock::default();
        fake.advance(Duration::from_secs(3));
        assert_eq!(fake.now(), Duration::from_secs(3));
        let system = SystemClock::start();
        let before = system.now();
        assert!(system.now() >= before);
    }
}

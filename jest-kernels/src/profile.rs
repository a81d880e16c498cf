//! Where the time of a device goes: seconds, calls and work by kernel.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// What one kernel did while a profile was taken.
#[derive(Clone, Debug, PartialEq)]
pub struct KernelTime {
    /// Operation and entry, as in `layer_norm/forward`.
    pub name: String,
    /// How often it ran.
    pub calls: u64,
    /// Time of all calls.
    pub time: Duration,
    /// Floating-point operations of products; 0 where memory alone counts.
    pub flops: f64,
    /// Bytes that its operands take, each counted once a call.
    pub bytes: f64,
}

/// One call of one kernel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Span {
    /// Operation and entry.
    pub name: &'static str,
    /// When it began: since the first of the profile, by the clock that was passed in or the GPU's own.
    pub start: Duration,
    /// How long it took.
    pub time: Duration,
}

/// What a device did while a profile was taken.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Profile {
    /// Sums by kernel, the longest first.
    pub kernels: Vec<KernelTime>,
    /// Every call in order, up to the first million.
    pub spans: Vec<Span>,
}

/// Calls that a profile holds one by one.
const MOST_SPANS: usize = 1 << 20;

/// A monotonic clock, read where the program meets the world and passed in.
pub type Now = fn() -> Duration;

/// One call of a kernel: its name and how much there is to do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Work {
    name: &'static str,
    pub(crate) flops: f64,
    bytes: f64,
}

impl Work {
    /// A call that moves `words` 32-bit words.
    pub(crate) fn words(name: &'static str, words: usize) -> Self {
        Self { name, flops: 0.0, bytes: 4.0 * words as f64 }
    }

    /// A call that multiplies matrices: `flops` operations on `words` 32-bit words.
    pub(crate) fn products(name: &'static str, flops: f64, words: usize) -> Self {
        Self { flops, ..Self::words(name, words) }
    }
}

/// Takes the time of kernels while it is switched on; costs one load when it is not.
#[derive(Debug, Default)]
pub(crate) struct Profiler {
    on: AtomicBool,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    now: Option<Now>,
    began: Duration,
    kernels: BTreeMap<&'static str, KernelTime>,
    spans: Vec<Span>,
}

impl Taken {
    fn book(&mut self, work: Work, start: Duration, time: Duration) {
        if self.spans.len() < MOST_SPANS {
            self.spans.push(Span { name: work.name, start, time });
        }
        let kernel = self.kernels.entry(work.name).or_insert_with(|| KernelTime {
            name: work.name.to_string(),
            calls: 0,
            time: Duration::ZERO,
            flops: 0.0,
            bytes: 0.0,
        });
        kernel.calls += 1;
        kernel.time += time;
        kernel.flops += work.flops;
        kernel.bytes += work.bytes;
    }
}

impl Profiler {
    pub(crate) fn start(&self, now: Now) {
        *self.locked() = Taken { now: Some(now), began: now(), ..Taken::default() };
        self.on.store(true, Ordering::Release);
    }

    /// Switches it off.
    pub(crate) fn stop(&self) -> Profile {
        self.on.store(false, Ordering::Release);
        let Taken { kernels, spans, .. } = std::mem::take(&mut *self.locked());
        let mut kernels: Vec<_> = kernels.into_values().collect();
        kernels.sort_by(|a, b| b.time.cmp(&a.time).then_with(|| a.name.cmp(&b.name)));
        Profile { kernels, spans }
    }

    /// Runs `call` and, when switched on, books its time.
    pub(crate) fn time<R>(&self, work: Work, call: impl FnOnce() -> R) -> R {
        let now = if self.on.load(Ordering::Acquire) { self.locked().now } else { None };
        let Some(now) = now else { return call() };
        let start = now();
        let result = call();
        let time = now().saturating_sub(start);
        self.locked().book(work, start, time);
        result
    }

    /// Books a call that began `since` the profile did, by another clock.
    pub(crate) fn book(&self, work: Work, since: Duration, time: Duration) {
        let mut taken = self.locked();
        let start = taken.began + since;
        taken.book(work, start, time);
    }

    /// Whether it is switched on.
    pub(crate) fn is_on(&self) -> bool {
        self.on.load(Ordering::Acquire)
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::{gelu, matmul};
    use crate::testing::{devices_in, tally};
    use crate::{Pass, Precision};

    /// Runs `case` on devices that no other test profiles.
    fn on_own_devices(case: impl Fn(&mut Pass)) {
        for device in devices_in(Precision::F32) {
            case(&mut device.pass());
            tally(&device);
        }
    }

    fn tick() -> Duration {
        static TICKS: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        Duration::from_millis(TICKS.fetch_add(1, Ordering::Relaxed))
    }

    #[test]
    fn what_runs_while_it_is_on_is_counted_once() {
        on_own_devices(|pass| {
            let device = pass.device().clone();
            let x = pass.upload(&[1.0; 12], &[3, 4]).unwrap();
            gelu::forward(pass, gelu::Gelu::Tanh, &x).unwrap();
            device.start_profile(tick);
            for _ in 0..2 {
                gelu::forward(pass, gelu::Gelu::Tanh, &x).unwrap();
            }
            matmul::forward(pass, matmul::Form::ABt, &x, &x).unwrap();
            let Profile { kernels: taken, spans } = device.stop_profile();
            gelu::forward(pass, gelu::Gelu::Tanh, &x).unwrap();
            let of = |name: &str| taken.iter().find(|kernel| kernel.name == name).unwrap_or_else(|| panic!("{name}"));
            let (gelu, product) = (of("gelu/forward"), of("matmul/write"));
            assert_eq!((gelu.calls, product.calls), (2, 1));
            // By the host's clock each call takes a tick, by the GPU's own what it takes.
            let least = if pass.abilities().timestamps { Duration::from_nanos(1) } else { Duration::from_millis(1) };
            assert!(spans.iter().all(|span| span.time >= least), "{spans:?}");
            assert_eq!(gelu.bytes, 2.0 * 24.0 * 4.0);
            assert_eq!(product.flops, 2.0 * 3.0 * 3.0 * 4.0);
            assert_eq!(spans.len(), 3);
            assert!(spans.is_sorted_by_key(|span| span.start) && spans[2].name == "matmul/write");
            assert_eq!(spans.iter().map(|span| span.time).sum::<Duration>(), gelu.time + product.time);
            assert_eq!(device.stop_profile(), Profile::default());
        });
    }

    #[test]
    fn calls_of_many_submissions_are_told_in_order() {
        on_own_devices(|pass| {
            const CALLS: usize = 700;
            let device = pass.device().clone();
            let x = pass.upload(&[1.0; 12], &[3, 4]).unwrap();
            device.start_profile(tick);
            for _ in 0..CALLS {
                gelu::forward(pass, gelu::Gelu::Tanh, &x).unwrap();
            }
            let profile = device.stop_profile();
            let spans: Vec<_> = profile.spans.iter().filter(|span| span.name == "gelu/forward").collect();
            assert!(spans.len() == CALLS && spans.is_sorted_by_key(|span| span.start));
            assert!(spans.windows(2).all(|pair| pair[0].start + pair[0].time <= pair[1].start), "one after the other");
        });
    }
}

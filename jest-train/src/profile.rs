//! Where the time of a device goes: a table held against what the device can do, and a trace for a viewer.

use std::time::Duration;

use jest_kernels::ops::{add, matmul};
use jest_kernels::testing::random;
use jest_kernels::{Device, DeviceKind, KernelTime, Now, Profile, Span};

use crate::Result;

/// Side of the square product that stands for the most arithmetic, on a CPU and on a real GPU, which 64 tiles do not fill.
const SIDES: [usize; 2] = [1024, 4096];
/// Elements of each of the three arrays of the sum that stands for the most memory traffic: beyond the caches of each.
const ELEMENTS: [usize; 2] = [1 << 24, 1 << 26];
/// Calls that are waited for together.
const CALLS: [usize; 2] = [1, 8];

/// Calls of an operation that are timed together: on a real GPU several, as a wait takes as long as a small product.
pub fn calls_at_once(device: &Device) -> usize {
    CALLS[usize::from(is_real_gpu(device))]
}

fn is_real_gpu(device: &Device) -> bool {
    let info = device.info();
    info.kind == DeviceKind::Gpu && !info.software
}
const REPEATS: usize = 3;

/// The most that a device was seen to do, in the precision it was opened with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ceiling {
    /// Floating-point operations a second of a square product, 1e9.
    pub gflops: f64,
    /// Bytes a second read and written by a sum of two arrays, 1e9.
    pub gbytes: f64,
}

impl Ceiling {
    /// The best of three products and sums, after one of each.
    ///
    /// # Errors
    /// As the device reports.
    pub fn measure(device: &Device, now: Now) -> Result<Self> {
        let (mut pass, calls) = (device.pass(), calls_at_once(device));
        let [side, elements] = [SIDES, ELEMENTS].map(|of| of[usize::from(is_real_gpu(device))]);
        let square = pass.upload(&random(side * side, 1), &[side, side])?;
        let long = pass.zeros(&[elements])?;
        let mut best = [f64::INFINITY; 2];
        for repeat in 0..=REPEATS {
            let start = now();
            for _ in 0..calls {
                matmul::forward(&mut pass, matmul::Form::AB, &square, &square)?;
            }
            pass.wait()?;
            let between = now();
            for _ in 0..calls {
                add::forward(&mut pass, &long, &long)?;
            }
            pass.wait()?;
            if repeat > 0 {
                best[0] = best[0].min((between - start).as_secs_f64());
                best[1] = best[1].min((now() - between).as_secs_f64());
            }
        }
        // The array is read twice, but comes from memory once.
        let (flops, bytes) = (2.0 * side.pow(3) as f64, 8.0 * elements as f64);
        let [flops, bytes] = [flops, bytes].map(|once| once * calls as f64);
        Ok(Self { gflops: flops / best[0] / 1e9, gbytes: bytes / best[1] / 1e9 })
    }
}

/// One line a kernel, the longest first; what no kernel took of `whole` is `host`.
pub fn table(kernels: &[KernelTime], whole: Duration, ceiling: Ceiling) -> String {
    let mut text = format!("ceiling: {:.1} GFLOP/s, {:.1} GB/s\n", ceiling.gflops, ceiling.gbytes);
    let mut line = |name: &str, calls: &str, time: &str, share: &str, rate: &str, part: &str| {
        text += format!("{name:<32} {calls:>7} {time:>10} {share:>7}  {rate:<16} {part:>9}").trim_end();
        text.push('\n');
    };
    let ms = |time: Duration| format!("{:.2}", time.as_secs_f64() * 1e3);
    let share = |time: Duration| format!("{:.1}", 100.0 * time.as_secs_f64() / whole.as_secs_f64());
    line("kernel", "calls", "ms", "share %", "rate", "% of most");
    for kernel in kernels {
        let per_second = |amount: f64| amount / kernel.time.as_secs_f64() / 1e9;
        let (rate, unit, most) = if kernel.flops > 4.0 * kernel.bytes {
            (per_second(kernel.flops), "GFLOP/s", ceiling.gflops)
        } else {
            (per_second(kernel.bytes), "GB/s", ceiling.gbytes)
        };
        let (rate, part) = (format!("{rate:.1} {unit}"), format!("{:.0}", 100.0 * rate / most));
        line(&kernel.name, &kernel.calls.to_string(), &ms(kernel.time), &share(kernel.time), &rate, &part);
    }
    let busy: Duration = kernels.iter().map(|kernel| kernel.time).sum();
    let host = whole.saturating_sub(busy);
    line("host", "", &ms(host), &share(host), "", "");
    text
}

/// The calls as a Chrome trace, which `chrome://tracing` and Perfetto show.
pub fn chrome_trace(profile: &Profile) -> String {
    let us = |time: Duration| time.as_nanos() as f64 / 1e3;
    let event = |span: &Span| {
        serde_json::json!({
            "name": span.name, "cat": "kernel", "ph": "X", "pid": 1, "tid": 1, "ts": us(span.start), "dur": us(span.time),
        })
    };
    let events: Vec<_> = profile.spans.iter().map(event).collect();
    serde_json::json!({ "traceEvents": events, "displayTimeUnit": "ms" }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kernel(name: &str, ms: u64, flops: f64, bytes: f64) -> KernelTime {
        KernelTime { name: name.into(), calls: 2, time: Duration::from_millis(ms), flops, bytes }
    }

    #[test]
    fn rates_are_held_against_the_ceiling() {
        let ceiling = Ceiling { gflops: 400.0, gbytes: 20.0 };
        let kernels = [kernel("matmul/write", 500, 1e11, 1e9), kernel("add/forward", 250, 0.0, 2.5e9)];
        let text = table(&kernels, Duration::from_secs(1), ceiling);
        let expected = "ceiling: 400.0 GFLOP/s, 20.0 GB/s\n\
            kernel                             calls         ms share %  rate             % of most\n\
            matmul/write                           2     500.00    50.0  200.0 GFLOP/s           50\n\
            add/forward                            2     250.00    25.0  10.0 GB/s               50\n\
            host                                         250.00    25.0\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_trace_holds_every_call_in_microseconds() {
        let span = Span { name: "gelu/forward", start: Duration::from_micros(7), time: Duration::from_nanos(2500) };
        let profile = Profile { kernels: Vec::new(), spans: vec![span; 2] };
        let trace: serde_json::Value = serde_json::from_str(&chrome_trace(&profile)).unwrap();
        let event = &trace["traceEvents"][1];
        assert_eq!((event["ts"].as_f64(), event["dur"].as_f64()), (Some(7.0), Some(2.5)));
        assert_eq!((event["name"].as_str(), event["ph"].as_str()), (Some("gelu/forward"), Some("X")));
    }
}

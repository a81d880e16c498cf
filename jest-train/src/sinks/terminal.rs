//! Progress for people: a bar on a terminal, a line every few steps elsewhere.

use std::io::{self, ErrorKind, IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::error::{Result, TrainError};
use crate::events::{Event, Events, RunStarted, Step};

/// Weight of the newest step in the running means.
const NEWEST: f64 = 0.1;

/// Tells the progress of a run: step, loss, examples/s, share of time waiting for data, time to go.
///
/// It reads no clock: rates come from the seconds that steps carry.
pub struct Terminal {
    to: Box<dyn Write>,
    bar: Option<ProgressBar>,
    on_terminal: bool,
    every: u64,
    label: String,
    run: Option<RunStarted>,
    pace: Pace,
}

/// Running means over the last steps.
#[derive(Debug, Clone, Copy, Default)]
struct Pace {
    wall: f64,
    waited: f64,
}

impl Pace {
    fn add(&mut self, step: &Step) {
        let weight = if self.wall == 0.0 { 1.0 } else { NEWEST };
        self.wall += weight * (step.timing.wall - self.wall);
        self.waited += weight * (step.timing.waited - self.waited);
    }

    fn waiting(self) -> f64 {
        if self.wall > 0.0 { (self.waited / self.wall).clamp(0.0, 1.0) } else { 0.0 }
    }
}

impl Terminal {
    /// Writes to standard error: a bar where that is a terminal, else a line every `every` steps; `label` stands before the
    /// names of runs.
    pub fn stderr(every: u64, label: &str) -> Self {
        let on_terminal = io::stderr().is_terminal();
        Self { on_terminal, ..Self::plain(Box::new(io::stderr()), every, label) }
    }

    /// Writes a line every `every` steps.
    pub fn plain(to: Box<dyn Write>, every: u64, label: &str) -> Self {
        let (every, label) = (every.max(1), label.to_owned());
        Self { to, bar: None, on_terminal: false, every, label, run: None, pace: Pace::default() }
    }

    fn start(&mut self, run: &RunStarted) -> Result<()> {
        self.pace = Pace::default();
        self.run = Some(run.clone());
        if self.on_terminal {
            let template = "{prefix} {bar:24} {pos}/{len} {msg}";
            let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
            let bar = ProgressBar::with_draw_target(Some(run.steps), ProgressDrawTarget::stderr()).with_style(style);
            bar.set_prefix(format!("{}{}", self.label, run.run));
            bar.set_position(run.first_step);
            self.bar = Some(bar);
            return Ok(());
        }
        let from = if run.first_step > 0 { format!(", from step {}", run.first_step) } else { String::new() };
        self.line(&format!("{}: {} steps, b = {}, B = {}{from}", run.run, run.steps, run.batch_size, run.super_batch))
    }

    fn step(&mut self, step: &Step) -> Result<()> {
        self.pace.add(step);
        let Some(run) = &self.run else { return Ok(()) };
        let message = message(run, step, self.pace);
        match &self.bar {
            Some(bar) => {
                bar.set_position(step.step);
                bar.set_message(message);
                Ok(())
            }
            None if step.step.is_multiple_of(self.every) || step.step == run.steps => {
                let line = format!("{} step {}/{} {message}", run.run, step.step, run.steps);
                self.line(&line)
            }
            None => Ok(()),
        }
    }

    fn finish(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.abandon();
        }
    }

    /// A line of its own, above the bar where there is one.
    fn line(&mut self, text: &str) -> Result<()> {
        match &self.bar {
            Some(bar) => {
                bar.println(format!("{}{text}", self.label));
                Ok(())
            }
            None => match writeln!(self.to, "{}{text}", self.label) {
                // Its reader has gone; the run goes on.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
                written => written.map_err(TrainError::storage("write to", "standard error")),
            },
        }
    }
}

fn message(run: &RunStarted, step: &Step, pace: Pace) -> String {
    let rate = if pace.wall > 0.0 { run.batch_size as f64 / pace.wall } else { 0.0 };
    let to_go = pace.wall * run.steps.saturating_sub(step.step) as f64;
    format!(
        "loss {:.4}  {} examples/s  data wait {:.0}%  ETA {}",
        step.loss,
        short(rate),
        100.0 * pace.waiting(),
        duration(Duration::from_secs_f64(to_go.clamp(0.0, 1e9))),
    )
}

/// Three digits at least: `7.25`, `812`.
fn short(rate: f64) -> String {
    if rate < 100.0 { format!("{rate:.3}").chars().take(4).collect() } else { format!("{rate:.0}") }
}

/// `8s`, `2m08s`, `3h02m`.
fn duration(time: Duration) -> String {
    let seconds = time.as_secs_f64().round() as u64;
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds}s"),
        (0, minutes, seconds) => format!("{minutes}m{seconds:02}s"),
        (hours, minutes, _) => format!("{hours}h{minutes:02}m"),
    }
}

impl Events for Terminal {
    fn emit(&mut self, event: &Event) -> Result<()> {
        match event {
            Event::RunStarted(run) => self.start(run),
            Event::Step(step) => self.step(step),
            Event::Evaluated(done) => {
                let metrics: Vec<String> =
                    done.metrics.iter().map(|(name, value)| format!("{name} {value:.4}")).collect();
                self.line(&format!("{} step {} {}: {}", done.run, done.step, done.task, metrics.join("  ")))
            }
            Event::Checkpointed(saved) => {
                self.line(&format!("{} step {} saved {}", saved.run, saved.step, saved.path.display()))
            }
            Event::Warning(warning) => {
                self.line(&format!("warning: {} (run {}, step {})", warning.message, warning.run, warning.step))
            }
            Event::SkippedExamples(skipped) => {
                let counts: Vec<String> =
                    skipped.counts.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
                self.line(&format!("{} step {} skipped: {}", skipped.run, skipped.step, counts.join(", ")))
            }
            Event::RunFinished(_) => {
                self.finish();
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::events::{Warning, samples};

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn plain_lines_come_every_few_steps_and_at_the_end() {
        let text = Shared::default();
        let mut sink = Terminal::plain(Box::new(text.clone()), 2, "seed 1 ");
        let run = RunStarted { run: "jest".into(), first_step: 0, steps: 5, batch_size: 128, super_batch: 640 };
        sink.emit(&Event::RunStarted(run)).unwrap();
        (1..=5).for_each(|step| sink.emit(&Event::Step(samples::step("jest", step, 0.25))).unwrap());
        sink.emit(&Event::Warning(Warning { run: "jest".into(), step: 5, message: "odd".into() })).unwrap();
        let text = String::from_utf8(text.0.lock().unwrap().clone()).unwrap();
        let expected = "seed 1 jest: 5 steps, b = 128, B = 640\n\
            seed 1 jest step 2/5 loss 5.0000  512 examples/s  data wait 25%  ETA 1s\n\
            seed 1 jest step 4/5 loss 2.5000  512 examples/s  data wait 25%  ETA 0s\n\
            seed 1 jest step 5/5 loss 2.0000  512 examples/s  data wait 25%  ETA 0s\n\
            seed 1 warning: odd (run jest, step 5)\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn numbers_for_people() {
        for (seconds, expected) in [(0.4, "0s"), (59.6, "1m00s"), (128.0, "2m08s"), (10_920.0, "3h02m")] {
            assert_eq!(duration(Duration::from_secs_f64(seconds)), expected);
        }
        for (rate, expected) in [(0.0, "0.00"), (7.251, "7.25"), (81.26, "81.2"), (812.4, "812")] {
            assert_eq!(short(rate), expected);
        }
    }
}

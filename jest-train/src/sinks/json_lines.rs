//! The record of a run: `metrics.jsonl`, equal for equal runs, and `timing.jsonl`, which is not.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Result, TrainError};
use crate::events::{Checkpointed, Event, Events, RunSummary, Timing};
use crate::storage::write_atomic;

/// File of the events, one a line, without a wall-clock value.
pub const METRICS: &str = "metrics.jsonl";
/// File of the wall-clock values, one line for each step, evaluation and run.
pub const TIMING: &str = "timing.jsonl";

/// Writes events to the two files, each line at once and whole.
#[derive(Debug)]
pub struct JsonLines {
    metrics: Lines,
    timing: Lines,
}

#[derive(Debug)]
struct Lines {
    path: PathBuf,
    file: File,
}

/// What every line of both files begins with, its kind apart.
#[derive(Deserialize)]
struct Head {
    event: String,
    run: String,
    #[serde(alias = "first_step")]
    step: u64,
}

#[derive(Serialize)]
struct TimingLine<'a> {
    event: &'static str,
    run: &'a str,
    step: u64,
    #[serde(flatten)]
    timing: Option<Timing>,
    #[serde(skip_serializing_if = "Option::is_none")]
    task: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    eval: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    summary: Option<&'a RunSummary>,
}

impl JsonLines {
    /// Empty files in the run folder.
    ///
    /// # Errors
    /// `Storage`.
    pub fn create(out: impl AsRef<Path>) -> Result<Self> {
        let out = out.as_ref();
        write_atomic(out.join(METRICS), b"")?;
        write_atomic(out.join(TIMING), b"")?;
        Ok(Self { metrics: Lines::append_to(out.join(METRICS))?, timing: Lines::append_to(out.join(TIMING))? })
    }

    /// The files of interrupted `runs`, in the order of execution, as they were when the checkpoint `at` was written: every
    /// event of a resumed run stands in them once, whenever it was killed.
    ///
    /// # Errors
    /// `Storage`; `History` where a whole line is none of ours. A last line cut short is dropped.
    pub fn resume(out: impl AsRef<Path>, runs: &[&str], at: &Checkpointed) -> Result<Self> {
        let open = |name| {
            let path = out.as_ref().join(name);
            cut_back(&path, runs, at)?;
            Lines::append_to(path)
        };
        let mut resumed = Self { metrics: open(METRICS)?, timing: open(TIMING)? };
        // The process may have been killed between writing the checkpoint and telling so.
        resumed.emit(&Event::Checkpointed(at.clone()))?;
        Ok(resumed)
    }
}

impl Events for JsonLines {
    fn emit(&mut self, event: &Event) -> Result<()> {
        // A run that goes on has its line from when it began.
        let again = matches!(event, Event::RunStarted(started) if started.first_step > 0);
        if !again {
            self.metrics.add(event)?;
        }
        let (run, step) = event.position();
        let line = TimingLine { event: "step", run, step, timing: None, task: None, eval: None, summary: None };
        match event {
            Event::Step(step) => self.timing.add(&TimingLine { timing: Some(step.timing), ..line }),
            Event::Evaluated(done) => self.timing.add(&TimingLine {
                event: "evaluated",
                task: Some(&done.task),
                eval: Some(done.seconds),
                ..line
            }),
            Event::RunFinished(done) => {
                self.timing.add(&TimingLine { event: "run_finished", summary: Some(&done.summary), ..line })
            }
            Event::Checkpointed(_) => self.metrics.sync().and_then(|()| self.timing.sync()),
            Event::RunStarted(_) | Event::Warning(_) | Event::SkippedExamples(_) => Ok(()),
        }
    }
}

impl Lines {
    fn append_to(path: PathBuf) -> Result<Self> {
        let file =
            OpenOptions::new().append(true).create(true).open(&path).map_err(TrainError::storage("open", &path))?;
        Ok(Self { path, file })
    }

    fn add(&mut self, line: &impl Serialize) -> Result<()> {
        let failed = TrainError::storage("append to", &self.path);
        let mut text = match serde_json::to_vec(line) {
            Ok(text) => text,
            Err(error) => return Err(failed(error.into())),
        };
        text.push(b'\n');
        self.file.write_all(&text).map_err(failed)
    }

    fn sync(&mut self) -> Result<()> {
        self.file.sync_data().map_err(TrainError::storage("sync", &self.path))
    }
}

/// Keeps the lines of earlier runs, and of this one up to the checkpoint, its own line excepted.
fn cut_back(path: &Path, runs: &[&str], at: &Checkpointed) -> Result<()> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(missing) if missing.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(other) => return Err(TrainError::storage("read", path)(other)),
    };
    let order = |name: &str| runs.iter().position(|run| *run == name);
    let before = |head: &Head| {
        let at_step = head.step == at.step && ["step", "evaluated"].contains(&head.event.as_str());
        order(&head.run) < order(&at.run) || (head.run == at.run && (head.step < at.step || at_step))
    };
    let mut kept = String::with_capacity(text.len());
    for (index, line) in text.split_inclusive('\n').enumerate().filter(|(_, line)| line.ends_with('\n')) {
        let wrong = |source| TrainError::History { path: path.to_path_buf(), line: index + 1, source };
        if before(&serde_json::from_str(line).map_err(wrong)?) {
            kept.push_str(line);
        }
    }
    if kept.len() == text.len() { Ok(()) } else { write_atomic(path, kept.as_bytes()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::{RunFinished, RunStarted, samples};

    const RUNS: [&str; 2] = ["reference", "jest"];

    fn started(run: &str, first_step: u64) -> Event {
        Event::RunStarted(RunStarted { run: run.into(), first_step, steps: 9, batch_size: 128, super_batch: 640 })
    }

    fn steps(sink: &mut JsonLines, run: &str, range: std::ops::RangeInclusive<u64>, wall: f64) {
        range.for_each(|step| sink.emit(&Event::Step(samples::step(run, step, wall))).unwrap());
    }

    fn read(out: &Path, name: &str) -> String {
        fs::read_to_string(out.join(name)).unwrap()
    }

    fn saved(run: &str, step: u64) -> Checkpointed {
        Checkpointed { run: run.into(), step, path: format!("checkpoints/{run}/{step}").into() }
    }

    fn end(sink: &mut JsonLines, run: &str) {
        let summary = samples::run_summary(run);
        sink.emit(&Event::RunFinished(RunFinished { run: run.into(), step: 9, summary })).unwrap();
    }

    /// The whole of both runs, each saved after steps 4 and 9; wall-clock values as given.
    fn uninterrupted(out: &Path, wall: f64) {
        let mut sink = JsonLines::create(out).unwrap();
        for run in RUNS {
            sink.emit(&started(run, 0)).unwrap();
            steps(&mut sink, run, 1..=4, wall);
            sink.emit(&Event::Checkpointed(saved(run, 4))).unwrap();
            steps(&mut sink, run, 5..=9, wall);
            sink.emit(&Event::Checkpointed(saved(run, 9))).unwrap();
            end(&mut sink, run);
        }
    }

    #[test]
    fn equal_runs_write_equal_metrics_whatever_the_time() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        uninterrupted(one.path(), 0.5);
        uninterrupted(two.path(), 0.75);
        assert_eq!(read(one.path(), METRICS), read(two.path(), METRICS));
        assert_ne!(read(one.path(), TIMING), read(two.path(), TIMING));
        assert_eq!(read(one.path(), METRICS).lines().count(), 26);
    }

    /// Writes the first `bytes` of both files of a whole record, resumes at `at`, and plays the rest.
    fn resumed(whole: &Path, bytes: usize, at: &Checkpointed) -> [String; 2] {
        let cut = tempfile::tempdir().unwrap();
        for name in [METRICS, TIMING] {
            let text = read(whole, name);
            fs::write(cut.path().join(name), &text[..bytes.min(text.len())]).unwrap();
        }
        let mut sink = JsonLines::resume(cut.path(), &RUNS, at).unwrap();
        if at.step < 9 {
            sink.emit(&started(&at.run, at.step)).unwrap();
            steps(&mut sink, &at.run, at.step + 1..=9, 0.5);
            sink.emit(&Event::Checkpointed(saved(&at.run, 9))).unwrap();
        }
        end(&mut sink, &at.run);
        [METRICS, TIMING].map(|name| read(cut.path(), name))
    }

    #[test]
    fn killed_anywhere_and_resumed_equals_uninterrupted() {
        let whole = tempfile::tempdir().unwrap();
        uninterrupted(whole.path(), 0.5);
        let want = [METRICS, TIMING].map(|name| read(whole.path(), name));
        for at in [saved("jest", 4), saved("jest", 9)] {
            // The steps up to a checkpoint are on disk before it is; its own line may not be.
            let last = format!("\"run\":\"jest\",\"step\":{},", at.step);
            let first = want[0].find(&last).unwrap() + want[0][want[0].find(&last).unwrap()..].find('\n').unwrap() + 1;
            for bytes in [first, first + 1, first + 90, want[0].len()].map(|bytes| bytes.min(want[0].len())) {
                assert_eq!(resumed(whole.path(), bytes, &at)[0], want[0], "{at:?}, cut at {bytes}");
            }
            assert_eq!(resumed(whole.path(), usize::MAX, &at)[1], want[1], "{at:?}");
        }
    }

    #[test]
    fn a_resume_drops_later_runs() {
        let out = tempfile::tempdir().unwrap();
        uninterrupted(out.path(), 0.5);
        drop(JsonLines::resume(out.path(), &RUNS, &saved("reference", 4)).unwrap());
        assert_eq!(read(out.path(), METRICS).lines().count(), 6);
        assert!(!read(out.path(), METRICS).contains("\"run\":\"jest\""));
    }

    #[test]
    fn a_foreign_line_is_named() {
        let out = tempfile::tempdir().unwrap();
        fs::write(out.path().join(METRICS), "{\"event\":\"step\",\"run\":\"jest\",\"step\":1}\nhello\n").unwrap();
        let error = JsonLines::resume(out.path(), &RUNS, &saved("jest", 4)).unwrap_err();
        assert!(matches!(error, TrainError::History { line: 2, .. }), "{error}");
        assert_eq!(error.exit_code(), 8);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_names_the_file() {
        let out = tempfile::tempdir().unwrap();
        let mut sink = JsonLines::create(out.path()).unwrap();
        sink.metrics = Lines::append_to("/dev/full".into()).unwrap();
        let error = sink.emit(&Event::Step(samples::step("jest", 1, 0.1))).unwrap_err();
        assert_eq!((error.to_string().as_str(), error.exit_code()), ("cannot append to /dev/full", 7));
    }

    #[test]
    fn a_checkpoint_is_recorded() {
        let out = tempfile::tempdir().unwrap();
        let mut sink = JsonLines::create(out.path()).unwrap();
        sink.emit(&Event::Checkpointed(saved("jest", 4))).unwrap();
        let expected = "{\"event\":\"checkpointed\",\"run\":\"jest\",\"step\":4,\"path\":\"checkpoints/jest/4\"}\n";
        assert_eq!(read(out.path(), METRICS), expected);
    }
}

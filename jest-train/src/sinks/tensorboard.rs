//! TensorBoard's event files: a folder a run, scalars by open_clip's names.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use jest_model::protobuf::Message;

use crate::error::{Result, TrainError};
use crate::events::{Evaluated, Event, Events, RunStarted, Step};

/// Folder of the event files in the run folder, one folder a run in it.
pub const FOLDER: &str = "tensorboard";
/// First record of every file.
const VERSION: &str = "brain.Event:2";

/// Writes the scalars of steps and evaluations.
#[derive(Debug)]
pub struct TensorBoard {
    out: PathBuf,
    /// Seconds since 1970 by the clock of the caller.
    now: fn() -> f64,
    files: HashMap<String, (PathBuf, File)>,
    batch_sizes: HashMap<String, usize>,
}

impl TensorBoard {
    /// Event files under `out/tensorboard`; a run that goes on gets a further file, which TensorBoard reads after the others.
    pub fn new(out: impl AsRef<Path>, now: fn() -> f64) -> Self {
        Self { out: out.as_ref().join(FOLDER), now, files: HashMap::new(), batch_sizes: HashMap::new() }
    }

    fn begin(&mut self, started: &RunStarted) -> Result<()> {
        let folder = self.out.join(&started.run);
        fs::create_dir_all(&folder).map_err(TrainError::storage("create", &folder))?;
        // Files are read by name: the second they were begun in, and a number where several were.
        let stem = format!("events.out.tfevents.{:010}.jest", (self.now)() as u64);
        let free = (0u32..).map(|n| folder.join(format!("{stem}.{n}"))).find(|path| !path.exists());
        let path = free.unwrap_or_else(|| folder.join(&stem));
        let open = OpenOptions::new().append(true).create(true).open(&path);
        let file = open.map_err(TrainError::storage("create", &path))?;
        self.files.insert(started.run.clone(), (path, file));
        self.batch_sizes.insert(started.run.clone(), started.batch_size);
        let version = self.event().text(3, VERSION);
        self.write(&started.run, &version)?;
        // What is there of steps behind the checkpoint is not to be shown.
        if started.first_step > 0 { self.purge(&started.run, started.first_step) } else { Ok(()) }
    }

    /// Tells that a session starts anew at a step: TensorBoard drops what came at it or later.
    fn purge(&mut self, run: &str, first_step: u64) -> Result<()> {
        const START: i64 = 1;
        let event = self.event().number(2, first_step as i64 + 1).message(7, &Message::new().number(1, START));
        self.write(run, &event)
    }

    fn scalars(&mut self, run: &str, step: u64, values: &[(String, f64)]) -> Result<()> {
        let summary = values.iter().fold(Message::new(), |summary, (tag, value)| {
            summary.message(1, &Message::new().text(1, tag).float(2, *value as f32))
        });
        let event = self.event().number(2, step as i64).message(5, &summary);
        self.write(run, &event)
    }

    /// An event of now.
    fn event(&self) -> Message {
        Message::new().double(1, (self.now)())
    }

    fn write(&mut self, run: &str, event: &Message) -> Result<()> {
        let Some((path, file)) = self.files.get_mut(run) else { return Ok(()) };
        file.write_all(&record(event.as_bytes())).map_err(TrainError::storage("append to", path.as_path()))
    }

    fn step(&mut self, step: &Step) -> Result<()> {
        let mut values = vec![
            ("train/loss", f64::from(step.loss)),
            ("train/contrastive_loss", f64::from(step.loss - step.distillation_loss.unwrap_or(0.0))),
            ("train/grad_norm", f64::from(step.grad_norm)),
            ("train/lr", step.lr),
            ("train/logit_scale", f64::from(step.logit_scale)),
            ("train/logit_bias", f64::from(step.logit_bias)),
            ("train/data_time", step.timing.waited),
            ("train/batch_time", step.timing.wall),
            ("train/examples_drawn", step.examples_drawn as f64),
        ];
        if step.timing.wall > 0.0 {
            let b = self.batch_sizes.get(&step.run).copied().unwrap_or_default() as f64;
            // One device: both of open_clip's speeds are the same.
            values.push(("train/samples_per_second", b / step.timing.wall));
            values.push(("train/samples_per_second_per_gpu", b / step.timing.wall));
        }
        if let Some(distillation) = step.distillation_loss {
            values.push(("train/distill_loss", f64::from(distillation)));
        }
        if let Some(picked) = &step.picked {
            values.push(("train/score_picked", f64::from(picked.score.picked)));
            values.push(("train/score_super_batch", f64::from(picked.score.super_batch)));
        }
        let values: Vec<(String, f64)> = values.into_iter().map(|(tag, value)| (tag.to_string(), value)).collect();
        self.scalars(&step.run, step.step, &values)
    }

    fn evaluated(&mut self, done: &Evaluated) -> Result<()> {
        let tag = |metric: &str| match metric {
            "top1" | "top5" => format!("val/{}-zeroshot-val-{metric}", done.task),
            _ => format!("val/{}-{metric}", done.task),
        };
        let values: Vec<(String, f64)> = done.metrics.iter().map(|(metric, value)| (tag(metric), *value)).collect();
        self.scalars(&done.run, done.step, &values)
    }
}

impl Events for TensorBoard {
    fn emit(&mut self, event: &Event) -> Result<()> {
        match event {
            Event::RunStarted(started) => self.begin(started),
            Event::Step(step) => self.step(step),
            Event::Evaluated(done) => self.evaluated(done),
            Event::RunFinished(done) => {
                self.files.remove(&done.run);
                Ok(())
            }
            Event::Checkpointed(_) | Event::Warning(_) | Event::SkippedExamples(_) => Ok(()),
        }
    }
}

/// Length, its checksum, payload, its checksum.
///
/// # Source
/// TensorFlow's `record_writer.cc`.
fn record(payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u64).to_le_bytes();
    let checksum = |bytes: &[u8]| masked(crc32c(bytes)).to_le_bytes();
    [&length[..], &checksum(&length), payload, &checksum(payload)].concat()
}

fn masked(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C (Castagnoli), a bit at a time.
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::{Metrics, RunFinished, samples};

    fn started(first_step: u64) -> Event {
        Event::RunStarted(RunStarted { run: "jest".into(), first_step, steps: 9, batch_size: 128, super_batch: 640 })
    }

    fn files(out: &Path) -> Vec<(String, Vec<u8>)> {
        let entries = fs::read_dir(out.join(FOLDER).join("jest")).unwrap().map(|entry| entry.unwrap());
        let read =
            |entry: fs::DirEntry| (entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path()).unwrap());
        let mut all: Vec<_> = entries.map(read).collect();
        all.sort();
        all
    }

    #[test]
    fn checksums_are_castagnolis() {
        // RFC 3720, B.4.
        for (bytes, crc) in
            [(vec![0; 32], 0x8a91_36aa), (vec![0xff; 32], 0x62a8_ab43), ((0..32).collect(), 0x46dd_794e)]
        {
            assert_eq!(crc32c(&bytes), crc);
        }
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn the_bytes_are_those_that_tensorboard_read() {
        let out = tempfile::tempdir().unwrap();
        let mut sink = TensorBoard::new(out.path(), || 1_700_000_000.25);
        sink.emit(&started(0)).unwrap();
        (1..=3).for_each(|step| sink.emit(&Event::Step(samples::step("jest", step, 0.5))).unwrap());
        let metrics = Metrics::from_iter([("top1".to_owned(), 0.25), ("skipped".to_owned(), 1.0)]);
        let evaluated = Evaluated { run: "jest".into(), step: 3, task: "fashion_zs".into(), metrics, seconds: 1.0 };
        sink.emit(&Event::Evaluated(evaluated)).unwrap();
        let done = RunFinished { run: "jest".into(), step: 3, summary: samples::run_summary("jest") };
        sink.emit(&Event::RunFinished(done)).unwrap();
        sink.emit(&started(2)).unwrap();
        sink.emit(&Event::Step(samples::step("jest", 3, 0.25))).unwrap();
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/tensorboard");
        let names = ["events.out.tfevents.1700000000.jest.0", "events.out.tfevents.1700000000.jest.1"];
        let wanted = names.map(|name| (name.to_string(), fs::read(golden.join(name)).unwrap()));
        assert_eq!(files(out.path()), wanted);
    }

    #[cfg(unix)]
    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let mut sink = TensorBoard::new("/dev/null", || 0.0);
        let error = sink.emit(&started(0)).unwrap_err();
        assert_eq!((error.to_string().as_str(), error.exit_code()), ("cannot create /dev/null/tensorboard/jest", 7));
    }
}

//! `profile/RUN.txt` and `profile/RUN.json`: where the time of a few steps of each run goes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use jest_kernels::{Device, Now};

use crate::error::{Result, TrainError};
use crate::events::{Event, Events};
use crate::profile::{Ceiling, chrome_trace, table};
use crate::say::tell;
use crate::storage::write_atomic;

/// Folder of the profiles in the run folder.
pub const PROFILES: &str = "profile";
/// Steps of a run that are told before its profile begins: kernels are compiled and buffers allocated by then.
const BEFORE: u64 = 2;
/// Steps that a profile covers.
const STEPS: u64 = 10;

/// Profiles steps of every run, and writes a table and a Chrome trace of each.
#[derive(Debug)]
pub struct ProfileFiles {
    device: Device,
    now: Now,
    folder: PathBuf,
    ceiling: Option<Ceiling>,
    told: u64,
    since: Option<(Duration, u64)>,
}

impl ProfileFiles {
    /// Profiles of the runs of a run folder on the device that they train on.
    pub fn new(out: impl AsRef<Path>, device: Device, now: Now) -> Self {
        Self { device, now, folder: out.as_ref().join(PROFILES), ceiling: None, told: 0, since: None }
    }

    fn begin(&mut self) -> Result<()> {
        if self.ceiling.is_none() {
            self.ceiling = Some(Ceiling::measure(&self.device, self.now)?);
        }
        self.device.start_profile(self.now);
        self.since = Some(((self.now)(), self.told));
        Ok(())
    }

    fn end(&mut self, run: &str) -> Result<()> {
        let (Some((start, first)), Some(ceiling)) = (self.since.take(), self.ceiling) else { return Ok(()) };
        let whole = (self.now)() - start;
        let profile = self.device.stop_profile();
        let table = table(&profile.kernels, whole, ceiling);
        let text = format!("run {run}, {} steps\n{table}", self.told - first);
        tell!("{}", text.trim_end());
        std::fs::create_dir_all(&self.folder).map_err(TrainError::storage("create", &self.folder))?;
        write_atomic(self.folder.join(format!("{run}.txt")), text.as_bytes())?;
        write_atomic(self.folder.join(format!("{run}.json")), chrome_trace(&profile).as_bytes())
    }
}

impl Events for ProfileFiles {
    fn emit(&mut self, event: &Event) -> Result<()> {
        match event {
            Event::RunStarted(_) => self.told = 0,
            Event::Step(step) => {
                self.told += 1;
                match self.since {
                    None if self.told == BEFORE => self.begin()?,
                    Some((_, first)) if self.told - first == STEPS => self.end(&step.run)?,
                    _ => {}
                }
            }
            Event::RunFinished(run) => self.end(&run.run)?,
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use jest_kernels::DeviceRequest;
    use jest_kernels::ops::gelu::{self, Gelu};

    use super::*;
    use crate::events::samples;

    #[test]
    fn ten_steps_after_the_first_two_are_profiled() {
        fn tick() -> Duration {
            static TICKS: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
            Duration::from_millis(TICKS.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
        }
        let (out, device) =
            (tempfile::tempdir().unwrap(), Device::open(&DeviceRequest::Cpu, Default::default()).unwrap());
        let mut sink = ProfileFiles::new(out.path(), device.clone(), tick);
        let mut pass = device.pass();
        let x = pass.upload(&[1.0; 8], &[8]).unwrap();
        for step in 1..=20 {
            gelu::forward(&mut pass, Gelu::Tanh, &x).unwrap();
            sink.emit(&Event::Step(samples::step("jest", step, 0.1))).unwrap();
        }
        let text = std::fs::read_to_string(out.path().join("profile/jest.txt")).unwrap();
        assert!(text.starts_with("run jest, 10 steps\nceiling: "), "{text}");
        let line = text.lines().find(|line| line.starts_with("gelu/forward")).unwrap();
        assert_eq!(line.split_whitespace().nth(1), Some("10"), "{text}");
        let trace = std::fs::read_to_string(out.path().join("profile/jest.json")).unwrap();
        assert_eq!(trace.matches("gelu/forward").count(), 10);
    }
}

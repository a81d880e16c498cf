//! A run read back from its record, for reports.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use crate::error::{Result, TrainError};
use crate::events::{Evaluated, Event, Step};

/// Steps and evaluations of every run in a record, in order.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct History {
    /// Runs, in the order of their first line.
    pub runs: Vec<RunHistory>,
}

/// One run of a [`History`].
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RunHistory {
    /// Its name.
    pub name: String,
    /// Its updates.
    pub steps: Vec<Step>,
    /// Its evaluations.
    pub evaluated: Vec<Evaluated>,
}

impl History {
    /// Reads a `metrics.jsonl`. A last line that is cut short is left out: its run was killed, or still writes.
    ///
    /// # Errors
    /// `Storage`; `History` for a whole line that is no event.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let mut reader = BufReader::new(File::open(path).map_err(TrainError::storage("open", path))?);
        let mut history = Self::default();
        let mut line = String::new();
        for number in 1.. {
            line.clear();
            reader.read_line(&mut line).map_err(TrainError::storage("read", path))?;
            if !line.ends_with('\n') {
                break;
            }
            let event = serde_json::from_str(&line);
            history.add(event.map_err(|source| TrainError::History {
                path: path.to_path_buf(),
                line: number,
                source,
            })?);
        }
        Ok(history)
    }

    /// Adds one event; those that are neither step nor evaluation only make their run known.
    pub fn add(&mut self, event: Event) {
        let (name, _) = event.position();
        let index = self.runs.iter().position(|run| run.name == name).unwrap_or_else(|| {
            self.runs.push(RunHistory { name: name.to_owned(), ..RunHistory::default() });
            self.runs.len() - 1
        });
        match event {
            Event::Step(step) => self.runs[index].steps.push(step),
            Event::Evaluated(evaluated) => self.runs[index].evaluated.push(evaluated),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::{Events, Metrics, samples};
    use crate::sinks::{JsonLines, METRICS};

    #[test]
    fn what_was_written_is_read() {
        let out = tempfile::tempdir().unwrap();
        let metrics = Metrics::from_iter([("top1".to_owned(), 0.5)]);
        let evaluated = Evaluated { run: "b".into(), step: 1, task: "zs".into(), metrics, seconds: 0.0 };
        let events = [
            Event::Step(samples::step("a", 1, 0.0)),
            Event::Step(samples::step("b", 1, 0.0)),
            Event::Evaluated(evaluated.clone()),
            Event::Step(samples::step("a", 2, 0.0)),
        ];
        let mut sink = JsonLines::create(out.path()).unwrap();
        events.iter().for_each(|event| sink.emit(event).unwrap());
        let path = out.path().join(METRICS);
        let cut = std::fs::read_to_string(&path).unwrap() + "{\"event\":\"st";
        std::fs::write(&path, cut).unwrap();

        let history = History::read(&path).unwrap();
        let read: Vec<(&str, usize, usize)> =
            history.runs.iter().map(|run| (run.name.as_str(), run.steps.len(), run.evaluated.len())).collect();
        assert_eq!(read, [("a", 2, 0), ("b", 1, 1)]);
        assert_eq!(history.runs[1].evaluated, [evaluated]);

        std::fs::write(&path, "{}\n").unwrap();
        assert!(matches!(History::read(&path), Err(TrainError::History { line: 1, .. })));
    }
}

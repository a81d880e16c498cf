//! `summary.json`: rewritten whole whenever a run ends.

use std::path::{Path, PathBuf};

use crate::error::{Result, TrainError};
use crate::events::{Event, Events, Summary};
use crate::storage::write_atomic;

/// File of the summary.
pub const SUMMARY: &str = "summary.json";

/// Keeps the summary and writes it at the end of every run.
#[derive(Debug)]
pub struct SummaryFile {
    path: PathBuf,
    summary: Summary,
}

impl SummaryFile {
    /// A summary in the run folder; `summary.runs` are those that ended before, none for a new plan.
    pub fn new(out: impl AsRef<Path>, summary: Summary) -> Self {
        Self { path: out.as_ref().join(SUMMARY), summary }
    }

    /// What is known so far.
    pub fn summary(&self) -> &Summary {
        &self.summary
    }
}

impl Events for SummaryFile {
    fn emit(&mut self, event: &Event) -> Result<()> {
        let Event::RunFinished(done) = event else { return Ok(()) };
        self.summary.runs.retain(|run| run.name != done.summary.name);
        self.summary.runs.push(done.summary.clone());
        let text = serde_json::to_vec(&self.summary)
            .map_err(|error| TrainError::storage("write", &self.path)(error.into()))?;
        write_atomic(&self.path, &[&text[..], b"\n"].concat())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::events::{RunFinished, samples};

    #[test]
    fn the_shape_is_the_documented_one() {
        let out = tempfile::tempdir().unwrap();
        let mut sink = SummaryFile::new(out.path(), Summary { device: "cpu".into(), threads: 2, ..Summary::default() });
        for _ in 0..2 {
            let summary = samples::run_summary("jest");
            sink.emit(&Event::RunFinished(RunFinished { run: "jest".into(), step: 300, summary })).unwrap();
        }
        let text = fs::read_to_string(out.path().join(SUMMARY)).unwrap();
        let expected = "{\"device\":\"cpu\",\"threads\":2,\"seed\":0,\"runs\":[{\"name\":\"jest\",\"selection\":\"joint\",\
            \"score\":\"learnability\",\"filter_ratio\":0.8,\"gain\":1.0,\"steps\":300,\"examples_trained\":38400,\
            \"examples_drawn\":192000,\"flops\":{\"learn\":3100000000000.0,\"score\":5200000000000.0,\
            \"reference\":150000000000.0},\"seconds\":{\"learn\":40.0,\"score\":61.5,\"reference\":9.0,\"data\":3.0,\
            \"eval\":2.0},\"peak_rss_mb\":812,\"eval\":{\"fashion_zs\":{\"top1\":0.2,\"top5\":0.7},\"clipart_retrieval\":\
            {\"image_to_text_R@1\":0.02,\"image_to_text_R@5\":0.02,\"image_to_text_R@10\":0.02,\"text_to_image_R@1\":0.02}}}]}\n";
        assert_eq!(text, expected);
        assert_eq!(serde_json::from_str::<Summary>(&text).unwrap(), *sink.summary());
    }
}

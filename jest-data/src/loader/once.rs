//! One pass over the sources in their order, for caching, scoring and evaluation.

use super::config::{CaptionChoice, Captions, LoaderConfig, Tolerance};
use super::reader::Pass;
use super::stream::{Event, Stream};
use crate::example::Needs;
use crate::{DataError, Preprocess, Result, Skip, SkipReport, SuperBatch};

/// Batches of a single pass; the last one may be short. Ends after the first error.
pub struct ReadAll {
    stream: Stream,
    preprocess: Preprocess,
    text_tokens: usize,
    tolerance: Tolerance,
    n: usize,
    skips: SkipReport,
    told: Box<dyn FnMut(&Skip) + Send>,
    ended: bool,
}

/// Every usable example of `config.sources` once, unshuffled, `n` at a time.
///
/// `seed`, `shuffle`, `weights`, the choice among captions (the first counts) and `cache_bytes` of the configuration are not
/// looked at.
///
/// # Errors
/// As [`Loader::new`](crate::Loader::new); the batches fail by the limits, and with `NoExamples` if there is nothing usable.
pub fn read_all(config: &LoaderConfig, n: usize) -> Result<ReadAll> {
    read_once(config, n, Needs::Caption)
}

/// The same for evaluation: labels below `classes` are needed, captions are not.
pub(crate) fn read_labelled(config: &LoaderConfig, n: usize, classes: u32) -> Result<ReadAll> {
    read_once(config, n, Needs::Label(classes))
}

fn read_once(config: &LoaderConfig, n: usize, needs: Needs) -> Result<ReadAll> {
    if n == 0 {
        return Err(DataError::Setting { setting: "batch", value: n.to_string(), problem: "must be 1 or more" });
    }
    let pass = Pass {
        seed: 0,
        shuffle_shards: false,
        buffer: 0,
        epoch: 0,
        last_epoch: Some(0),
        position: 0,
        deferred: Vec::new(),
    };
    let captions = Captions { choice: CaptionChoice::First, ..config.captions.clone() };
    let whole = LoaderConfig { captions, weights: Vec::new(), ..config.clone() };
    Ok(ReadAll {
        stream: Stream::start(whole.shared(needs, 0)?, pass, config.workers, config.prefetch)?,
        preprocess: config.preprocess,
        text_tokens: config.text_tokens,
        tolerance: Tolerance::new(config),
        n,
        skips: SkipReport::default(),
        told: Box::new(|_| {}),
        ended: false,
    })
}

impl ReadAll {
    /// Tells `to` of everything that is left out from now on; the report names but the first few.
    pub fn tell(mut self, to: impl FnMut(&Skip) + Send + 'static) -> ReadAll {
        self.told = Box::new(to);
        self
    }

    /// What was kept and left out so far.
    pub fn skips(&self) -> &SkipReport {
        &self.skips
    }

    fn read(&mut self) -> Result<SuperBatch> {
        let mut batch = SuperBatch::empty(self.preprocess, self.text_tokens);
        while batch.len() < self.n && !self.ended {
            match self.stream.next()?.ok_or(DataError::WorkerLost)? {
                Event::Sample(_, outcome) => {
                    match outcome.as_ref() {
                        Ok(example) => {
                            batch.push(example);
                            self.skips.keep();
                        }
                        Err(skip) => {
                            (self.told)(skip);
                            self.skips.add(skip);
                        }
                    }
                    self.tolerance.check(&self.skips, false)?;
                }
                Event::EpochEnd(_) => {
                    self.ended = true;
                    self.tolerance.check(&self.skips, true)?;
                    if self.skips.kept() == 0 {
                        return Err(self.stream.no_examples(&self.skips));
                    }
                }
            }
        }
        Ok(batch)
    }
}

impl Iterator for ReadAll {
    type Item = Result<SuperBatch>;

    fn next(&mut self) -> Option<Result<SuperBatch>> {
        if self.ended {
            return None;
        }
        let batch = self.read();
        self.ended |= batch.is_err();
        match batch {
            Ok(batch) if batch.is_empty() => None,
            batch => Some(batch),
        }
    }
}

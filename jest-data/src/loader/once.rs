//! One pass over the sources in their order, for caching, scoring and evaluation.

use super::config::{CaptionChoice, Captions, LoaderConfig, Tolerance};
use super::reader::Pass;
use super::stream::{Event, Stream};
use crate::example::{Example, Needs};
use crate::{DataError, ExampleId, Preprocess, Result, Skip, SkipReport, SuperBatch};

/// Batches of a single pass; the last one may be short. Ends after the first error.
pub struct ReadAll {
    stream: Stream,
    preprocess: Preprocess,
    text_tokens: usize,
    tolerance: Tolerance,
    n: usize,
    skips: SkipReport,
    told: Box<dyn FnMut(&Skip) + Send>,
    others: Vec<OtherCaption>,
    ended: bool,
}

/// A caption of an example that is not its first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtherCaption {
    /// The id of the example with this caption.
    pub id: ExampleId,
    /// Its id with the first.
    pub first: ExampleId,
    /// The caption.
    pub caption: String,
}

/// Every usable example of `config.sources` once, unshuffled, `n` at a time.
///
/// `seed`, `shuffle`, `weights`, the choice among captions (the first counts) and `cache_bytes` of the configuration are not
/// looked at.
///
/// # Errors
/// As [`Loader::new`](crate::Loader::new); the batches fail by the limits, and with `NoExamples` if there is nothing usable.
pub fn read_all(config: &LoaderConfig, n: usize) -> Result<ReadAll> {
    read_once(config, n, Needs::Caption, false)
}

/// The same; [`ReadAll::take_captions`] then tells the captions that a [`Loader`](crate::Loader) may draw in place of the first.
///
/// # Errors
/// As [`read_all`].
pub fn read_captions(config: &LoaderConfig, n: usize) -> Result<ReadAll> {
    read_once(config, n, Needs::Caption, true)
}

/// The same as [`read_all`] for evaluation: labels below `classes` are needed, captions are not.
pub(crate) fn read_labelled(config: &LoaderConfig, n: usize, classes: u32) -> Result<ReadAll> {
    read_once(config, n, Needs::Label(classes), false)
}

fn read_once(config: &LoaderConfig, n: usize, needs: Needs, every: bool) -> Result<ReadAll> {
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
        stream: Stream::start(whole.shared(needs, every, 0)?, pass, config.workers, config.prefetch)?,
        preprocess: config.preprocess,
        text_tokens: config.text_tokens,
        tolerance: Tolerance::new(config),
        n,
        skips: SkipReport::default(),
        told: Box::new(|_| {}),
        others: Vec::new(),
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

    /// The further captions of what was read since the last time.
    pub fn take_captions(&mut self) -> Vec<OtherCaption> {
        std::mem::take(&mut self.others)
    }

    fn read(&mut self) -> Result<SuperBatch> {
        let mut batch = SuperBatch::empty(self.preprocess, self.text_tokens);
        while batch.len() < self.n && !self.ended {
            match self.stream.next()?.ok_or(DataError::WorkerLost)? {
                Event::Sample(_, outcome) => {
                    match outcome.as_ref() {
                        Ok(example) => {
                            batch.push(example);
                            self.others.extend(others(example));
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

/// The captions behind the first.
fn others(example: &Example) -> impl Iterator<Item = OtherCaption> + '_ {
    let other = |(index, caption): (usize, &String)| OtherCaption {
        id: example.base.of_caption(index),
        first: example.base,
        caption: caption.clone(),
    };
    example.choices.iter().enumerate().skip(1).map(other)
}

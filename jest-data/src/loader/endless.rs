//! Super-batches without end, in an order that a killed run finds again.

use super::config::{Captions, LoaderConfig, Tolerance};
use super::reader::Pass;
use super::stream::{Event, Stream};
use crate::example::{Needs, Outcome};
use crate::{DataError, ExampleId, Preprocess, Result, SkipReport, SuperBatch};
use serde::{Deserialize, Serialize};
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

/// Where a loader stands: all that a checkpoint needs. The default is the beginning.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoaderState {
    /// Passes over the data completed.
    pub epoch: u64,
    /// Samples of this epoch consumed, skipped ones included.
    pub position: u64,
    /// Positions below `position` whose examples are still owed: they were already in a super-batch that began in the epoch before.
    pub deferred: Vec<u64>,
    /// A hash of seed, shuffling, source and shard names; empty at the beginning.
    pub fingerprint: String,
    /// What was kept and left out so far.
    pub skips: SkipReport,
}

/// An endless, shuffled stream of super-batches.
///
/// Every epoch delivers every usable example once. A super-batch may begin in one epoch and end in the next; an example it already
/// holds is then put off to the following super-batch, so that no id is ever twice in one. The order is a pure function of
/// seed, shuffling and shards: worker count, thread timing and the cache do not enter.
pub struct Loader {
    stream: Stream,
    preprocess: Preprocess,
    text_tokens: usize,
    tolerance: Tolerance,
    state: LoaderState,
    deferred: VecDeque<(u64, Arc<Outcome>)>,
    /// Deferred examples that a resumed stream has yet to deliver, first of all.
    owed: usize,
    epoch_has_examples: bool,
}

impl Loader {
    /// Opens the sources and starts the threads where `start` points to.
    ///
    /// # Errors
    /// `Setting`, `SameShard`; `NoExamples` if no shard exists; `Resume` if `start` belongs to other data, seed or shuffling.
    pub fn new(config: LoaderConfig, start: LoaderState) -> Result<Loader> {
        let shared = config.shared(Needs::Caption, false, config.cache_bytes)?;
        let fingerprint = fingerprint(&config);
        if !start.fingerprint.is_empty() && start.fingerprint != fingerprint {
            let problem = format!("made with order {}, this is {fingerprint}", start.fingerprint);
            return Err(DataError::Resume { problem });
        }
        let pass = Pass {
            seed: config.seed,
            shuffle_shards: config.shuffle.shards,
            buffer: config.shuffle.buffer,
            epoch: start.epoch,
            last_epoch: None,
            position: start.position,
            deferred: start.deferred.clone(),
        };
        Ok(Loader {
            stream: Stream::start(shared, pass, config.workers, config.prefetch)?,
            preprocess: config.preprocess,
            text_tokens: config.text_tokens,
            tolerance: Tolerance::new(&config),
            deferred: VecDeque::new(),
            owed: start.deferred.len(),
            epoch_has_examples: start.position > 0,
            state: LoaderState { fingerprint, ..start },
        })
    }

    /// The next `n` examples, no id twice.
    ///
    /// # Errors
    /// `TooFewExamples` if the data set has fewer than `n` distinct usable ones; `TooManySkipped`, `NoExamples` by the limits.
    pub fn next_super_batch(&mut self, n: usize) -> Result<SuperBatch> {
        if n == 0 {
            return Err(DataError::Setting {
                setting: "super_batch",
                value: n.to_string(),
                problem: "must be 1 or more",
            });
        }
        self.collect_owed()?;
        let mut batch = SuperBatch::empty(self.preprocess, self.text_tokens);
        let mut drawn = HashSet::new();
        // Those put off are of one epoch, so no id repeats among them.
        while batch.len() < n
            && let Some((_, outcome)) = self.deferred.pop_front()
        {
            self.add(outcome.as_ref(), &mut batch, &mut drawn);
        }
        let mut epochs_ended = 0;
        while batch.len() < n {
            match self.receive()? {
                Event::Sample(position, outcome) => {
                    self.state.position = position + 1;
                    if self.add(outcome.as_ref(), &mut batch, &mut drawn) {
                        self.deferred.push_back((position, outcome));
                    }
                    self.tolerance.check(&self.state.skips, false)?;
                }
                Event::EpochEnd(length) => {
                    self.end_epoch(length)?;
                    epochs_ended += 1;
                    if epochs_ended == 2 {
                        // A whole epoch went by within this super-batch, so it holds every id there is.
                        return Err(DataError::TooFewExamples { distinct: batch.len(), super_batch: n });
                    }
                }
            }
        }
        self.state.deferred = self.deferred.iter().map(|(position, _)| *position).collect();
        Ok(batch)
    }

    /// Where the next super-batch begins. A loader started there delivers exactly what this one is about to.
    pub fn state(&self) -> LoaderState {
        self.state.clone()
    }

    /// What was kept and left out, also by the loaders that this one goes on from.
    pub fn skips(&self) -> &SkipReport {
        &self.state.skips
    }

    fn receive(&mut self) -> Result<Event> {
        self.stream.next()?.ok_or(DataError::WorkerLost)
    }

    /// Takes the examples that the start state had put off.
    fn collect_owed(&mut self) -> Result<()> {
        while self.owed > 0 {
            match self.receive()? {
                Event::Sample(position, outcome) if outcome.is_ok() && position < self.state.position => {
                    self.deferred.push_back((position, outcome));
                    self.owed -= 1;
                }
                _ => return Err(DataError::Resume { problem: "an example put off in the epoch is gone".to_string() }),
            }
        }
        Ok(())
    }

    /// Adds a usable example, counts the others; true if the super-batch holds it already, from the epoch before.
    fn add(&mut self, outcome: &Outcome, batch: &mut SuperBatch, drawn: &mut HashSet<ExampleId>) -> bool {
        let example = match outcome {
            Ok(example) => example,
            Err(skip) => {
                self.state.skips.add(skip);
                return false;
            }
        };
        self.epoch_has_examples = true;
        if !drawn.insert(example.id) {
            return true;
        }
        batch.push(example);
        self.state.skips.keep();
        false
    }

    fn end_epoch(&mut self, length: u64) -> Result<()> {
        if length < self.state.position {
            let problem = format!("position {} lies behind the {length} samples of the epoch", self.state.position);
            return Err(DataError::Resume { problem });
        }
        self.tolerance.check(&self.state.skips, true)?;
        if !self.epoch_has_examples {
            return Err(self.stream.no_examples(&self.state.skips));
        }
        self.epoch_has_examples = false;
        self.state.epoch += 1;
        self.state.position = 0;
        Ok(())
    }
}

fn fingerprint(config: &LoaderConfig) -> String {
    let mut hash = blake3::Hasher::new();
    hash.update(b"jest order 1\0").update(&config.seed.to_le_bytes());
    hash.update(&[u8::from(config.shuffle.shards)]).update(&(config.shuffle.buffer as u64).to_le_bytes());
    hash.update(&config.limits.member_bytes.to_le_bytes());
    for source in &config.sources {
        for name in std::iter::once(source.name()).chain(source.shards().iter().map(|shard| shard.name.as_ref())) {
            hash.update(&(name.len() as u64).to_le_bytes()).update(name.as_bytes());
        }
        hash.update(&[0xff]);
    }
    for weight in &config.weights {
        hash.update(&weight.to_le_bytes());
    }
    if let Some(subset) = &config.subset {
        hash.update(subset.hash().as_bytes());
    }
    if !config.fields.is_empty() {
        hash.update(format!("{:?}", config.fields).as_bytes());
    }
    if config.captions != Captions::default() {
        hash.update(format!("{:?}", config.captions).as_bytes());
    }
    hash.finalize().to_hex()[..16].to_string()
}

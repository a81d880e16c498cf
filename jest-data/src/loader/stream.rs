//! The threads: one reads shards and fixes the order, several decode, the consumer receives in order.
//!
//! The order channel is bounded and carries, for every sample, the place where its outcome will appear; so order never depends
//! on which worker is faster, and at most `prefetch` samples are in flight.

use super::cache::OutcomeCache;
use super::reader::{Pass, Reader};
use crate::example::{Example, Outcome, Place, Recipe};
use crate::shard::{Broken, Found, RawSample};
use crate::{DataError, Fields, LoaderConfig, Result, Shard, SkipReason, SkipReport, Subset};
use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};

/// A shard with the names that its samples carry.
pub(super) struct PlacedShard {
    pub shard: Shard,
    pub place: Place,
    /// Share of its samples that come in an epoch.
    pub share: f64,
}

/// What the consumer receives, in order.
pub(super) enum Event {
    /// The outcome of the sample at this position of the epoch.
    Sample(u64, Arc<Outcome>),
    /// The epoch had this many samples.
    EpochEnd(u64),
}

/// The same while outcomes are still being made.
pub(super) enum Ticket {
    Ready(u64, Arc<Outcome>),
    Later(u64, Receiver<Arc<Outcome>>),
    EpochEnd(u64),
}

/// A sample on its way to a worker.
pub(super) struct Job {
    pub shard: usize,
    pub epoch: u64,
    pub work: Work,
    pub reply: Sender<Arc<Outcome>>,
}

/// What a worker does.
pub(super) enum Work {
    /// Makes an example of a raw sample and keeps it in this slot.
    Prepare(usize, Box<RawSample>),
    /// Draws another caption for an example.
    Redraw(Arc<Outcome>),
}

/// What all threads see.
pub(super) struct Shared {
    pub shards: Vec<PlacedShard>,
    pub recipe: Recipe,
    pub subset: Option<Arc<Subset>>,
    pub fields: Fields,
    pub cache: OutcomeCache,
    pub stop: AtomicBool,
}

impl Shared {
    pub fn new(config: &LoaderConfig, recipe: Recipe, cache_bytes: u64) -> Shared {
        let most = config.weights.iter().copied().fold(0.0, f64::max);
        let mut shards = Vec::new();
        for (i, source) in config.sources.iter().enumerate() {
            let share = config.weights.get(i).map_or(1.0, |weight| weight / most);
            let place = |shard: &Shard| Place { source: source.shared_name(), shard: shard.name.clone() };
            let placed = |shard: &Shard| PlacedShard { shard: shard.clone(), place: place(shard), share };
            shards.extend(source.shards().iter().map(placed));
        }
        let cache = OutcomeCache::new(cache_bytes, shards.len());
        let (subset, fields) = (config.subset.clone(), config.fields.clone());
        Shared { shards, recipe, subset, fields, cache, stop: AtomicBool::new(false) }
    }
}

impl Shared {
    /// What is found, if its JSON is as asked and the subset has it; what is no sample always is.
    pub fn within(&self, found: Found, place: &Place) -> Option<Found> {
        let mut raw = match found {
            Found::Sample(raw) if !self.fields.is_empty() || self.subset.is_some() => raw,
            other => return Some(other),
        };
        raw.load_json(&self.recipe.limits);
        if !self.fields.hold(&place.source, raw.json.as_deref()) {
            return None;
        }
        let Some(subset) = &self.subset else { return Some(Found::Sample(raw)) };
        match subset.holds(raw.json.as_deref(), raw.id(place)) {
            Ok(true) => Some(Found::Sample(raw)),
            Ok(false) => None,
            Err(e) => {
                let detail = format!("{}: {e}", subset.path().display());
                Some(Found::Note(Some(raw.key), Broken::new(SkipReason::ReadError, detail)))
            }
        }
    }
}

/// Running threads and the end of their order channel.
pub(super) struct Stream {
    tickets: Option<Receiver<Ticket>>,
    threads: Vec<JoinHandle<()>>,
    shared: Arc<Shared>,
}

impl Stream {
    pub fn start(shared: Shared, pass: Pass, workers: usize, prefetch: usize) -> Result<Stream> {
        let shared = Arc::new(shared);
        let (send_ticket, tickets) = bounded(prefetch);
        let (send_job, jobs) = unbounded::<Job>();
        let mut stream = Stream { tickets: Some(tickets), threads: Vec::new(), shared: shared.clone() };
        for _ in 0..workers {
            let (shared, jobs) = (shared.clone(), jobs.clone());
            stream.spawn("jest-data worker", move || work(&shared, &jobs))?;
        }
        stream.spawn("jest-data reader", move || Reader::new(shared, pass, send_ticket, send_job).run())?;
        Ok(stream)
    }

    fn spawn(&mut self, name: &str, body: impl FnOnce() + Send + 'static) -> Result<()> {
        let refused = |e: std::io::Error| DataError::Setting {
            setting: "workers",
            value: e.to_string(),
            problem: "the system refused to start a thread; take fewer",
        };
        self.threads.push(Builder::new().name(name.to_string()).spawn(body).map_err(refused)?);
        Ok(())
    }

    /// The next event; none after the last epoch.
    pub fn next(&mut self) -> Result<Option<Event>> {
        let Some(ticket) = self.tickets.as_ref().and_then(|tickets| tickets.recv().ok()) else { return Ok(None) };
        Ok(Some(match ticket {
            Ticket::Ready(position, outcome) => Event::Sample(position, outcome),
            Ticket::Later(position, later) => Event::Sample(position, later.recv().map_err(|_| DataError::WorkerLost)?),
            Ticket::EpochEnd(length) => Event::EpochEnd(length),
        }))
    }

    /// The error of a pass that gave nothing.
    pub fn no_examples(&self, skips: &SkipReport) -> DataError {
        let subset = self.shared.subset.as_ref();
        let within =
            |subset: &Arc<Subset>| format!("; of them with {} uids of {}", subset.len(), subset.path().display());
        let mut skips = format!("{skips}{}", subset.map(within).unwrap_or_default());
        if !self.shared.fields.is_empty() {
            skips += &format!("; of them with {}", self.shared.fields);
        }
        DataError::NoExamples { shards: self.shared.shards.len(), skips }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.tickets = None;
        for thread in self.threads.drain(..) {
            // A worker that panicked was already reported as `WorkerLost`.
            thread.join().ok();
        }
    }
}

fn work(shared: &Shared, jobs: &Receiver<Job>) {
    for job in jobs {
        if shared.stop.load(Ordering::Relaxed) {
            return;
        }
        let place = &shared.shards[job.shard].place;
        let outcome = match job.work {
            Work::Prepare(slot, raw) => {
                let outcome = Arc::new(shared.recipe.prepare(place, *raw, job.epoch));
                shared.cache.put(job.shard, slot, &outcome);
                outcome
            }
            Work::Redraw(outcome) => {
                let again = |example: &Example| shared.recipe.redraw(place, example, job.epoch);
                Arc::new(outcome.as_ref().as_ref().map_err(Clone::clone).and_then(again))
            }
        };
        // The consumer may be gone; then nobody wants it.
        job.reply.send(outcome).ok();
    }
}

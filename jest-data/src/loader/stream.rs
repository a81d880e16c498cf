//! The threads: one reads shards and fixes the order, several decode, the consumer receives in order.
//!
//! The order channel is bounded and carries, for every sample, the place where its outcome will appear; so order never depends
//! on which worker is faster, and at most `prefetch` samples are in flight.

use super::cache::OutcomeCache;
use super::reader::{Pass, Reader};
use crate::example::{Outcome, Place, Recipe};
use crate::shard::RawSample;
use crate::{DataError, Result, Source};
use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};

/// A shard with the names that its samples carry.
pub(super) struct PlacedShard {
    pub path: PathBuf,
    pub place: Place,
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

/// A raw sample on its way to a worker.
pub(super) struct Job {
    pub shard: usize,
    pub slot: usize,
    pub raw: RawSample,
    pub reply: Sender<Arc<Outcome>>,
}

/// What all threads see.
pub(super) struct Shared {
    pub shards: Vec<PlacedShard>,
    pub recipe: Recipe,
    pub cache: OutcomeCache,
    pub stop: AtomicBool,
}

impl Shared {
    pub fn new(sources: &[Source], recipe: Recipe, cache_bytes: u64) -> Shared {
        let placed = |source: &Source| {
            let name = source.shared_name();
            let place = move |shard: &str| Place { source: name.clone(), shard: shard.into() };
            let shards = source.shards().iter();
            shards.map(|s| PlacedShard { path: s.path.clone(), place: place(&s.name) }).collect::<Vec<_>>()
        };
        let shards: Vec<_> = sources.iter().flat_map(placed).collect();
        let cache = OutcomeCache::new(cache_bytes, shards.len());
        Shared { shards, recipe, cache, stop: AtomicBool::new(false) }
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

    pub fn shards(&self) -> usize {
        self.shared.shards.len()
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
        let outcome = Arc::new(shared.recipe.prepare(&shared.shards[job.shard].place, job.raw));
        shared.cache.put(job.shard, job.slot, &outcome);
        // The consumer may be gone; then nobody wants it.
        job.reply.send(outcome).ok();
    }
}

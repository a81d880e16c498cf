//! The thread that reads shards, shuffles what it finds, and hands it out in the order that the consumer will see.

use super::cache::OutcomeCache;
use super::shuffle::{ShuffleBuffer, permutation, stream};
use super::stream::{Job, Shared, Ticket};
use crate::example::Outcome;
use crate::shard::{Found, RawSample, SampleReader, open_shard};
use crossbeam_channel::{Sender, bounded};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Which samples a stream delivers, in which order.
pub(super) struct Pass {
    pub seed: u64,
    pub shuffle_shards: bool,
    /// Samples in the shuffle buffer; 0 keeps the order of the shards.
    pub buffer: usize,
    pub epoch: u64,
    /// The last epoch; none for endless.
    pub last_epoch: Option<u64>,
    /// Samples of the first epoch to leave out, except those in `deferred`.
    pub position: u64,
    /// Ascending.
    pub deferred: Vec<u64>,
}

enum Item {
    Raw { shard: usize, slot: usize, raw: RawSample },
    Done(Arc<Outcome>),
}

pub(super) struct Reader {
    shared: Arc<Shared>,
    pass: Pass,
    tickets: Sender<Ticket>,
    jobs: Sender<Job>,
    epoch: u64,
    /// Samples of this epoch handed out or left out so far.
    position: u64,
}

impl Reader {
    pub fn new(shared: Arc<Shared>, pass: Pass, tickets: Sender<Ticket>, jobs: Sender<Job>) -> Reader {
        let epoch = pass.epoch;
        Reader { shared, pass, tickets, jobs, epoch, position: 0 }
    }

    pub fn run(mut self) {
        while self.pass.last_epoch.is_none_or(|last| self.epoch <= last) {
            if self.read_epoch().is_break() {
                return;
            }
            self.epoch += 1;
        }
    }

    fn read_epoch(&mut self) -> ControlFlow<()> {
        self.position = 0;
        let shared = self.shared.clone();
        let order: Vec<usize> = match self.pass.shuffle_shards {
            true => permutation(shared.shards.len(), &mut stream(self.pass.seed, "shards", self.epoch)),
            false => (0..shared.shards.len()).collect(),
        };
        let mut buffer = ShuffleBuffer::new(self.pass.buffer, stream(self.pass.seed, "samples", self.epoch));
        for shard in order {
            match shared.cache.whole(shard) {
                Some(outcomes) => outcomes.into_iter().try_for_each(|o| self.shuffle(&mut buffer, Item::Done(o)))?,
                None => self.read_shard(shard, &mut buffer)?,
            }
        }
        while let Some(item) = buffer.pop() {
            self.hand_out(item)?;
        }
        self.send(Ticket::EpochEnd(self.position))
    }

    fn read_shard(&mut self, shard: usize, buffer: &mut ShuffleBuffer<Item>) -> ControlFlow<()> {
        let shared = self.shared.clone();
        let placed = &shared.shards[shard];
        let mut slots = 0;
        let note = |cache: &OutcomeCache, slot: usize, key: Option<String>, broken: crate::shard::Broken| {
            let outcome = Arc::new(Err(placed.place.skip(broken.reason, key, broken.detail)));
            cache.put(shard, slot, &outcome);
            Item::Done(outcome)
        };
        match open_shard(&placed.path) {
            Err(broken) => {
                self.shuffle(buffer, note(&shared.cache, 0, None, broken))?;
                slots = 1;
            }
            Ok(input) => {
                for found in SampleReader::new(input, shared.recipe.limits) {
                    let item = match found {
                        Found::Sample(raw) => Item::Raw { shard, slot: slots, raw },
                        Found::Note(key, broken) => note(&shared.cache, slots, key, broken),
                    };
                    slots += 1;
                    self.shuffle(buffer, item)?;
                }
            }
        }
        shared.cache.finish(shard, slots);
        ControlFlow::Continue(())
    }

    fn shuffle(&mut self, buffer: &mut ShuffleBuffer<Item>, item: Item) -> ControlFlow<()> {
        if self.shared.stop.load(Ordering::Relaxed) {
            return ControlFlow::Break(());
        }
        match buffer.push(item) {
            Some(item) => self.hand_out(item),
            None => ControlFlow::Continue(()),
        }
    }

    fn hand_out(&mut self, item: Item) -> ControlFlow<()> {
        let position = self.position;
        self.position += 1;
        let resuming = self.epoch == self.pass.epoch && position < self.pass.position;
        if resuming && self.pass.deferred.binary_search(&position).is_err() {
            return ControlFlow::Continue(());
        }
        match item {
            Item::Done(outcome) => self.send(Ticket::Ready(position, outcome)),
            Item::Raw { shard, slot, raw } => {
                let (reply, later) = bounded(1);
                self.send(Ticket::Later(position, later))?;
                match self.jobs.send(Job { shard, slot, raw, reply }) {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(_) => ControlFlow::Break(()),
                }
            }
        }
    }

    fn send(&self, ticket: Ticket) -> ControlFlow<()> {
        match self.tickets.send(ticket) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    }
}

//! The thread that reads shards, shuffles what it finds, and hands it out in the order that the consumer will see.

use super::shuffle::{ShuffleBuffer, permutation, stream, uniform};
use super::stream::{Job, PlacedShard, Shared, Ticket, Work};
use crate::example::Outcome;
use crate::remote::Asked;
use crate::shard::{Found, RawSample, read_samples};
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

/// Shards on servers that are asked for before their turn, so that nobody waits for a connection. Each holds 8 MiB at most.
const ASKED_AHEAD: usize = 2;

enum Item {
    Raw { shard: usize, slot: usize, raw: Box<RawSample> },
    Done { shard: usize, outcome: Arc<Outcome> },
}

pub(super) struct Reader {
    shared: Arc<Shared>,
    pass: Pass,
    tickets: Sender<Ticket>,
    jobs: Sender<Job>,
    epoch: u64,
    /// Samples of this epoch handed out or left out so far.
    position: u64,
    /// Shards on servers that are on their way.
    asked: Vec<(usize, Asked)>,
}

impl Reader {
    pub fn new(shared: Arc<Shared>, pass: Pass, tickets: Sender<Ticket>, jobs: Sender<Job>) -> Reader {
        let epoch = pass.epoch;
        Reader { shared, pass, tickets, jobs, epoch, position: 0, asked: Vec::new() }
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
        for (turn, &shard) in order.iter().enumerate() {
            self.ask(&order[turn..]);
            let asked = self.asked.iter().position(|(asked, _)| *asked == shard).map(|at| self.asked.swap_remove(at).1);
            match shared.cache.whole(shard) {
                Some(outcomes) => self.replay(shard, outcomes, &mut buffer)?,
                None => self.read_shard(shard, asked, &mut buffer)?,
            }
        }
        while let Some(item) = buffer.pop() {
            self.hand_out(item)?;
        }
        self.send(Ticket::EpochEnd(self.position))
    }

    /// Asks for the next shards, where they are on servers and not in memory.
    fn ask(&mut self, next: &[usize]) {
        for &shard in next.iter().take(1 + ASKED_AHEAD) {
            if !self.asked.iter().any(|(asked, _)| *asked == shard)
                && !self.shared.cache.is_whole(shard)
                && let Some(asked) = self.shared.shards[shard].shard.ask()
            {
                self.asked.push((shard, asked));
            }
        }
    }

    /// Which samples of a shard come in this epoch: all, or a share of them that seed, epoch and shard decide.
    fn drawn(&self, shard: usize) -> impl FnMut() -> bool + use<> {
        let PlacedShard { place, share, shard } = &self.shared.shards[shard];
        let purpose = format!("share of {}/{} from {}", place.source, place.shard, shard.first());
        let mut draws = (*share < 1.0).then(|| (stream(self.pass.seed, &purpose, self.epoch), *share));
        move || draws.as_mut().is_none_or(|(rng, share)| uniform(rng) < *share)
    }

    fn replay(
        &mut self,
        shard: usize,
        outcomes: Vec<Arc<Outcome>>,
        buffer: &mut ShuffleBuffer<Item>,
    ) -> ControlFlow<()> {
        let mut drawn = self.drawn(shard);
        let mut here = outcomes.into_iter().filter(|_| drawn());
        here.try_for_each(|outcome| self.shuffle(buffer, Item::Done { shard, outcome }))
    }

    fn read_shard(&mut self, shard: usize, asked: Option<Asked>, buffer: &mut ShuffleBuffer<Item>) -> ControlFlow<()> {
        let shared = self.shared.clone();
        let placed = &shared.shards[shard];
        let mut drawn = self.drawn(shard);
        let mut slots = 0;
        let note = |slot: usize, key: Option<String>, broken: crate::shard::Broken| {
            let outcome = Arc::new(Err(placed.place.skip(broken.reason, key, broken.detail)));
            shared.cache.put(shard, slot, &outcome);
            Item::Done { shard, outcome }
        };
        let within = |found| shared.within(found, &placed.place);
        match read_samples(&placed.shard, asked, &shared.recipe.limits) {
            Err(broken) => {
                slots = 1;
                if drawn() {
                    self.shuffle(buffer, note(0, None, broken))?;
                }
            }
            Ok(samples) => {
                for found in samples.filter_map(within) {
                    let slot = slots;
                    slots += 1;
                    if !drawn() {
                        continue;
                    }
                    let item = match found {
                        Found::Sample(raw) => Item::Raw { shard, slot, raw: Box::new(raw) },
                        Found::Note(key, broken) => note(slot, key, broken),
                    };
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
            Item::Done { shard, outcome } => match outcome.as_ref() {
                Ok(example) if !example.choices.is_empty() => self.work(position, shard, Work::Redraw(outcome)),
                _ => self.send(Ticket::Ready(position, outcome)),
            },
            Item::Raw { shard, slot, raw } => self.work(position, shard, Work::Prepare(slot, raw)),
        }
    }

    fn work(&self, position: u64, shard: usize, work: Work) -> ControlFlow<()> {
        let (reply, later) = bounded(1);
        self.send(Ticket::Later(position, later))?;
        match self.jobs.send(Job { shard, epoch: self.epoch, work, reply }) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    }

    fn send(&self, ticket: Ticket) -> ControlFlow<()> {
        match self.tickets.send(ticket) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    }
}

//! Outcomes of earlier epochs, kept in memory as far as a byte budget goes.

use crate::example::Outcome;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Decoded samples by shard and place in the shard. Once a shard is whole here, it is never read again.
pub(super) struct OutcomeCache {
    budget: u64,
    inner: Mutex<Inner>,
}

struct Inner {
    used: u64,
    shards: Vec<CachedShard>,
}

#[derive(Clone, Default)]
struct CachedShard {
    slots: Vec<Option<Arc<Outcome>>>,
    filled: usize,
    /// How many slots the shard has; known once it was read to its end.
    total: Option<usize>,
}

impl OutcomeCache {
    pub fn new(budget: u64, shards: usize) -> OutcomeCache {
        let inner = Inner { used: 0, shards: vec![CachedShard::default(); shards] };
        OutcomeCache { budget, inner: Mutex::new(inner) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps an outcome if the budget allows.
    pub fn put(&self, shard: usize, slot: usize, outcome: &Arc<Outcome>) {
        if self.budget == 0 {
            return;
        }
        let cost = outcome.as_ref().as_ref().map_or(256, |example| example.cost());
        let mut guard = self.lock();
        let inner = &mut *guard;
        if inner.used + cost > self.budget {
            return;
        }
        let cached = &mut inner.shards[shard];
        if cached.slots.len() <= slot {
            cached.slots.resize(slot + 1, None);
        }
        if cached.slots[slot].is_none() {
            cached.slots[slot] = Some(outcome.clone());
            cached.filled += 1;
            inner.used += cost;
        }
    }

    /// Notes that the shard was read to its end and has `total` slots.
    pub fn finish(&self, shard: usize, total: usize) {
        self.lock().shards[shard].total = Some(total);
    }

    /// Whether all outcomes of the shard are here.
    pub fn is_whole(&self, shard: usize) -> bool {
        let inner = self.lock();
        inner.shards[shard].total == Some(inner.shards[shard].filled)
    }

    /// All outcomes of the shard, if all are here.
    pub fn whole(&self, shard: usize) -> Option<Vec<Arc<Outcome>>> {
        let inner = self.lock();
        let cached = &inner.shards[shard];
        if cached.total != Some(cached.filled) {
            return None;
        }
        cached.slots.iter().cloned().collect()
    }
}

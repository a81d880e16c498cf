//! The order of samples as a pure function of seed and epoch.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// A ChaCha8 stream that belongs to (seed, purpose, epoch) alone.
pub(super) fn stream(seed: u64, purpose: &str, epoch: u64) -> ChaCha8Rng {
    let mut hash = blake3::Hasher::new();
    hash.update(&seed.to_le_bytes()).update(&epoch.to_le_bytes()).update(purpose.as_bytes());
    ChaCha8Rng::from_seed(*hash.finalize().as_bytes())
}

/// A number below `n`: the high half of a 64 x 64 bit product, so that the rule is ours and stays.
fn below(rng: &mut ChaCha8Rng, n: usize) -> usize {
    ((u128::from(rng.next_u64()) * n as u128) >> 64) as usize
}

/// A number from 0 up to 1, in steps of 2^-53.
pub(super) fn uniform(rng: &mut ChaCha8Rng) -> f64 {
    (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

/// The numbers 0..n, shuffled.
pub(super) fn permutation(n: usize, rng: &mut ChaCha8Rng) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    for i in (1..n).rev() {
        order.swap(i, below(rng, i + 1));
    }
    order
}

/// Holds up to `capacity` items and gives back random ones.
pub(super) struct ShuffleBuffer<T> {
    items: Vec<T>,
    capacity: usize,
    rng: ChaCha8Rng,
}

impl<T> ShuffleBuffer<T> {
    pub fn new(capacity: usize, rng: ChaCha8Rng) -> ShuffleBuffer<T> {
        ShuffleBuffer { items: Vec::new(), capacity, rng }
    }

    /// Takes an item; once full, gives one back. Capacity 0 or 1 keeps the order, up to the delay of one.
    pub fn push(&mut self, item: T) -> Option<T> {
        if self.items.len() < self.capacity {
            self.items.push(item);
            return None;
        }
        if self.items.is_empty() {
            return Some(item);
        }
        let at = below(&mut self.rng, self.items.len());
        Some(std::mem::replace(&mut self.items[at], item))
    }

    /// Gives back what is left, one at a time.
    pub fn pop(&mut self) -> Option<T> {
        if self.items.is_empty() {
            return None;
        }
        let at = below(&mut self.rng, self.items.len());
        Some(self.items.swap_remove(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_comes_out_once() {
        for capacity in [0, 1, 7, 100, 1000] {
            let mut buffer = ShuffleBuffer::new(capacity, stream(3, "test", 0));
            let mut out: Vec<u32> = (0..500).filter_map(|i| buffer.push(i)).collect();
            out.extend(std::iter::from_fn(|| buffer.pop()));
            assert_eq!(out.is_sorted(), capacity < 2, "capacity {capacity}");
            out.sort_unstable();
            assert!(out.iter().copied().eq(0..500), "capacity {capacity}");
        }
    }

    #[test]
    fn the_order_is_frozen() {
        assert_eq!(permutation(8, &mut stream(0, "shards", 0)), FROZEN);
    }

    /// A change of this order breaks every resumed run: bump the fingerprint with it.
    const FROZEN: [usize; 8] = [6, 3, 2, 7, 4, 0, 5, 1];
}

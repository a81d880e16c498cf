//! Whole buffers kept by size class, so that the steady state of training makes none: tensors, and what operations on the
//! CPU need for a moment.

use std::collections::HashMap;
use std::sync::Mutex;

/// Bytes of a cache line; every size class is a multiple of it.
pub(crate) const LINE_WORDS: usize = 16;

/// Smallest class of at least `words` 32-bit words: four classes to an octave, so at most a quarter is unused.
pub(crate) fn size_class(words: usize) -> usize {
    let lines = words.div_ceil(LINE_WORDS).max(1);
    let octave = lines.next_power_of_two().max(8) / 8;
    lines.div_ceil(octave) * octave * LINE_WORDS
}

/// Buffers of a device: they stay with it until it is closed, or until a GPU has no room for another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BufferCount {
    /// Buffers allocated so far.
    pub made: u64,
    /// Bytes of those that are there now.
    pub bytes: u64,
    /// The most bytes that were there at once.
    pub peak: u64,
    /// Times that a free buffer served in place of a new one.
    pub reused: u64,
}

/// Free buffers by the number of words they hold.
#[derive(Debug)]
pub(crate) struct Pool<B> {
    free: Mutex<HashMap<usize, Vec<B>>>,
    count: Mutex<BufferCount>,
}

impl<B> Default for Pool<B> {
    fn default() -> Self {
        Self { free: Mutex::default(), count: Mutex::default() }
    }
}

impl<B> Pool<B> {
    /// A free buffer of exactly this class; the caller makes one of `bytes` bytes where there is none.
    pub(crate) fn take(&self, class: usize, bytes: usize) -> Option<B> {
        let taken = self.reuse(class);
        if taken.is_none() {
            self.made(bytes as u64);
        }
        taken
    }

    /// A free buffer of exactly this class.
    pub(crate) fn reuse(&self, class: usize) -> Option<B> {
        let taken = self.free.lock().ok()?.get_mut(&class).and_then(Vec::pop)?;
        self.recount(|count| count.reused += 1);
        Some(taken)
    }

    /// Counts a new buffer.
    pub(crate) fn made(&self, bytes: u64) {
        self.recount(|count| {
            (count.made, count.bytes) = (count.made + 1, count.bytes + bytes);
            count.peak = count.peak.max(count.bytes);
        });
    }

    /// Takes all free buffers out of the pool for good; `bytes` says what one holds.
    pub(crate) fn drain(&self, bytes: impl Fn(&B) -> u64) -> Vec<B> {
        let Ok(mut free) = self.free.lock() else { return Vec::new() };
        let drained: Vec<B> = free.drain().flat_map(|(_, buffers)| buffers).collect();
        self.recount(|count| count.bytes -= drained.iter().map(bytes).sum::<u64>());
        drained
    }

    fn recount(&self, change: impl FnOnce(&mut BufferCount)) {
        if let Ok(mut count) = self.count.lock() {
            change(&mut count);
        }
    }

    /// What was made and reused so far.
    pub(crate) fn count(&self) -> BufferCount {
        self.count.lock().map(|count| *count).unwrap_or_default()
    }

    /// Keeps a buffer for the next taker.
    pub(crate) fn give(&self, class: usize, buffer: B) {
        if let Ok(mut free) = self.free.lock() {
            free.entry(class).or_default().push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_holds_the_words_and_wastes_at_most_a_quarter() {
        for words in (1..5000).chain([100_000, 1_000_003]) {
            let class = size_class(words);
            assert!(class >= words && class.is_multiple_of(LINE_WORDS), "{words} -> {class}");
            let lines = words.div_ceil(LINE_WORDS) * LINE_WORDS;
            assert!(class <= lines + lines / 4 + LINE_WORDS, "{words} -> {class}");
            assert_eq!(size_class(class), class);
        }
    }

    #[test]
    fn what_is_given_is_taken_once() {
        let pool = Pool::default();
        pool.give(64, "a");
        assert_eq!((pool.take(128, 512), pool.take(64, 256), pool.take(64, 256)), (None, Some("a"), None));
        assert_eq!(pool.count(), BufferCount { made: 2, bytes: 768, peak: 768, reused: 1 });
    }

    #[test]
    fn what_is_drained_is_counted_out() {
        let pool = Pool::default();
        pool.made(256);
        pool.made(64);
        pool.give(64, "a");
        assert_eq!(pool.drain(|_| 256), ["a"]);
        assert_eq!(pool.reuse(64), None);
        assert_eq!(pool.count(), BufferCount { made: 2, bytes: 64, peak: 320, reused: 0 });
    }
}

//! Whole buffers kept by size class, so that the steady state of training allocates nothing.

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

/// Free buffers by the number of words they hold.
#[derive(Debug)]
pub(crate) struct Pool<B> {
    free: Mutex<HashMap<usize, Vec<B>>>,
}

impl<B> Default for Pool<B> {
    fn default() -> Self {
        Self { free: Mutex::default() }
    }
}

impl<B> Pool<B> {
    /// A free buffer of exactly this class.
    pub(crate) fn take(&self, class: usize) -> Option<B> {
        self.free.lock().ok()?.get_mut(&class)?.pop()
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
        assert_eq!((pool.take(128), pool.take(64), pool.take(64)), (None, Some("a"), None));
    }
}

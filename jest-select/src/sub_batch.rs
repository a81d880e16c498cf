//! Candidates, and the sub-batch drawn from them.

use std::fmt;

/// Index of an example within its super-batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Candidate(u32);

impl Candidate {
    /// The candidate at `index` of its super-batch.
    pub const fn new(index: u32) -> Self {
        Self(index)
    }

    /// Position in the super-batch, for use with slices.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl From<Candidate> for u32 {
    fn from(candidate: Candidate) -> u32 {
        candidate.0
    }
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "candidate {}", self.0)
    }
}

/// The candidates selected, in the order of drawing: chunk after chunk, and within a chunk best key first.
///
/// No candidate occurs twice: only a draw makes one, and it draws from those not yet picked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubBatch {
    picked: Vec<Candidate>,
    chunk_size: usize,
}

impl SubBatch {
    /// Drawn candidates, `chunk_size` at a time. The caller draws without replacement.
    pub(crate) fn from_draw(picked: Vec<Candidate>, chunk_size: usize) -> Self {
        debug_assert!(picked.len().is_multiple_of(chunk_size));
        Self { picked, chunk_size }
    }

    /// All candidates, in the order of drawing. `[b]`
    pub fn candidates(&self) -> &[Candidate] {
        &self.picked
    }

    /// The chunks, in the order of drawing. N of them, each `[c]`
    pub fn chunks(&self) -> impl ExactSizeIterator<Item = &[Candidate]> {
        self.picked.chunks_exact(self.chunk_size)
    }

    /// c, the number of candidates in a chunk.
    pub fn chunk_size(&self) -> usize {
        self.chunk_size
    }

    /// Positions in the super-batch, in the order of drawing. `[b]`
    pub fn indices(&self) -> impl ExactSizeIterator<Item = usize> {
        self.picked.iter().map(|candidate| candidate.index())
    }
}

//! Examples side by side, as the towers read them.

use crate::example::Example;
use crate::{ExampleId, Preprocess};
use std::ops::Range;
use std::sync::Arc;

/// B examples; entry i of every field belongs to candidate i.
///
/// Pixels are kept as bytes and normalised on request: all of a large super-batch as `f32` would take four times the memory.
#[derive(Clone, Debug, PartialEq)]
pub struct SuperBatch {
    /// Who they are.
    pub ids: Vec<ExampleId>,
    /// Their keys within their shards.
    pub keys: Vec<String>,
    /// The names of their sources.
    pub sources: Vec<Arc<str>>,
    /// Their captions.
    pub captions: Vec<String>,
    /// Their `.json` members, unparsed.
    pub json: Vec<Option<String>>,
    /// Their classes: the `.cls` member, else `label` of the `.json` member.
    pub labels: Vec<Option<u32>>,
    /// `[n, s, s, 3]` bytes.
    pub rgb: Vec<u8>,
    /// `[n, l]` ids, padded on the right.
    pub tokens: Vec<u32>,
    /// `[n]`: how many ids of each row are no padding.
    pub lengths: Vec<u32>,
    /// How `rgb` was made and becomes pixels; its `size` is s.
    pub preprocess: Preprocess,
    /// l.
    pub text_tokens: usize,
}

impl SuperBatch {
    pub(crate) fn empty(preprocess: Preprocess, text_tokens: usize) -> SuperBatch {
        SuperBatch {
            ids: Vec::new(),
            keys: Vec::new(),
            sources: Vec::new(),
            captions: Vec::new(),
            json: Vec::new(),
            labels: Vec::new(),
            rgb: Vec::new(),
            tokens: Vec::new(),
            lengths: Vec::new(),
            preprocess,
            text_tokens,
        }
    }

    pub(crate) fn push(&mut self, example: &Example) {
        self.ids.push(example.id);
        self.keys.push(example.key.clone());
        self.sources.push(example.source.clone());
        self.captions.push(example.caption.clone());
        self.json.push(example.json.clone());
        self.labels.push(example.label);
        self.rgb.extend_from_slice(&example.rgb);
        self.tokens.extend_from_slice(&example.tokens);
        self.lengths.push(example.length);
    }

    /// How many examples.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// The examples at these indices, in this order: the sub-batch.
    ///
    /// # Panics
    /// If an index is not below [`len`](Self::len).
    pub fn subset(&self, indices: &[usize]) -> SuperBatch {
        let mut sub = SuperBatch::empty(self.preprocess, self.text_tokens);
        for &i in indices {
            sub.ids.push(self.ids[i]);
            sub.keys.push(self.keys[i].clone());
            sub.sources.push(self.sources[i].clone());
            sub.captions.push(self.captions[i].clone());
            sub.json.push(self.json[i].clone());
            sub.labels.push(self.labels[i]);
            sub.rgb.extend_from_slice(self.image_rgb(i));
            sub.tokens.extend_from_slice(self.tokens_of(i..i + 1));
            sub.lengths.push(self.lengths[i]);
        }
        sub
    }

    /// Normalised pixels of all examples.
    ///
    /// # Shapes
    /// `[n, 3, s, s]`.
    pub fn pixels(&self) -> Vec<f32> {
        self.pixels_of(0..self.len())
    }

    /// Normalised pixels of some examples.
    ///
    /// # Shapes
    /// `[range, 3, s, s]`.
    ///
    /// # Panics
    /// If the range ends beyond [`len`](Self::len).
    pub fn pixels_of(&self, range: Range<usize>) -> Vec<f32> {
        let mut pixels = Vec::new();
        self.append_pixels(range, &mut pixels);
        pixels
    }

    /// As [`pixels_of`](Self::pixels_of), behind what is there.
    ///
    /// # Panics
    /// If the range ends beyond [`len`](Self::len).
    pub fn append_pixels(&self, range: Range<usize>, pixels: &mut Vec<f32>) {
        let one = self.image_bytes();
        self.preprocess.normalize(&self.rgb[range.start * one..range.end * one], pixels);
    }

    /// Token ids of some examples.
    ///
    /// # Shapes
    /// `[range, l]`.
    ///
    /// # Panics
    /// If the range ends beyond [`len`](Self::len).
    pub fn tokens_of(&self, range: Range<usize>) -> &[u32] {
        &self.tokens[range.start * self.text_tokens..range.end * self.text_tokens]
    }

    /// The picture of example `i`, to be shown.
    ///
    /// # Shapes
    /// `[s, s, 3]` bytes.
    ///
    /// # Panics
    /// If `i` is not below [`len`](Self::len).
    pub fn image_rgb(&self, i: usize) -> &[u8] {
        &self.rgb[i * self.image_bytes()..(i + 1) * self.image_bytes()]
    }

    fn image_bytes(&self) -> usize {
        self.preprocess.size * self.preprocess.size * 3
    }
}

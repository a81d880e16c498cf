//! The cache as its users see it: rows by example id.

use super::key::CacheKey;
use super::part::{Part, Precision};
use super::shards;
use crate::{DataError, ExampleId, Result, Source};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Rows in a part before it is written, at most.
const PART_ROWS: usize = 65_536;
/// Bytes of rows in a part before it is written: what a killed run computes again is seconds' work.
const PART_BYTES: usize = 16 << 20;

/// Image and text embeddings of one model, by example id: in memory, and in a folder of safetensors parts.
///
/// A part is written whole and renamed, so a killed run loses at most the rows added since the last part; the next one finds the
/// others and adds what is missing. Several processes may add to one folder: each writes parts of its own. Takes `2 * d * 4`
/// bytes of memory per example.
pub struct EmbeddingCache {
    folder: PathBuf,
    key: CacheKey,
    precision: Precision,
    parts: Vec<Part>,
    /// Part and row of every id; the last part may not be written yet.
    rows: HashMap<ExampleId, (usize, usize)>,
    /// Number of the next file.
    next_file: usize,
    written: usize,
}

impl std::fmt::Debug for EmbeddingCache {
    /// Where it is and how much it holds; the rows themselves are too many.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { folder, key, rows, .. } = self;
        f.debug_struct("EmbeddingCache")
            .field("folder", folder)
            .field("dim", &key.dim)
            .field("len", &rows.len())
            .finish()
    }
}

impl EmbeddingCache {
    /// Opens the cache in `folder`, or begins one there.
    ///
    /// # Errors
    /// `CacheKey` if the cache belongs to another key, naming what differs; `Cache` if a part is damaged, naming it; `Io`.
    pub fn open(folder: &Path, key: &CacheKey) -> Result<EmbeddingCache> {
        std::fs::create_dir_all(folder).map_err(DataError::io("create", folder))?;
        key.claim(folder)?;
        let mut files = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(DataError::io("list", folder))? {
            let path = entry.map_err(DataError::io("list", folder))?.path();
            let number = path.file_name().and_then(|name| name.to_str()).and_then(part_number);
            files.extend(number.map(|number| (number, path)));
        }
        files.sort();
        let mut cache = EmbeddingCache {
            folder: folder.to_path_buf(),
            key: key.clone(),
            precision: Precision::F32,
            parts: Vec::new(),
            rows: HashMap::new(),
            next_file: files.last().map_or(0, |(number, _)| number + 1),
            written: 0,
        };
        for (_, path) in files {
            let part = Part::read(&path, key)?;
            let at = cache.parts.len();
            cache.rows.extend(part.ids.iter().enumerate().map(|(row, id)| (*id, (at, row))));
            cache.parts.push(part);
        }
        cache.written = cache.parts.len();
        Ok(cache)
    }

    /// The same cache; rows added from now on are rounded to this precision and written so.
    pub fn with_precision(self, precision: Precision) -> EmbeddingCache {
        EmbeddingCache { precision, ..self }
    }

    /// Refuses shards that have the name of others whose examples are cached here: they would share ids.
    ///
    /// # Errors
    /// `Cache` naming the shard; `Io` if one cannot be read.
    pub fn claim(&self, sources: &[Source]) -> Result<()> {
        shards::claim(&self.folder, sources)
    }

    /// How many examples.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Whether the example is here, also if its part is not written yet.
    pub fn contains(&self, id: &ExampleId) -> bool {
        self.rows.contains_key(id)
    }

    /// Image and text embedding of an example.
    ///
    /// # Shapes
    /// `[d]` and `[d]`.
    pub fn get(&self, id: &ExampleId) -> Option<(&[f32], &[f32])> {
        let (part, row) = *self.rows.get(id)?;
        let part = self.parts.get(part)?;
        let span = row * self.key.dim..(row + 1) * self.key.dim;
        Some((part.image.get(span.clone())?, part.text.get(span)?))
    }

    /// What computing the rows of these examples took: of each that is here, its share of its part. In seconds.
    pub fn seconds(&self, ids: &[ExampleId]) -> f64 {
        let parts = ids.iter().filter_map(|id| self.parts.get(self.rows.get(id)?.0));
        parts.map(|part| part.seconds / part.ids.len() as f64).sum()
    }

    /// Adds rows; ids that are here already keep theirs. Full parts are written.
    ///
    /// # Shapes
    /// `image`, `text`: `[ids.len(), d]`.
    ///
    /// # Units
    /// `seconds`: what computing them took.
    ///
    /// # Errors
    /// `Cache` if a shape does not fit or a value is not finite, and then nothing is added; `Io` if a part cannot be written.
    pub fn add(&mut self, ids: &[ExampleId], image: &[f32], text: &[f32], seconds: f64) -> Result<()> {
        let d = self.key.dim;
        let problem = |problem: String| DataError::Cache { path: self.folder.clone(), problem };
        for (name, rows) in [("image", image), ("text", text)] {
            if rows.len() != ids.len() * d {
                return Err(problem(format!("{name} rows: {} values for {} ids of width {d}", rows.len(), ids.len())));
            }
            if let Some(at) = rows.iter().position(|v| !v.is_finite()) {
                let (id, value) = (ids[at / d], rows[at]);
                return Err(problem(format!(
                    "{name} embedding of {id} holds {value}; the model is broken or overflows"
                )));
            }
        }
        let full = (PART_BYTES / (2 * d * self.precision.bytes()).max(1)).clamp(1, PART_ROWS);
        for ((id, image), text) in ids.iter().zip(image.chunks_exact(d.max(1))).zip(text.chunks_exact(d.max(1))) {
            if self.contains(id) {
                continue;
            }
            if self.parts.len() == self.written {
                self.parts.push(Part::default());
            }
            let at = self.parts.len() - 1;
            let part = &mut self.parts[at];
            self.rows.insert(*id, (at, part.ids.len()));
            part.ids.push(*id);
            part.seconds += seconds / ids.len() as f64;
            part.image.extend(image.iter().map(|value| self.precision.round(*value)));
            part.text.extend(text.iter().map(|value| self.precision.round(*value)));
            if part.ids.len() >= full {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// Writes the rows added since the last part, if any.
    ///
    /// # Errors
    /// `Io` if the disk refuses; the rows stay in memory and a later call tries again.
    pub fn flush(&mut self) -> Result<()> {
        if self.written == self.parts.len() {
            return Ok(());
        }
        loop {
            let path = self.folder.join(format!("part-{:06}.safetensors", self.next_file));
            self.next_file += 1;
            if self.parts[self.written].write(&path, &self.key, self.precision)? {
                self.written += 1;
                return Ok(());
            }
        }
    }
}

fn part_number(name: &str) -> Option<usize> {
    name.strip_prefix("part-")?.strip_suffix(".safetensors")?.parse().ok()
}

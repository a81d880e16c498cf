//! The examples that a run chose from: captions, tags, duplicates, and the pictures of some.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use jest_data::{LoaderConfig, Preprocess};

use crate::Result;
use crate::config::RunPlan;
use crate::report::GalleryItem;
use crate::selector::tags;

/// Side at which pictures are held against each other, and at which they are shown, in pixels.
const SIDES: [usize; 2] = [32, 96];
/// What an example can have in common with another of the data.
pub(super) const TWINS: [&str; 3] = ["same picture and caption", "same picture", "same caption"];

/// What is known of every example of a run's data.
#[derive(Debug, Default)]
pub(super) struct Pool {
    pub examples: HashMap<String, Known>,
}

/// An example.
#[derive(Debug)]
pub(super) struct Known {
    caption: String,
    /// By field.
    values: Vec<String>,
    /// Of picture and caption, of the picture, and of the caption.
    prints: [[u8; 32]; 3],
    /// Whether another has the same.
    twins: [bool; 3],
}

impl Pool {
    /// Reads a run's data once.
    pub fn read(run: &RunPlan, fields: &[String]) -> Result<Self> {
        let mut pool = Self::default();
        for batch in jest_data::read_all(&reading(run, SIDES[0])?, 1024)? {
            let batch = batch?;
            for i in 0..batch.len() {
                let values = fields.iter().map(|field| match field.as_str() {
                    "source" => batch.sources[i].to_string(),
                    field => tags::of(batch.json[i].as_deref(), &[field.to_string()]).join(", "),
                });
                pool.add(batch.ids[i].to_string(), &batch.captions[i], batch.image_rgb(i), values.collect());
            }
        }
        pool.find_twins();
        Ok(pool)
    }

    /// Adds an example with its picture.
    pub fn add(&mut self, id: String, caption: &str, rgb: &[u8], values: Vec<String>) {
        let [picture, text] = [rgb, caption.as_bytes()].map(|bytes| *blake3::hash(bytes).as_bytes());
        let both = *blake3::hash(&[picture, text].concat()).as_bytes();
        let known =
            Known { caption: caption.to_string(), values, prints: [both, picture, text], twins: [false; TWINS.len()] };
        self.examples.insert(id, known);
    }

    /// Marks the examples that have something in common with another.
    pub fn find_twins(&mut self) {
        for kind in 0..TWINS.len() {
            let mut counts: HashMap<[u8; 32], usize> = HashMap::new();
            self.examples.values().for_each(|known| *counts.entry(known.prints[kind]).or_default() += 1);
            self.examples.values_mut().for_each(|known| known.twins[kind] = counts[&known.prints[kind]] > 1);
        }
    }

    /// The value of a field; what is not in the data any more has none.
    pub fn value(&self, id: &str, field: usize) -> &str {
        self.examples.get(id).and_then(|known| known.values.get(field)).map_or("", String::as_str)
    }

    /// Its caption.
    pub fn caption(&self, id: &str) -> &str {
        self.examples.get(id).map_or("", |known| known.caption.as_str())
    }

    /// What it has in common with others.
    pub fn twins(&self, id: &str) -> Vec<&'static str> {
        let twins = self.examples.get(id).map_or([false; TWINS.len()], |known| known.twins);
        TWINS.into_iter().zip(twins).filter(|(_, twin)| *twin).map(|(name, _)| name).collect()
    }
}

/// The pictures of some examples, by their ids.
pub(super) fn pictures(run: &RunPlan, wanted: &HashSet<&str>) -> Result<HashMap<String, GalleryItem>> {
    let mut found = HashMap::new();
    for batch in jest_data::read_all(&reading(run, SIDES[1])?, 256)? {
        let batch = batch?;
        for i in 0..batch.len() {
            let id = batch.ids[i].to_string();
            if wanted.contains(id.as_str()) {
                let (caption, rgb) = (batch.captions[i].clone(), batch.image_rgb(i).to_vec());
                let item = GalleryItem { id: id.clone(), caption, score: 0.0, rgb, side: SIDES[1] };
                found.insert(id, item);
            }
        }
    }
    Ok(found)
}

/// How the data of a run is looked through, with pictures of this side.
fn reading(run: &RunPlan, side: usize) -> Result<LoaderConfig> {
    // Nothing reads the ids of captions.
    let any = jest_data::train_tokenizer(["a"], 300)?;
    Ok(LoaderConfig::new(crate::assemble::sources(&run.data)?, Preprocess::siglip(side), Arc::new(any), 2))
}

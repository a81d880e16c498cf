//! The examples that a run chose from: captions, tags, duplicates, and the pictures of some.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use jest_data::{LoaderConfig, OtherCaption, Preprocess};

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
    /// By their ids with their first captions.
    pub examples: HashMap<String, Known>,
    /// Other captions by the ids that examples have with them, and the ids with the first.
    drawn: HashMap<String, (String, String)>,
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
        let mut data = jest_data::read_captions(&reading(run, SIDES[0])?, 1024)?;
        while let Some(batch) = data.next() {
            let batch = batch?;
            for i in 0..batch.len() {
                let values = fields.iter().map(|field| match field.as_str() {
                    "source" => batch.sources[i].to_string(),
                    field => tags::of(batch.json[i].as_deref(), &[field.to_string()]).join(", "),
                });
                pool.add(batch.ids[i].to_string(), &batch.captions[i], batch.image_rgb(i), values.collect());
            }
            data.take_captions().into_iter().for_each(|other| pool.add_caption(other));
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

    /// Adds another caption of an example.
    pub fn add_caption(&mut self, other: OtherCaption) {
        self.drawn.insert(other.id.to_string(), (other.first.to_string(), other.caption));
    }

    /// The id of an example with its first caption.
    pub fn first<'a>(&'a self, id: &'a str) -> &'a str {
        self.drawn.get(id).map_or(id, |(first, _)| first)
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
        self.examples.get(self.first(id)).and_then(|known| known.values.get(field)).map_or("", String::as_str)
    }

    /// Its caption, or the one that was drawn for it.
    pub fn caption(&self, id: &str) -> &str {
        let own = || self.examples.get(id).map_or("", |known| known.caption.as_str());
        self.drawn.get(id).map_or_else(own, |(_, caption)| caption)
    }

    /// What it has in common with others.
    pub fn twins(&self, id: &str) -> Vec<&'static str> {
        let twins = self.examples.get(self.first(id)).map_or([false; TWINS.len()], |known| known.twins);
        TWINS.into_iter().zip(twins).filter(|(_, twin)| *twin).map(|(name, _)| name).collect()
    }
}

/// The pictures of some examples, by their ids.
pub(super) fn pictures(run: &RunPlan, pool: &Pool, wanted: &HashSet<&str>) -> Result<HashMap<String, GalleryItem>> {
    let mut of: HashMap<&str, Vec<&str>> = HashMap::new();
    wanted.iter().for_each(|id| of.entry(pool.first(id)).or_default().push(id));
    let mut found = HashMap::new();
    for batch in jest_data::read_all(&reading(run, SIDES[1])?, 256)? {
        let batch = batch?;
        for i in 0..batch.len() {
            for id in of.remove(batch.ids[i].to_string().as_str()).into_iter().flatten() {
                let (id, caption, rgb) = (id.to_string(), pool.caption(id).to_string(), batch.image_rgb(i).to_vec());
                found.insert(id.clone(), GalleryItem { id, caption, score: 0.0, rgb, side: SIDES[1] });
            }
        }
    }
    Ok(found)
}

/// How the data of a run is looked through, with pictures of this side.
fn reading(run: &RunPlan, side: usize) -> Result<LoaderConfig> {
    // Nothing reads the ids of captions; which captions are blank, the run's own knows best.
    let any = || jest_data::train_tokenizer(["a"], 300);
    let tokenizer = crate::assemble::tokenizer(&run.text).or_else(|_| any())?;
    let sources = crate::assemble::sources(&run.data)?;
    let mut config = LoaderConfig::new(sources, Preprocess::siglip(side), Arc::new(tokenizer), 2);
    crate::assemble::choose(&mut config, &run.data)?;
    Ok(config)
}

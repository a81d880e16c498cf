//! Where tensors are read from, whatever the format: one file, several, or an archive.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::weights::{INDEX_FILE, WEIGHTS_FILE, read_text};
use crate::{Difference, Differences, ModelError, Result, TensorFile};

/// Longest index of a model that is in several files.
const MAX_INDEX_BYTES: u64 = 32 << 20;
const MAX_FILES: usize = 1000;

/// What kind of elements a tensor has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Elements {
    /// Real numbers that are f32, or become it exactly.
    Real,
    /// No weights: left out, for this reason.
    Ignored(&'static str),
    /// Anything else, by name.
    Other(String),
}

/// Name, shape and kind of one tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Name in the file.
    pub name: String,
    /// Sizes, slowest axis first.
    pub shape: Vec<usize>,
    /// What it holds.
    pub elements: Elements,
}

/// Tensors by name. Nothing in it is trusted: implementations check sizes against the bytes there are.
pub trait TensorSource: fmt::Debug {
    /// Where it lies, for messages.
    fn path(&self) -> &Path;

    /// All tensors, sorted by name.
    fn entries(&self) -> Vec<Entry>;

    /// Elements of a tensor of this shape.
    ///
    /// # Errors
    /// `Mismatch` when it is absent or has another shape or kind; `NotFinite` for NaN or an infinity; `Io`.
    fn read_f32(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>>;

    /// How the tensors differ from these.
    fn differences(&self, expected: &[(&str, &[usize])]) -> Differences {
        let entries: BTreeMap<String, Entry> =
            self.entries().into_iter().map(|entry| (entry.name.clone(), entry)).collect();
        let mut differences: Vec<Difference> =
            expected.iter().filter_map(|(name, shape)| difference(entries.get(*name), name, shape)).collect();
        let known: HashSet<&str> = expected.iter().map(|(name, _)| *name).collect();
        for entry in entries.values() {
            if !known.contains(entry.name.as_str()) && !matches!(entry.elements, Elements::Ignored(_)) {
                differences.push(Difference::Unexpected { name: entry.name.clone(), found: entry.shape.clone() });
            }
        }
        Differences(differences)
    }
}

/// How one tensor differs from what is expected.
pub(crate) fn difference(found: Option<&Entry>, name: &str, expected: &[usize]) -> Option<Difference> {
    let (name, expected) = (name.to_string(), expected.to_vec());
    match found {
        None => Some(Difference::Missing { name, expected }),
        Some(entry) if entry.shape != expected => {
            Some(Difference::Shape { name, expected, found: entry.shape.clone() })
        }
        Some(entry) => match &entry.elements {
            Elements::Real => None,
            Elements::Ignored(what) => Some(Difference::DType { name, found: (*what).to_string() }),
            Elements::Other(found) => Some(Difference::DType { name, found: found.clone() }),
        },
    }
}

/// Opens the weights in a model's folder: `model.safetensors`, else the files that `model.safetensors.index.json` names.
///
/// # Errors
/// As [`TensorFile::open`]; `Index` for an index that names files elsewhere, or tensors that its files do not hold.
pub fn open_weights(folder: &Path) -> Result<Box<dyn TensorSource>> {
    let (whole, index) = (folder.join(WEIGHTS_FILE), folder.join(INDEX_FILE));
    if whole.exists() || !index.exists() {
        return Ok(Box::new(TensorFile::open(&whole)?));
    }
    Ok(Box::new(Shards::open(folder, index)?))
}

/// A model in several safetensors files.
#[derive(Debug)]
struct Shards {
    path: PathBuf,
    files: Vec<TensorFile>,
    /// Which file has a tensor.
    place: BTreeMap<String, usize>,
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl Shards {
    fn open(folder: &Path, path: PathBuf) -> Result<Self> {
        let text = read_text(&path, MAX_INDEX_BYTES)?;
        let json = |source| ModelError::Json { path: path.clone(), source };
        let Index { weight_map } = serde_json::from_str(&text).map_err(json)?;
        let refuse = |what: String| ModelError::Index { path: path.clone(), what };
        let mut names: Vec<&String> = weight_map.values().collect();
        names.sort();
        names.dedup();
        if names.len() > MAX_FILES {
            return Err(refuse(format!("names {} files, over the limit of {MAX_FILES}", names.len())));
        }
        let (mut files, mut place) = (Vec::new(), BTreeMap::new());
        for (at, name) in names.iter().enumerate() {
            let plain = Path::new(name.as_str()).file_name().is_some_and(|file| file == name.as_str());
            if !plain || !name.ends_with(".safetensors") {
                return Err(refuse(format!("names {name:?}; a shard is a .safetensors file beside it")));
            }
            let file = TensorFile::open(&folder.join(name.as_str()))?;
            for tensor in file.names() {
                if weight_map.get(tensor) != Some(*name) {
                    return Err(refuse(format!("does not say that {tensor} is in {name}")));
                }
                place.insert(tensor.to_string(), at);
            }
            files.push(file);
        }
        match weight_map.iter().find(|(tensor, _)| !place.contains_key(*tensor)) {
            Some((tensor, name)) => Err(refuse(format!("looks for {tensor} in {name}, which does not hold it"))),
            None => Ok(Self { path, files, place }),
        }
    }
}

impl TensorSource for Shards {
    fn path(&self) -> &Path {
        &self.path
    }

    fn entries(&self) -> Vec<Entry> {
        let mut all: Vec<Entry> = self.files.iter().flat_map(TensorSource::entries).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    fn read_f32(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let at = self.place.get(name).copied().unwrap_or_default();
        match self.files.get_mut(at) {
            Some(file) => file.read_f32(name, shape),
            None => {
                let differences = Differences(difference(None, name, shape).into_iter().collect());
                Err(ModelError::Mismatch { path: self.path.clone(), differences })
            }
        }
    }
}

//! One file of the cache: ids and two tables of rows, with a checksum over all three.

use super::key::{CacheKey, write_new};
use crate::{DataError, ExampleId, Result};
use half::f16;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use std::collections::HashMap;
use std::path::Path;

/// How rows lie on disk. In memory they are f32 always.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// As they were computed.
    #[default]
    F32,
    /// Half the size; a value of a unit row is off by 2^-12 at most.
    F16,
}

impl Precision {
    /// Bytes of a value.
    pub(super) fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 => 2,
        }
    }

    /// The value that is read back.
    pub(super) fn round(self, value: f32) -> f32 {
        match self {
            Self::F32 => value,
            Self::F16 => f16::from_f32(value).to_f32(),
        }
    }

    fn dtype(self) -> Dtype {
        match self {
            Self::F32 => Dtype::F32,
            Self::F16 => Dtype::F16,
        }
    }

    /// Little-endian bytes of the values, as safetensors stores them.
    fn to_bytes(self, values: &[f32]) -> Vec<u8> {
        match self {
            Self::F32 => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            Self::F16 => values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect(),
        }
    }
}

/// Rows of embeddings in memory.
#[derive(Default)]
pub(super) struct Part {
    pub ids: Vec<ExampleId>,
    /// `[n, d]`
    pub image: Vec<f32>,
    /// `[n, d]`
    pub text: Vec<f32>,
    /// What computing them took; 0 where the file does not say.
    pub seconds: f64,
}

fn checksum(tables: [&[u8]; 3]) -> String {
    let mut hash = blake3::Hasher::new();
    for table in tables {
        hash.update(&(table.len() as u64).to_le_bytes()).update(table);
    }
    hash.finalize().to_hex().to_string()
}

/// Of the seconds of the tables with this checksum.
fn checksum_of_seconds(sum: &str, seconds: &str) -> String {
    blake3::hash(format!("{sum} {seconds}").as_bytes()).to_hex().to_string()
}

impl Part {
    /// Writes the rows under this name, unless there is a file of that name: then false.
    pub fn write(&self, path: &Path, key: &CacheKey, precision: Precision) -> Result<bool> {
        let problem =
            |e: safetensors::SafeTensorError| DataError::Cache { path: path.to_path_buf(), problem: e.to_string() };
        let ids: Vec<u8> = self.ids.iter().flat_map(|id| *id.as_bytes()).collect();
        let (image, text) = (precision.to_bytes(&self.image), precision.to_bytes(&self.text));
        let seconds = self.seconds.to_string();
        let sum = checksum([&ids, &image, &text]);
        let timed = checksum_of_seconds(&sum, &seconds);
        let n = self.ids.len();
        let view = |dtype, width, bytes| TensorView::new(dtype, vec![n, width], bytes).map_err(problem);
        let tensors = [
            ("ids", view(Dtype::U8, 16, &ids)?),
            ("image", view(precision.dtype(), key.dim, &image)?),
            ("text", view(precision.dtype(), key.dim, &text)?),
        ];
        let format = "pt".to_string();
        let words = [
            ("format", format),
            ("blake3", sum),
            ("key", key.print()),
            ("seconds", seconds),
            ("seconds_blake3", timed),
        ];
        let metadata = HashMap::from(words.map(|(name, value)| (name.to_string(), value)));
        write_new(path, &safetensors::serialize(tensors, Some(metadata)).map_err(problem)?)
    }

    /// Reads a part; refuses it if a byte of its tables differs from what was written, or if it says that it was written
    /// for another key.
    pub fn read(path: &Path, key: &CacheKey) -> Result<Part> {
        let bytes = std::fs::read(path).map_err(DataError::io("read", path))?;
        let problem = |what: &str| {
            let problem = format!("{what}; delete this file, its rows will be computed again");
            DataError::Cache { path: path.to_path_buf(), problem }
        };
        let library = |e: safetensors::SafeTensorError| problem(&e.to_string());
        let (_, metadata) = SafeTensors::read_metadata(&bytes).map_err(library)?;
        let tensors = SafeTensors::deserialize(&bytes).map_err(library)?;
        let word = |name| metadata.metadata().as_ref().and_then(|words| words.get(name)).map(String::as_str);
        if word("key").is_some_and(|print| print != key.print()) {
            return Err(problem("was written for another key than that in key.json"));
        }
        let table = |name, dtypes: &[Dtype], width| {
            let view = tensors.tensor(name).map_err(library)?;
            let fits = dtypes.contains(&view.dtype()) && view.shape().len() == 2 && view.shape()[1] == width;
            if fits { Ok(view) } else { Err(problem(&format!("tensor `{name}` is not [n, {width}] {dtypes:?}"))) }
        };
        let ids = table("ids", &[Dtype::U8], 16)?;
        let floating = [Dtype::F32, Dtype::F16];
        let (image, text) = (table("image", &floating, key.dim)?, table("text", &floating, key.dim)?);
        if image.shape()[0] != ids.shape()[0] || text.shape()[0] != ids.shape()[0] {
            return Err(problem("the tables have different numbers of rows"));
        }
        let sum = checksum([ids.data(), image.data(), text.data()]);
        let timed = |seconds| word("seconds_blake3") == Some(&checksum_of_seconds(&sum, seconds));
        if word("blake3") != Some(&sum) || word("seconds").is_some_and(|seconds| !timed(seconds)) {
            return Err(problem("the checksum does not agree"));
        }
        let seconds = word("seconds").map_or(Ok(0.0), str::parse).map_err(|_| problem("its seconds are no number"))?;
        let floats = |view: &TensorView| -> Vec<f32> {
            match view.dtype() {
                Dtype::F16 => view.data().as_chunks().0.iter().map(|b| f16::from_le_bytes(*b).to_f32()).collect(),
                _ => view.data().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
            }
        };
        let ids = ids.data().as_chunks().0.iter().map(|bytes| ExampleId::from_bytes(*bytes)).collect();
        Ok(Part { ids, image: floats(&image), text: floats(&text), seconds })
    }
}

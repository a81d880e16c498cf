//! safetensors files: written in one fixed byte order, read without trusting them.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};

use crate::source::{Elements, Entry, TensorSource, difference};
use crate::{Difference, Differences, ModelError, NamedTensor, Result};

const MAX_HEADER_BYTES: u64 = 32 << 20;
const MAX_TENSORS: usize = 100_000;
const MAX_NAME_BYTES: usize = 512;

/// A safetensors file whose header has been checked; tensors are read one at a time, f16 and bfloat16 as f32.
#[derive(Debug)]
pub struct TensorFile {
    path: PathBuf,
    file: File,
    data_start: u64,
    tensors: BTreeMap<String, TensorInfo>,
    metadata: BTreeMap<String, String>,
}

impl TensorFile {
    /// Opens a file and checks that its header is sound: length, JSON, names that occur once, tensors that fill the
    /// file without overlap or hole and have the bytes that their shapes ask for.
    ///
    /// # Errors
    /// `Io`, `HeaderLength`, `FileLength`, `Json`, `DuplicateTensor` or `TooMany`.
    pub fn open(path: &Path) -> Result<Self> {
        let io = |source| ModelError::Io { action: "read", path: path.to_path_buf(), source };
        let mut file = File::open(path).map_err(io)?;
        let found = file.metadata().map_err(io)?.len();
        let length_error = |expected| ModelError::FileLength { path: path.to_path_buf(), expected, found };
        if found < 8 {
            return Err(length_error(8));
        }
        let mut word = [0; 8];
        file.read_exact(&mut word).map_err(io)?;
        let got = u64::from_le_bytes(word);
        if got > MAX_HEADER_BYTES {
            return Err(ModelError::HeaderLength { path: path.to_path_buf(), got, limit: MAX_HEADER_BYTES });
        }
        let data_start = 8 + got;
        if found < data_start {
            return Err(length_error(data_start));
        }
        let mut header = vec![0; got as usize];
        file.read_exact(&mut header).map_err(io)?;
        let parsed = parse(path, &header)?;
        let expected = data_start + parsed.data_len() as u64;
        if found != expected {
            return Err(length_error(expected));
        }
        let tensors = parsed.tensors().into_iter().map(|(name, info)| (name, info.clone())).collect();
        let metadata = parsed.metadata().iter().flatten().map(|(key, value)| (key.clone(), value.clone())).collect();
        Ok(Self { path: path.to_path_buf(), file, data_start, tensors, metadata })
    }

    /// Names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Shape of a tensor, if the file holds it.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors.get(name).map(|info| info.shape.as_slice())
    }

    /// Texts that were stored with the tensors.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }
}

impl TensorFile {
    /// An f32 tensor with the shape that the file gives it.
    ///
    /// # Errors
    /// As [`TensorFile::read_f32`].
    pub fn tensor(&mut self, name: &str) -> Result<NamedTensor> {
        let shape = self.shape(name).unwrap_or_default().to_vec();
        Ok(NamedTensor { name: name.to_string(), values: self.read_f32(name, &shape)?, shape })
    }

    /// Shape and elements of a 64-bit integer tensor of ids or indices, none below 0 or over 32 bits.
    ///
    /// # Errors
    /// `Mismatch` when it is absent or of another type; `NotAnIndex`; `Io`.
    pub fn indices(&mut self, name: &str) -> Result<(Vec<usize>, Vec<u32>)> {
        let difference = match self.tensors.get(name) {
            None => Difference::Missing { name: name.to_string(), expected: Vec::new() },
            Some(info) if info.dtype == Dtype::I64 => {
                let (shape, bytes) = (info.shape.clone(), self.bytes(name)?);
                let values = bytes.as_chunks::<8>().0.iter().enumerate().map(|(index, word)| {
                    let value = i64::from_le_bytes(*word);
                    u32::try_from(value).map_err(|_| self.not_an_index(name, index, value))
                });
                return Ok((shape, values.collect::<Result<_>>()?));
            }
            Some(info) => Difference::DType { name: name.to_string(), found: format!("{:?}", info.dtype) },
        };
        Err(ModelError::Mismatch { path: self.path.clone(), differences: Differences(vec![difference]) })
    }

    fn entry(name: &str, info: &TensorInfo) -> Entry {
        let elements = match info.dtype {
            Dtype::F32 | Dtype::F16 | Dtype::BF16 => Elements::Real,
            // Old files of Hugging Face's libraries hold them.
            Dtype::I64 if name.ends_with(".position_ids") => {
                Elements::Ignored("numbers of positions, always 0, 1, 2, ..")
            }
            other => Elements::Other(format!("{other:?}")),
        };
        Entry { name: name.to_string(), shape: info.shape.clone(), elements }
    }

    fn not_an_index(&self, name: &str, index: usize, value: i64) -> ModelError {
        ModelError::NotAnIndex { path: self.path.clone(), name: name.to_string(), index, value }
    }

    /// Bytes of a tensor that is there.
    fn bytes(&mut self, name: &str) -> Result<Vec<u8>> {
        let (start, end) = self.tensors[name].data_offsets;
        let mut bytes = vec![0; end - start];
        let io = |source| ModelError::Io { action: "read", path: self.path.clone(), source };
        self.file.seek(SeekFrom::Start(self.data_start + start as u64)).map_err(io)?;
        self.file.read_exact(&mut bytes).map_err(io)?;
        Ok(bytes)
    }
}

impl TensorSource for TensorFile {
    fn path(&self) -> &Path {
        &self.path
    }

    fn entries(&self) -> Vec<Entry> {
        self.tensors.iter().map(|(name, info)| Self::entry(name, info)).collect()
    }

    fn read_f32(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let entry = self.tensors.get(name).map(|info| Self::entry(name, info));
        if let Some(difference) = difference(entry.as_ref(), name, shape) {
            return Err(ModelError::Mismatch { path: self.path.clone(), differences: Differences(vec![difference]) });
        }
        let bytes = self.bytes(name)?;
        let values = match self.tensors[name].dtype {
            Dtype::F16 => f16s(&bytes),
            Dtype::BF16 => bf16s(&bytes),
            _ => f32s(&bytes),
        };
        all_finite(&self.path, name, values)
    }
}

fn parse(path: &Path, header: &[u8]) -> Result<Metadata> {
    let json = |source| ModelError::Json { path: path.to_path_buf(), source };
    let Keys(keys) = serde_json::from_slice(header).map_err(json)?;
    let too_many = |what, got, limit| Err(ModelError::TooMany { path: path.to_path_buf(), what, got, limit });
    if keys.len() > MAX_TENSORS {
        return too_many("tensors", keys.len(), MAX_TENSORS);
    }
    let mut seen = HashSet::new();
    for name in &keys {
        if name.len() > MAX_NAME_BYTES {
            return too_many("bytes in the name of a tensor", name.len(), MAX_NAME_BYTES);
        }
        if !seen.insert(name) {
            return Err(ModelError::DuplicateTensor { path: path.to_path_buf(), name: name.clone() });
        }
    }
    serde_json::from_slice(header).map_err(json)
}

/// The keys of a JSON object as written, repetitions included.
struct Keys(Vec<String>);

impl<'de> Deserialize<'de> for Keys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Keys;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Keys, A::Error> {
                let mut keys = Vec::new();
                while let Some((key, IgnoredAny)) = map.next_entry()? {
                    keys.push(key);
                }
                Ok(Keys(keys))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

/// Writes f32 tensors in the order given; `values` is asked for the elements of each, by index.
///
/// The header is padded to 8 bytes and carries `format = pt`, which other readers insist on, beside `metadata`.
/// The same tensors give the same bytes.
///
/// # Errors
/// `Io` when `out` refuses (`path` is for its message only), or what `values` reports.
pub fn write(
    out: &mut dyn Write,
    path: &Path,
    metadata: &BTreeMap<String, String>,
    tensors: &[(String, Vec<usize>)],
    mut values: impl FnMut(usize) -> Result<Vec<f32>>,
) -> Result<()> {
    let io = |source| ModelError::Io { action: "write", path: path.to_path_buf(), source };
    let json = |source| ModelError::Json { path: path.to_path_buf(), source };
    let mut texts = metadata.clone();
    texts.insert("format".to_string(), "pt".to_string());
    let mut header = format!("{{\"__metadata__\":{}", serde_json::to_string(&texts).map_err(json)?);
    let mut start = 0;
    for (name, shape) in tensors {
        let end = start + 4 * shape.iter().product::<usize>();
        let info = TensorInfo { dtype: Dtype::F32, shape: shape.clone(), data_offsets: (start, end) };
        let (name, info) = (serde_json::to_string(name), serde_json::to_string(&info));
        header += &format!(",{}:{}", name.map_err(json)?, info.map_err(json)?);
        start = end;
    }
    header.push('}');
    header += &" ".repeat(header.len().next_multiple_of(8) - header.len());
    out.write_all(&(header.len() as u64).to_le_bytes()).map_err(io)?;
    out.write_all(header.as_bytes()).map_err(io)?;
    for (index, (_, shape)) in tensors.iter().enumerate() {
        let values = values(index)?;
        if values.len() != shape.iter().product::<usize>() {
            let (expected, got) = (shape.clone(), vec![values.len()]);
            return Err(ModelError::Input { what: "tensor to be written", expected, got });
        }
        out.write_all(&little_endian(&values)).map_err(io)?;
    }
    out.flush().map_err(io)
}

/// The values, or `NotFinite` for NaN or an infinity.
pub(crate) fn all_finite(path: &Path, name: &str, values: Vec<f32>) -> Result<Vec<f32>> {
    match values.iter().position(|value| !value.is_finite()) {
        None => Ok(values),
        Some(index) => {
            let (path, name, value) = (path.to_path_buf(), name.to_string(), values[index]);
            Err(ModelError::NotFinite { path, name, index, value })
        }
    }
}

/// Little-endian f32.
pub(crate) fn f32s(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|word| f32::from_le_bytes(*word)).collect()
}

/// Little-endian f16, which f32 holds exactly.
pub(crate) fn f16s(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<2>().0.iter().map(|word| half::f16::from_le_bytes(*word).to_f32()).collect()
}

/// Little-endian bfloat16, which f32 holds exactly.
pub(crate) fn bf16s(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<2>().0.iter().map(|word| half::bf16::from_le_bytes(*word).to_f32()).collect()
}

/// The bytes of a file that holds these elements.
pub(crate) fn little_endian(values: &[f32]) -> Cow<'_, [u8]> {
    if cfg!(target_endian = "little") {
        return Cow::Borrowed(bytemuck::cast_slice(values));
    }
    Cow::Owned(values.iter().flat_map(|value| value.to_le_bytes()).collect())
}

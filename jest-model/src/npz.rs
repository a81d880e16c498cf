//! numpy's `.npz` archives, a zip of arrays, read without trusting them.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::DeflateDecoder;
use rawzip::{CompressionMethod, FileReader, RECOMMENDED_BUFFER_SIZE, ZipArchive, ZipArchiveEntryWayfinder};

use crate::layout::ignored_by_big_vision;
use crate::source::{Elements, Entry, TensorSource, difference};
use crate::stored::Order;
use crate::tensor_file::{all_finite, bf16s, f16s, f32s};
use crate::{Differences, ModelError, Result};

const MAX_MEMBERS: usize = 100_000;
const MAX_NAME_BYTES: usize = 512;
const MAX_HEADER_BYTES: usize = 64 << 10;
const MAGIC: &[u8] = b"\x93NUMPY";
/// Deflate makes at most so many bytes of one.
const MAX_EXPANSION: u64 = 1032;

/// How an array's elements are stored, all little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    F32,
    F16,
    /// Two bytes without a name in numpy: JAX writes bfloat16 so.
    Bf16,
    Other,
}

impl Kind {
    fn of(descr: &str) -> Self {
        match descr {
            "<f4" => Self::F32,
            "<f2" => Self::F16,
            "|V2" => Self::Bf16,
            _ => Self::Other,
        }
    }

    fn bytes(self) -> Option<u64> {
        match self {
            Self::F32 => Some(4),
            Self::F16 | Self::Bf16 => Some(2),
            Self::Other => None,
        }
    }
}

/// One array of the archive.
#[derive(Debug)]
struct Member {
    place: Place,
    /// Bytes before the elements.
    start: u64,
    kind: Kind,
    /// Whether the first axis is the fastest.
    fortran: bool,
    entry: Entry,
}

/// Where an array lies in the archive.
#[derive(Clone, Copy, Debug)]
struct Place {
    at: ZipArchiveEntryWayfinder,
    method: CompressionMethod,
    /// Bytes, unpacked.
    size: u64,
}

/// An archive whose arrays' headers have been checked.
#[derive(Debug)]
pub(crate) struct Npz {
    path: PathBuf,
    archive: ZipArchive<FileReader>,
    members: Vec<Member>,
}

impl Npz {
    /// Opens an archive and reads the header of every array.
    ///
    /// # Errors
    /// `Io`; `Archive` for what is no sound archive of arrays; `TooMany`; `DuplicateTensor`.
    pub fn open(path: &Path) -> Result<Self> {
        let io = |source| ModelError::Io { action: "read", path: path.to_path_buf(), source };
        let refuse = |what: String| ModelError::Archive { path: path.to_path_buf(), what };
        let broken = |error: rawzip::Error| refuse(format!("is no sound .npz archive: {error}; copy it again"));
        let file = File::open(path).map_err(io)?;
        let most = file.metadata().map_err(io)?.len().saturating_mul(MAX_EXPANSION);
        let mut buffer = vec![0; RECOMMENDED_BUFFER_SIZE];
        let archive = ZipArchive::from_file(file, &mut buffer).map_err(broken)?;
        let (mut places, mut total) = (Vec::new(), 0u64);
        let mut entries = archive.entries(&mut buffer);
        while let Some(entry) = entries.next_entry().map_err(broken)? {
            let (name, size) =
                (String::from_utf8_lossy(entry.file_path().as_bytes()).into_owned(), entry.uncompressed_size_hint());
            for (what, got, limit) in [
                ("arrays", places.len() + 1, MAX_MEMBERS),
                ("bytes in the name of an array", name.len(), MAX_NAME_BYTES),
            ] {
                if got > limit {
                    return Err(ModelError::TooMany { path: path.to_path_buf(), what, got, limit });
                }
            }
            total = total.saturating_add(size);
            places.push((name, Place { at: entry.wayfinder(), method: entry.compression_method(), size }));
        }
        if total > most {
            return Err(refuse(format!(
                "claims arrays of {total} bytes, more than it can hold: damaged, copy it again"
            )));
        }
        let member = |(name, place): (String, Place)| {
            let name = name.strip_suffix(".npy").map_or(name.clone(), str::to_string);
            member(&archive, place, &name).map_err(|what| refuse(format!("holds {name}, which {what}")))
        };
        let mut members = places.into_iter().map(member).collect::<Result<Vec<_>>>()?;
        members.sort_by(|a, b| a.entry.name.cmp(&b.entry.name));
        if let Some(pair) = members.windows(2).find(|pair| pair[0].entry.name == pair[1].entry.name) {
            return Err(ModelError::DuplicateTensor { path: path.to_path_buf(), name: pair[0].entry.name.clone() });
        }
        Ok(Self { path: path.to_path_buf(), archive, members })
    }
}

/// The bytes of an array's file, unpacked; its checksum is checked where they end.
fn unpacked(archive: &ZipArchive<FileReader>, place: Place) -> Result<Box<dyn Read + '_>, String> {
    let entry = archive.get_entry(place.at).map_err(|error| error.to_string())?;
    let packed = entry.reader();
    match place.method {
        CompressionMethod::STORE => Ok(Box::new(entry.verifying_reader(packed))),
        CompressionMethod::DEFLATE => Ok(Box::new(entry.verifying_reader(DeflateDecoder::new(packed)))),
        other => Err(format!("is packed by {other:?}; write it with numpy's savez or savez_compressed")),
    }
}

/// Reads the header of one array; every size is held against the bytes there are.
fn member(archive: &ZipArchive<FileReader>, place: Place, name: &str) -> Result<Member, String> {
    let (start, header) = header(&mut unpacked(archive, place)?)?;
    let Header { descr, fortran, shape } =
        Header::parse(&header).ok_or_else(|| format!("has a header that is not numpy's: {header:.80}"))?;
    let kind = Kind::of(&descr);
    if let Some(bytes) = kind.bytes() {
        let count = shape.iter().try_fold(1u64, |count, size| count.checked_mul(*size as u64));
        let expected = count.and_then(|count| count.checked_mul(bytes)).and_then(|bytes| bytes.checked_add(start));
        if expected != Some(place.size) {
            let size = place.size;
            return Err(format!("claims the shape {shape:?} in {size} bytes, which cannot be: damaged, copy it again"));
        }
    }
    let elements = match (ignored_by_big_vision(name), kind) {
        (Some(why), _) => Elements::Ignored(why),
        (None, Kind::Other) => Elements::Other(descr),
        (None, _) => Elements::Real,
    };
    Ok(Member { place, start, kind, fortran, entry: Entry { name: name.to_string(), shape, elements } })
}

/// Length of everything before the elements, and the text of the header.
fn header(file: &mut impl Read) -> Result<(u64, String), String> {
    let cut = |error: std::io::Error| format!("is cut short: {error}");
    let mut head = [0; 8];
    file.read_exact(&mut head).map_err(cut)?;
    if &head[..6] != MAGIC {
        return Err("is no array".to_string());
    }
    let (words, length) = if head[6] == 1 {
        let mut word = [0; 2];
        file.read_exact(&mut word).map_err(cut)?;
        (2, usize::from(u16::from_le_bytes(word)))
    } else {
        let mut word = [0; 4];
        file.read_exact(&mut word).map_err(cut)?;
        (4, u32::from_le_bytes(word) as usize)
    };
    if length > MAX_HEADER_BYTES {
        return Err(format!("claims a header of {length} bytes, over the limit of {MAX_HEADER_BYTES}"));
    }
    let mut text = vec![0; length];
    file.read_exact(&mut text).map_err(cut)?;
    Ok((8 + words + length as u64, String::from_utf8_lossy(&text).into_owned()))
}

/// `{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }`
#[derive(Debug, PartialEq)]
struct Header {
    descr: String,
    fortran: bool,
    shape: Vec<usize>,
}

impl Header {
    fn parse(text: &str) -> Option<Self> {
        let inner = text.trim().strip_prefix('{')?.strip_suffix('}')?;
        let after = |key: &str| Some(inner.split_once(&format!("'{key}':"))?.1.trim_start());
        let descr = after("descr")?;
        // A list of fields is kept as it stands; it is no kind that is read.
        let descr = descr.strip_prefix('\'').map_or(Some("a structure"), |rest| Some(rest.split_once('\'')?.0))?;
        let fortran = after("fortran_order")?;
        let fortran = if fortran.starts_with("False") { false } else { fortran.starts_with("True").then_some(true)? };
        let (sizes, _) = after("shape")?.strip_prefix('(')?.split_once(')')?;
        let sizes = sizes.split(',').map(str::trim).filter(|size| !size.is_empty());
        let shape = sizes.map(|size| size.parse().ok()).collect::<Option<Vec<usize>>>()?;
        Some(Self { descr: descr.to_string(), fortran, shape })
    }
}

impl TensorSource for Npz {
    fn path(&self) -> &Path {
        &self.path
    }

    fn entries(&self) -> Vec<Entry> {
        self.members.iter().map(|member| member.entry.clone()).collect()
    }

    fn read_f32(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let found = self.members.binary_search_by(|member| member.entry.name.as_str().cmp(name)).ok();
        let member = found.map(|at| &self.members[at]);
        let wrong = difference(member.map(|member| &member.entry), name, shape);
        let (Some(member), None) = (member, &wrong) else {
            let differences = Differences(wrong.into_iter().collect());
            return Err(ModelError::Mismatch { path: self.path.clone(), differences });
        };
        let refuse = |error: &dyn std::fmt::Display| ModelError::Archive {
            path: self.path.clone(),
            what: format!("holds {name}, which is damaged: {error}; copy it again"),
        };
        let mut bytes = Vec::new();
        // One more than there should be: the end is where the checksum is checked.
        let file = unpacked(&self.archive, member.place).map_err(|error| refuse(&error))?;
        file.take(member.place.size + 1).read_to_end(&mut bytes).map_err(|error| refuse(&error))?;
        let bytes = bytes.get(member.start as usize..).unwrap_or_default();
        let values = match member.kind {
            Kind::F16 => f16s(bytes),
            Kind::Bf16 => bf16s(bytes),
            Kind::F32 | Kind::Other => f32s(bytes),
        };
        if values.len() != shape.iter().product::<usize>() {
            return Err(refuse(&"it ends early"));
        }
        let values = if member.fortran { row_by_row(&values, shape) } else { values };
        all_finite(&self.path, name, values)
    }
}

/// Elements whose first axis is the fastest, with the last axis as the fastest.
fn row_by_row(values: &[f32], shape: &[usize]) -> Vec<f32> {
    let mut rows = vec![0.0; values.len()];
    Order::Permuted { shape: shape.to_vec(), axes: (0..shape.len()).rev().collect() }.to_param(values, &mut rows);
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fortrans_order_is_turned() {
        assert_eq!(row_by_row(&[0.0, 3.0, 1.0, 4.0, 2.0, 5.0], &[2, 3]), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    }

    #[test]
    fn headers_are_read_as_numpy_writes_them() {
        let parsed = |text| Header::parse(text).map(|header| (header.descr, header.fortran, header.shape));
        let plain = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }          \n";
        assert_eq!(parsed(plain), Some(("<f4".to_string(), false, vec![2, 3])));
        let number = "{'descr': '|V2', 'fortran_order': True, 'shape': (), }";
        assert_eq!(parsed(number), Some(("|V2".to_string(), true, vec![])));
        assert_eq!(parsed("{'descr': '<f4', 'fortran_order': False, 'shape': (7,), }").unwrap().2, [7]);
        let fields = "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }";
        assert_eq!(parsed(fields).unwrap().0, "a structure");
        for broken in [
            "",
            "{}",
            "{'descr': '<f4', 'shape': (1,), }",
            "{'descr': '<f4', 'fortran_order': Maybe, 'shape': (1,)}",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,)}",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (1,",
        ] {
            assert_eq!(parsed(broken), None, "{broken}");
        }
    }
}

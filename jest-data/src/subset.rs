//! DataComp's subset files: which examples of a data set are used, without writing its shards anew.

use crate::{DataError, ExampleId, Result};
use serde::Deserialize;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Bytes of one entry: the first and the last 16 hexadecimal digits of a uid as two little-endian integers.
const ENTRY: u64 = 16;
/// Entries between two that are kept in memory.
const PAGE: u64 = 256;
/// A longer header is none.
const MAX_HEADER: usize = 64 << 10;
const REMEDY: &str =
    "a subset file is what `np.save(FILE, np.sort(np.array(pairs, np.dtype(\"u8,u8\"))))` writes, little-endian";

/// The uids of a subset file. The file stays on disk; memory holds one uid in 256.
#[derive(Debug)]
pub struct Subset {
    path: PathBuf,
    file: Mutex<File>,
    /// Byte offset of the first entry.
    start: u64,
    len: u64,
    /// The first uid of every page.
    index: Vec<u128>,
    hash: String,
}

impl Subset {
    /// Opens a numpy file of one dimension and dtype `u8,u8`, sorted, and reads it through once.
    ///
    /// # Errors
    /// `Io` if it cannot be read; `Table` for another dtype or shape, entries out of order, and a file that is cut short.
    pub fn open(path: &Path) -> Result<Subset> {
        let problem = |problem: String| DataError::Table { path: path.to_path_buf(), problem };
        let file = File::open(path).map_err(DataError::io("read", path))?;
        let size = file.metadata().map_err(DataError::io("read", path))?.len();
        let mut input = BufReader::with_capacity(1 << 20, file);
        let (start, len) = header(&mut input).map_err(DataError::io("read", path))?.map_err(problem)?;
        if len.checked_mul(ENTRY).and_then(|bytes| bytes.checked_add(start)) != Some(size) {
            return Err(problem(format!(
                "{size} bytes do not hold {len} entries behind a header of {start}; it is cut or has a tail"
            )));
        }
        let (mut hash, mut index, mut last) = (blake3::Hasher::new(), Vec::new(), 0u128);
        for i in 0..len {
            let mut entry = [0; ENTRY as usize];
            input.read_exact(&mut entry).map_err(DataError::io("read", path))?;
            hash.update(&entry);
            let uid = uid_of(&entry);
            if uid < last {
                let text =
                    format!("entry {i} ({uid:032x}) is smaller than the one before ({last:032x}); sort it: {REMEDY}");
                return Err(problem(text));
            }
            if i.is_multiple_of(PAGE) {
                index.push(uid);
            }
            last = uid;
        }
        let hash = hash.finalize().to_hex()[..16].to_string();
        Ok(Subset { path: path.to_path_buf(), file: Mutex::new(input.into_inner()), start, len, index, hash })
    }

    /// How many uids it has, repeated ones counted.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A hash of its uids.
    pub(crate) fn hash(&self) -> &str {
        &self.hash
    }

    /// Whether an example belongs: by `uid` in its JSON, or by its id.
    pub(crate) fn holds(&self, json: Option<&[u8]>, id: ExampleId) -> io::Result<bool> {
        #[derive(Deserialize)]
        struct Meta {
            uid: Option<String>,
        }
        let meta = json.and_then(|json| serde_json::from_slice::<Meta>(json).ok());
        let uid = meta.and_then(|meta| meta.uid?.parse::<ExampleId>().ok());
        Ok(uid.map_or(Ok(false), |uid| self.contains(uid))? || self.contains(id)?)
    }

    /// Whether it has a uid: one search in memory, one page read.
    ///
    /// # Errors
    /// The system's, if the file cannot be read any more.
    pub fn contains(&self, uid: ExampleId) -> io::Result<bool> {
        let uid = u128::from_be_bytes(*uid.as_bytes());
        let after = self.index.partition_point(|first| *first <= uid) as u64;
        let Some(page) = after.checked_sub(1) else { return Ok(false) };
        let first = page * PAGE;
        let mut bytes = vec![0; ((self.len - first).min(PAGE) * ENTRY) as usize];
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(self.start + first * ENTRY))?;
        file.read_exact(&mut bytes)?;
        drop(file);
        let (entries, _) = bytes.as_chunks::<{ ENTRY as usize }>();
        Ok(entries.binary_search_by_key(&uid, uid_of).is_ok())
    }

    /// Writes a subset file of these uids, sorted, each once; how many they are.
    ///
    /// # Errors
    /// `Io` if it cannot be written.
    pub fn write(path: &Path, uids: impl IntoIterator<Item = ExampleId>) -> Result<u64> {
        let mut uids: Vec<ExampleId> = uids.into_iter().collect();
        uids.sort_unstable();
        uids.dedup();
        let dictionary = format!(
            "{{'descr': [('f0', '<u8'), ('f1', '<u8')], 'fortran_order': False, 'shape': ({},), }}",
            uids.len()
        );
        // numpy pads with spaces to a multiple of 64, the line end included.
        let padded = (10 + dictionary.len() + 1).next_multiple_of(64) - 10;
        let header = format!("{dictionary:<width$}\n", width = padded - 1);
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let write = || -> io::Result<()> {
            let mut file = tempfile::NamedTempFile::new_in(folder)?;
            let mut out = io::BufWriter::new(file.as_file_mut());
            out.write_all(b"\x93NUMPY\x01\x00")?;
            out.write_all(&(padded as u16).to_le_bytes())?;
            out.write_all(header.as_bytes())?;
            for uid in &uids {
                let (first, last) = uid.as_bytes().split_at(8);
                out.write_all(&first.iter().rev().chain(last.iter().rev()).copied().collect::<Vec<u8>>())?;
            }
            out.flush()?;
            drop(out);
            file.as_file().sync_all()?;
            file.persist(path)?;
            Ok(())
        };
        write().map_err(DataError::io("write", path))?;
        Ok(uids.len() as u64)
    }
}

fn uid_of(entry: &[u8; ENTRY as usize]) -> u128 {
    // Two little-endian halves, the high one first: turned, the second half leads.
    u128::from_le_bytes(*entry).rotate_right(64)
}

/// Byte offset of the data and number of entries; or what is wrong.
fn header(input: &mut impl Read) -> io::Result<std::result::Result<(u64, u64), String>> {
    let mut magic = [0; 8];
    let read = input.read(&mut magic)?;
    if read < 8 || magic[..6] != *b"\x93NUMPY" || !(1..=3).contains(&magic[6]) {
        return Ok(Err(format!("is no numpy file; {REMEDY}")));
    }
    let mut length = [0; 4];
    let bytes = if magic[6] == 1 { 2 } else { 4 };
    input.read_exact(&mut length[..bytes])?;
    let length = u32::from_le_bytes(length) as usize;
    if length > MAX_HEADER {
        return Ok(Err(format!("its header claims {length} bytes; {REMEDY}")));
    }
    let mut text = vec![0; length];
    input.read_exact(&mut text)?;
    let text: String = String::from_utf8_lossy(&text).chars().filter(|c| !c.is_whitespace()).collect();
    let field = |name: &str| text.split_once(&format!("'{name}':")).map(|(_, rest)| rest);
    let descr = field("descr").map(|rest| rest.split(",'fortran_order'").next().unwrap_or(rest)).unwrap_or_default();
    let pair =
        descr.matches("'<u8'").count() == 2 && descr.matches("),(").count() == 1 && descr.matches('(').count() == 2;
    if !pair || !field("fortran_order").is_some_and(|rest| rest.starts_with("False")) {
        return Ok(Err(format!("its dtype is {descr}; {REMEDY}")));
    }
    let shape = field("shape").and_then(|rest| rest.strip_prefix('(')?.split_once(",)")).map(|(shape, _)| shape);
    let Some(len) = shape.and_then(|shape| shape.parse::<u64>().ok()) else {
        return Ok(Err(format!("its shape has not one dimension; {REMEDY}")));
    };
    Ok(Ok(((8 + bytes + length) as u64, len)))
}

//! Opens a shard: plain or gzipped, decided from its first bytes.

use super::Broken;
use crate::remote::Asked;
use crate::{Shard, SkipReason};
use flate2::bufread::MultiGzDecoder;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

const BUFFER: usize = 256 << 10;

/// The archive bytes of a shard; of one on a server, what was asked for before.
pub(crate) fn open_shard(shard: &Shard, asked: Option<Asked>) -> Result<Box<dyn Read + Send>, Broken> {
    let path = &shard.path;
    let broken = |e: std::io::Error| Broken::new(SkipReason::ShardMissing, format!("{}: {e}", path.display()));
    match asked.or_else(|| shard.ask()) {
        Some(asked) => unpacked(asked.bytes()?, path),
        None => unpacked(File::open(path).map_err(broken)?, path),
    }
}

/// The archive in a file, gzipped or not.
fn unpacked(input: impl Read + Send + 'static, path: &Path) -> Result<Box<dyn Read + Send>, Broken> {
    let broken = |e: std::io::Error| Broken::new(SkipReason::ShardMissing, format!("{}: {e}", path.display()));
    let mut file = BufReader::with_capacity(BUFFER, input);
    let head = file.fill_buf().map_err(broken)?;
    if head.starts_with(&[0x1f, 0x8b]) {
        return Ok(Box::new(MultiGzDecoder::new(file)));
    }
    let other =
        [("zstd", &[0x28, 0xb5, 0x2f, 0xfd][..]), ("bzip2", b"BZh"), ("xz", b"\xfd7zXZ"), ("zip", b"PK\x03\x04")];
    match other.iter().find(|(_, magic)| head.starts_with(magic)) {
        Some((name, _)) => {
            Err(Broken::new(SkipReason::ShardFormat, format!("{name}; repack as .tar or .tar.gz: {}", path.display())))
        }
        None => Ok(Box::new(file)),
    }
}

/// A tar file of which the contents are not wanted.
pub(super) enum Skim {
    Plain(BufReader<File>),
    Packed(Box<dyn Read + Send>),
}

/// Opens a shard to look at the names of its members; none if it cannot be.
pub(super) fn open_to_skim(path: &Path) -> Option<Skim> {
    let mut file = BufReader::with_capacity(16 << 10, File::open(path).ok()?);
    let head = file.fill_buf().ok()?;
    if head.starts_with(&[0x1f, 0x8b]) {
        Some(Skim::Packed(unpacked(file, path).ok()?))
    } else {
        Some(Skim::Plain(file))
    }
}

impl Skim {
    /// Leaves out `bytes`, without reading them where the file is plain.
    pub fn skip(&mut self, bytes: u64) -> io::Result<()> {
        match self {
            Skim::Plain(file) => file.seek_relative(bytes as i64),
            Skim::Packed(input) => io::copy(&mut input.take(bytes), &mut io::sink()).map(|_| ()),
        }
    }
}

impl Read for Skim {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self {
            Skim::Plain(file) => file.read(out),
            Skim::Packed(input) => input.read(out),
        }
    }
}

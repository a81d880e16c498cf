//! Opens a shard: plain or gzipped, decided from its first bytes.

use super::Broken;
use crate::SkipReason;
use flate2::bufread::MultiGzDecoder;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

const BUFFER: usize = 256 << 10;

/// The archive bytes of a shard.
pub(crate) fn open_shard(path: &Path) -> Result<Box<dyn Read + Send>, Broken> {
    let broken = |e: std::io::Error| Broken::new(SkipReason::ShardMissing, format!("{}: {e}", path.display()));
    let mut file = BufReader::with_capacity(BUFFER, File::open(path).map_err(broken)?);
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

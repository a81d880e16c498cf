//! Whole shards kept in a folder, the oldest of which make room.

use super::RemoteOptions;
use super::fetch::Fetched;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// Ending of the files that are ours; nothing else in the folder is looked at or removed.
const ENDING: &str = ".jest-shard";
/// While a shard arrives, room is made after so many of its bytes.
const STEP: u64 = 8 << 20;

/// The place of one shard.
pub(super) struct Shelf {
    folder: PathBuf,
    most: u64,
    path: PathBuf,
}

impl Shelf {
    /// The place of what lies at `url`, on the server that the settings say.
    pub fn new(folder: &Path, url: &str, options: &RemoteOptions) -> Shelf {
        let mut hash = blake3::Hasher::new();
        hash.update(url.as_bytes());
        for (name, value) in options.settings.iter().filter(|(name, _)| name.contains("ENDPOINT")) {
            hash.update(format!("\0{name}={value}").as_bytes());
        }
        let name = format!("{}{ENDING}", &hash.finalize().to_hex()[..32]);
        Shelf { folder: folder.to_path_buf(), most: options.cache_bytes, path: folder.join(name) }
    }

    /// The copy, if there is one; it was whole when it got its name.
    pub fn find(&self) -> Option<File> {
        File::open(&self.path).ok()
    }

    /// Hands the bytes on and keeps them, if they come to their end. Where they cannot be written, nothing is kept.
    pub fn keep(self, fetched: Fetched) -> Keeping {
        // With the ending of the others, so that what a killed process leaves behind makes room too.
        let copy = tempfile::Builder::new().prefix("part-").suffix(ENDING).tempfile_in(&self.folder).ok();
        Keeping { fetched, copy, written: 0, room: 0, shelf: self }
    }

    /// Removes the oldest copies until `bytes` fit, of which `own` is being written.
    fn make_room(&self, bytes: u64, own: &Path) -> io::Result<()> {
        let mut copies = Vec::new();
        for entry in std::fs::read_dir(&self.folder)?.flatten() {
            let path = entry.path();
            if path != own && path.to_str().is_some_and(|path| path.ends_with(ENDING)) {
                // Another process may have removed it.
                let Ok(about) = entry.metadata() else { continue };
                copies.push((about.modified()?, path, about.len()));
            }
        }
        copies.sort();
        let mut held: u64 = copies.iter().map(|(_, _, bytes)| bytes).sum();
        for (_, path, size) in copies {
            if held + bytes <= self.most {
                break;
            }
            match std::fs::remove_file(path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => held -= size,
            }
        }
        Ok(())
    }
}

/// A shard on its way, and its copy.
pub(super) struct Keeping {
    fetched: Fetched,
    copy: Option<NamedTempFile>,
    written: u64,
    /// Of those, the bytes that room was made for.
    room: u64,
    shelf: Shelf,
}

impl Keeping {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(copy) = self.copy.as_mut() else { return Ok(()) };
        self.written += bytes.len() as u64;
        if self.written > self.shelf.most {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        if self.written >= self.room + STEP {
            self.room = self.written;
            self.shelf.make_room(self.room, copy.path())?;
        }
        copy.write_all(bytes)
    }

    fn finish(&mut self) -> io::Result<()> {
        let Some(copy) = self.copy.take() else { return Ok(()) };
        self.shelf.make_room(self.written, copy.path())?;
        copy.as_file().sync_all()?;
        copy.persist(&self.shelf.path)?;
        Ok(())
    }
}

impl Read for Keeping {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = self.fetched.read(out)?;
        if n == 0 && !out.is_empty() && !self.fetched.failed() {
            // Without its copy the shard is fetched again.
            self.finish().ok();
        }
        if self.write(&out[..n]).is_err() {
            self.copy = None;
        }
        Ok(n)
    }
}

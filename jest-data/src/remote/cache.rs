//! Whole shards kept in a folder, the oldest of which make room.

use super::fetch::Fetched;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// Ending of the files that are ours; nothing else in the folder is looked at or removed.
const ENDING: &str = "jest-shard";

/// The place of one shard.
pub(super) struct Shelf {
    folder: PathBuf,
    most: u64,
    path: PathBuf,
}

impl Shelf {
    pub fn new(folder: &Path, most: u64, url: &str) -> Shelf {
        let name = format!("{}.{ENDING}", &blake3::hash(url.as_bytes()).to_hex()[..32]);
        Shelf { folder: folder.to_path_buf(), most, path: folder.join(name) }
    }

    /// The copy, if there is one; it was whole when it got its name.
    pub fn find(&self) -> Option<File> {
        File::open(&self.path).ok()
    }

    /// Hands the bytes on and keeps them, if they come to their end. A folder that cannot be written keeps nothing.
    pub fn keep(self, fetched: Fetched) -> Keeping {
        let copy = std::fs::create_dir_all(&self.folder).and_then(|()| NamedTempFile::new_in(&self.folder)).ok();
        Keeping { fetched, copy, written: 0, shelf: self }
    }

    /// Removes the oldest copies until this many bytes fit.
    fn make_room(&self, bytes: u64) -> io::Result<()> {
        let mut copies = Vec::new();
        for entry in std::fs::read_dir(&self.folder)? {
            let entry = entry?;
            if entry.path().extension().is_some_and(|ending| ending == ENDING) {
                let about = entry.metadata()?;
                copies.push((about.modified()?, entry.path(), about.len()));
            }
        }
        copies.sort();
        let mut held: u64 = copies.iter().map(|(_, _, bytes)| bytes).sum();
        for (_, path, size) in copies {
            if held + bytes <= self.most {
                break;
            }
            std::fs::remove_file(path)?;
            held -= size;
        }
        Ok(())
    }
}

/// A shard on its way, and its copy.
pub(super) struct Keeping {
    fetched: Fetched,
    copy: Option<NamedTempFile>,
    written: u64,
    shelf: Shelf,
}

impl Keeping {
    fn finish(&mut self) -> io::Result<()> {
        let Some(copy) = self.copy.take() else { return Ok(()) };
        self.shelf.make_room(self.written)?;
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
        self.written += n as u64;
        let too_large = self.written > self.shelf.most;
        if too_large || self.copy.as_mut().is_some_and(|copy| copy.write_all(&out[..n]).is_err()) {
            self.copy = None;
        }
        Ok(n)
    }
}

//! What an embedding depends on.

use crate::{DataError, Result};
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::path::Path;

/// Everything that decides an embedding; a cache belongs to exactly one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CacheKey {
    /// Hash of the model's weights and configuration.
    pub model: String,
    /// [`Tokenizer::hash`](crate::Tokenizer::hash).
    pub tokenizer: String,
    /// [`Preprocess::key`](crate::Preprocess::key).
    pub preprocess: String,
    /// Side of the images, in pixels.
    pub image_size: usize,
    /// Ids per caption.
    pub text_tokens: usize,
    /// Bytes that a longer caption is cut to.
    pub caption_bytes: usize,
    /// Width of the embeddings.
    pub dim: usize,
}

impl CacheKey {
    /// `field: cached A, wanted B` for every field that differs.
    fn differences(&self, wanted: &CacheKey) -> String {
        let fields = |key: &CacheKey| {
            let CacheKey { model, tokenizer, preprocess, image_size, text_tokens, caption_bytes, dim } = key.clone();
            let numbers = [image_size, text_tokens, caption_bytes, dim].map(|n| n.to_string());
            [model, tokenizer, preprocess].into_iter().chain(numbers).collect::<Vec<_>>()
        };
        let names = ["model", "tokenizer", "preprocess", "image_size", "text_tokens", "caption_bytes", "dim"];
        let pairs = names.iter().zip(fields(self).into_iter().zip(fields(wanted)));
        let differing = pairs.filter(|(_, (cached, wanted))| cached != wanted);
        differing
            .map(|(name, (cached, wanted))| format!("{name}: cached {cached}, wanted {wanted}"))
            .collect::<Vec<_>>()
            .join("; ")
    }

    /// A short word for all of it.
    pub(super) fn print(&self) -> String {
        let CacheKey { model, tokenizer, preprocess, image_size, text_tokens, caption_bytes, dim } = self;
        let words = [model, tokenizer, preprocess].map(|word| format!("{}:{word}", word.len())).concat();
        let all = format!("{words} {image_size} {text_tokens} {caption_bytes} {dim}");
        blake3::hash(all.as_bytes()).to_hex()[..32].to_string()
    }

    /// Checks the key of the cache in `folder`, or writes it there.
    pub(super) fn claim(&self, folder: &Path) -> Result<()> {
        let path = folder.join("key.json");
        let problem = |problem: String| DataError::Cache { path: path.clone(), problem };
        match std::fs::read(&path) {
            Ok(bytes) => {
                let cached: CacheKey = serde_json::from_slice(&bytes)
                    .map_err(|e| problem(format!("is no cache key ({e}); delete the folder, it can be made again")))?;
                if cached == *self {
                    return Ok(());
                }
                let differences = cached.differences(self);
                Err(DataError::CacheKey { folder: folder.to_path_buf(), differences })
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                let json = serde_json::to_vec_pretty(self).map_err(|e| problem(e.to_string()))?;
                write_whole(&path, &json)
            }
            Err(e) => Err(DataError::io("read", &path)(e)),
        }
    }
}

/// Writes a file under a temporary name in its folder, flushes it to the disk, and renames it.
pub(super) fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let failed = DataError::io("write", path);
    let write = || -> std::io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        sync_folder(folder)
    };
    write().map_err(failed)
}

/// As [`write_whole`], but never over a file: false if there is one, written by another process.
pub(super) fn write_new(path: &Path, bytes: &[u8]) -> Result<bool> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let failed = DataError::io("write", path);
    let write = || -> std::io::Result<bool> {
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        match file.persist_noclobber(path) {
            Ok(_) => sync_folder(folder).map(|()| true),
            Err(refused) if refused.error.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
            Err(refused) => Err(refused.error),
        }
    };
    write().map_err(failed)
}

/// The rename itself reaches the disk.
#[cfg(unix)]
fn sync_folder(folder: &Path) -> std::io::Result<()> {
    std::fs::File::open(folder)?.sync_all()
}

/// Folders cannot be opened here; the file system orders its own renames.
#[cfg(not(unix))]
fn sync_folder(_folder: &Path) -> std::io::Result<()> {
    Ok(())
}

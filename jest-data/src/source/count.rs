//! How many samples a source has, from what lies beside its shards, else by looking.

use super::{Shard, ShardKind, Source, folder::stats_of};
use crate::shard::count_samples;
use crate::{DataError, Result};
use serde::Deserialize;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// What img2dataset says of a shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ShardStats {
    /// Rows that it was given.
    pub count: u64,
    /// Pictures that it wrote.
    pub successes: u64,
    /// Rows whose picture could not be fetched.
    pub failed_to_download: u64,
    /// Rows whose picture could not be read.
    pub failed_to_resize: u64,
}

impl Shard {
    /// What `NNNNN_stats.json` beside the shard says; none without one that can be read.
    pub fn stats(&self) -> Option<ShardStats> {
        let ShardKind::Tar(_) = self.kind else { return None };
        serde_json::from_slice(&std::fs::read(stats_of(&self.path)?).ok()?).ok()
    }
}

impl Source {
    /// How many samples the shards hold: from `sizes.json` (`{"00000.tar": n}`) or `__len__` in the folder of the shards, from
    /// img2dataset's `NNNNN_stats.json`, from the shard itself where it says so; else from the names in every tar file, for which
    /// a plain one is not read through. Missing shards hold none.
    ///
    /// # Errors
    /// `Table` for a `sizes.json` or `__len__` that is none; `Source` for shards on a server.
    pub fn count(&self) -> Result<u64> {
        if let Some(shard) = self.shards().iter().find(|shard| shard.remote().is_some()) {
            let problem = "samples on a server are not counted; set `data.num_examples`";
            return Err(DataError::Source { spec: shard.path.display().to_string(), problem });
        }
        let mut folders: HashMap<PathBuf, Sizes> = HashMap::new();
        let (mut sum, mut whole) = (0, Vec::new());
        for shard in self.shards() {
            let folder = shard.path.parent().unwrap_or(Path::new("")).to_path_buf();
            if !folders.contains_key(&folder) {
                folders.insert(folder.clone(), Sizes::read(&folder, self)?);
            }
            match &folders[&folder] {
                Sizes::Total(total) if !whole.contains(&folder) => {
                    sum += total;
                    whole.push(folder);
                }
                Sizes::Total(_) => {}
                Sizes::Each(sizes) => sum += sizes.get(file_name(&shard.path)).copied().unwrap_or_else(|| own(shard)),
            }
        }
        Ok(sum)
    }
}

/// What a folder says of its shards.
enum Sizes {
    /// All shards of the folder together; used only where the source has them all.
    Total(u64),
    Each(HashMap<String, u64>),
}

impl Sizes {
    fn read(folder: &Path, source: &Source) -> Result<Sizes> {
        let tars = || source.shards().iter().filter(|shard| matches!(shard.kind, ShardKind::Tar(_)));
        let in_folder = |shard: &&Shard| shard.path.parent() == Some(folder);
        let (sizes, total) = (folder.join("sizes.json"), folder.join("__len__"));
        let bad = |path: PathBuf, problem: String| DataError::Table { path, problem };
        if let Some(text) = optional(&sizes)? {
            return serde_json::from_str(&text)
                .map(Sizes::Each)
                .map_err(|e| bad(sizes, format!("is not `{{\"SHARD\": SAMPLES}}`: {e}")));
        }
        if let Some(text) = optional(&total)?
            && let Ok(listed) = super::files::list(folder)
        {
            let all = listed.files.iter().filter(|name| name.contains(".tar") || name.ends_with(".tgz")).count();
            let number =
                text.trim().parse().map_err(|_| bad(total, format!("`{}` is no number of samples", text.trim())))?;
            if tars().filter(in_folder).count() == all {
                return Ok(Sizes::Total(number));
            }
        }
        Ok(Sizes::Each(HashMap::new()))
    }
}

/// The text of a file; none where there is no file.
fn optional(path: &Path) -> Result<Option<String>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(DataError::io("read", path)(e)),
    }
}

fn file_name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

/// What the shard itself says.
fn own(shard: &Shard) -> u64 {
    let rest = |all: u64, first: u64| all.saturating_sub(first).min(super::BLOCK as u64);
    match &shard.kind {
        ShardKind::Tar(_) => shard.stats().map_or_else(|| count_samples(&shard.path), |stats| stats.successes),
        ShardKind::Parquet(_) => crate::shard::count_rows(&shard.path),
        ShardKind::Rows(table, first) => rest(table.rows(), *first),
        ShardKind::Files(list, first) => rest(list.len() as u64, *first),
        ShardKind::Synthetic(_, count) => *count,
    }
}

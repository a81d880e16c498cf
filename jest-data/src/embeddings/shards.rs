//! Which shards a cache was made from: ids are made of names, and two files can have one name.

use super::key::write_whole;
use crate::{DataError, Result, Shard, Source};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

const FILE: &str = "shards.json";
const LOCK: &str = "shards.lock";
/// Bytes at either end of a shard that its print is made of, beside its length.
const END: u64 = 64 << 10;

/// Holds the shards of these sources against those that the cache in `folder` was made from, and adds the new ones.
pub(super) fn claim(folder: &Path, sources: &[Source]) -> Result<()> {
    let path = folder.join(FILE);
    if held_against(folder, sources, &mut read(&path)?)? == 0 {
        return Ok(());
    }
    // Of two processes that add shards at once, neither may lose the other's.
    let lock = folder.join(LOCK);
    let held = File::create(&lock).map_err(DataError::io("create", &lock))?;
    held.lock().map_err(DataError::io("lock", &lock))?;
    let mut known = read(&path)?;
    held_against(folder, sources, &mut known)?;
    let problem = |e: serde_json::Error| DataError::Cache { path: path.clone(), problem: e.to_string() };
    write_whole(&path, &serde_json::to_vec_pretty(&known).map_err(problem)?)
}

/// Prints of shards by source and name; none where there is no file yet.
fn read(path: &Path) -> Result<BTreeMap<String, String>> {
    match std::fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|e| {
            let problem = format!("is no list of shards ({e}); delete the folder, it can be made again");
            DataError::Cache { path: path.to_path_buf(), problem }
        }),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(BTreeMap::new()),
        Err(e) => Err(DataError::io("read", path)(e)),
    }
}

/// Adds what is new to `known`, and says how many shards that were.
fn held_against(folder: &Path, sources: &[Source], known: &mut BTreeMap<String, String>) -> Result<usize> {
    let before = known.len();
    for source in sources {
        for shard in source.shards() {
            // A file that cannot be read gives no examples by its name.
            let Ok(print) = shard.print() else { continue };
            let name = format!("{}/{}", source.name(), shard.name);
            let first = known.entry(name).or_insert_with(|| print.clone());
            if *first != print {
                let problem = format!(
                    "another file was cached as shard {} of source {}, and their examples would share ids; give this \
                     source another name, as in NAME=PATH, or delete the cache in {}",
                    shard.name,
                    source.name(),
                    folder.display()
                );
                return Err(DataError::Cache { path: shard.path.clone(), problem });
            }
        }
    }
    Ok(known.len() - before)
}

impl Shard {
    /// What tells its file from others of its name: length, and a hash of the first and the last bytes. One on a server is known by
    /// its address.
    ///
    /// # Errors
    /// As the system says of a file that cannot be read.
    pub fn print(&self) -> std::io::Result<String> {
        self.remote().map_or_else(|| print(&self.path), |_| Ok(self.path.to_string_lossy().into_owned()))
    }
}

fn print(path: &Path) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut hash = blake3::Hasher::new();
    let mut bytes = Vec::new();
    file.by_ref().take(END).read_to_end(&mut bytes)?;
    if length > END {
        file.seek(SeekFrom::Start(length.saturating_sub(END).max(END)))?;
        file.take(END).read_to_end(&mut bytes)?;
    }
    hash.update(&bytes);
    Ok(format!("{length}:{}", &hash.finalize().to_hex()[..32]))
}

//! Which shards a cache was made from: ids are made of names, and two files can have one name.

use super::key::write_whole;
use crate::{DataError, Result, Source};
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
    // Of two processes that add shards at once, neither may lose the other's.
    let lock = folder.join(LOCK);
    let held = File::create(&lock).map_err(DataError::io("create", &lock))?;
    held.lock().map_err(DataError::io("lock", &lock))?;
    let problem = |problem: String| DataError::Cache { path: path.clone(), problem };
    let mut known: BTreeMap<String, String> = match std::fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map_err(|e| problem(format!("is no list of shards ({e}); delete the folder, it can be made again")))?,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => BTreeMap::new(),
        Err(e) => return Err(DataError::io("read", &path)(e)),
    };
    let before = known.len();
    for source in sources {
        for shard in source.shards() {
            // What is no file, or cannot be read, gives no examples by that name.
            let Ok(print) = print(&shard.path) else { continue };
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
    if known.len() == before {
        return Ok(());
    }
    write_whole(&path, &serde_json::to_vec_pretty(&known).map_err(|e| problem(e.to_string()))?)
}

/// Length, and a hash of the first and the last bytes.
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

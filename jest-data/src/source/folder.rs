//! What a folder or a file is: decided by the names in it.

use super::{ClassCaptions, FileList, Shard, ShardKind, SourceOptions, Table, TarShard, files, relative_name};
use crate::{DataError, Result};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(super) const NOTHING: &str = "the folder holds no `.tar`, `.tar.gz`, `.tgz` or `.parquet` file, no table (`.csv`, `.tsv`, `.jsonl`), no pictures with `.txt` \
     files, and no folders of pictures";
/// More shards than this in one `nshards.txt` are taken for a typing error.
const MAX_SHARDS: usize = 1_000_000;

/// The shards of one file; named later where the name is empty.
pub(super) fn file(path: &Path, options: &Arc<SourceOptions>) -> Result<Vec<Shard>> {
    match ending(path).as_str() {
        "parquet" => Ok(vec![parquet(path, options)]),
        "csv" | "tsv" | "jsonl" | "ndjson" => table(path, options),
        _ => Ok(vec![tar(path.to_path_buf(), TarShard::default())]),
    }
}

/// The shards of a folder; empty if it holds nothing that is known.
pub(super) fn shards(folder: &Path, options: &Arc<SourceOptions>) -> Result<Vec<Shard>> {
    if folder.join("nshards.txt").is_file() {
        return clip_benchmark(folder);
    }
    let names = files::list(folder)?;
    let ending_in = |endings: &[&str]| -> Vec<PathBuf> {
        let named = names.files.iter().filter(|name| endings.iter().any(|ending| name.ends_with(ending)));
        named.map(|name| folder.join(name)).collect()
    };
    let tars = ending_in(&[".tar", ".tar.gz", ".tgz"]);
    if !tars.is_empty() {
        return Ok(tar_shards(tars, &ending_in(&["_stats.json"])));
    }
    let parquets = ending_in(&[".parquet"]);
    if !parquets.is_empty() {
        return Ok(parquets.iter().map(|path| parquet(path, options)).collect());
    }
    match ending_in(&[".csv", ".tsv", ".jsonl", ".ndjson"]).as_slice() {
        [] => {}
        [one] => return table(one, options),
        several => {
            let problem = format!("one of {} tables in its folder; name the one that is meant", several.len());
            return Err(DataError::Table { path: several[0].clone(), problem });
        }
    }
    match FileList::scan(folder, &names)? {
        Some(list) => Ok(files::blocks(Arc::new(list))),
        None => Ok(Vec::new()),
    }
}

/// A file's ending in lower case.
fn ending(path: &Path) -> String {
    path.extension().and_then(OsStr::to_str).unwrap_or_default().to_ascii_lowercase()
}

fn tar(path: PathBuf, what: TarShard) -> Shard {
    Shard { path, name: "".into(), kind: ShardKind::Tar(what) }
}

fn parquet(path: &Path, options: &Arc<SourceOptions>) -> Shard {
    Shard { path: path.to_path_buf(), name: "".into(), kind: ShardKind::Parquet(options.clone()) }
}

fn table(path: &Path, options: &SourceOptions) -> Result<Vec<Shard>> {
    let table = Arc::new(Table::open(path, options)?);
    let name: Arc<str> = path.file_name().map_or("table".into(), OsStr::to_string_lossy).as_ref().into();
    let shard =
        |first| Shard { path: path.to_path_buf(), name: name.clone(), kind: ShardKind::Rows(table.clone(), first) };
    Ok(table.blocks().map(shard).collect())
}

/// Tar files; where img2dataset left statistics, a shard without them is unfinished.
fn tar_shards(tars: Vec<PathBuf>, stats: &[PathBuf]) -> Vec<Shard> {
    let shard = |path: PathBuf| {
        let unfinished = !stats.is_empty() && !stats_of(&path).is_some_and(|of| stats.contains(&of));
        tar(path, TarShard { unfinished, ..TarShard::default() })
    };
    tars.into_iter().map(shard).collect()
}

/// Where img2dataset puts the statistics of a shard: `00000_stats.json` beside `00000.tar`.
pub(super) fn stats_of(shard: &Path) -> Option<PathBuf> {
    let stem = shard.file_name()?.to_str()?.split('.').next()?;
    Some(shard.with_file_name(format!("{stem}_stats.json")))
}

/// `0.tar` to `n-1.tar`, as `nshards.txt` states; its texts may be classes, or captions a line.
fn clip_benchmark(folder: &Path) -> Result<Vec<Shard>> {
    let path = folder.join("nshards.txt");
    let text = std::fs::read_to_string(&path).map_err(DataError::io("read", &path))?;
    let count = text.trim().parse::<usize>().ok().filter(|n| (1..=MAX_SHARDS).contains(n));
    let problem = || format!("`{}` is no number of shards from 1 to {MAX_SHARDS}", text.trim());
    let count = count.ok_or_else(|| DataError::Table { path: path.clone(), problem: problem() })?;
    let above = folder.parent().unwrap_or(folder);
    let kind = std::fs::read_to_string(above.join("dataset_type.txt")).unwrap_or_default();
    let lines = kind.trim() == "retrieval";
    let classes = if lines { None } else { Some(Arc::new(ClassCaptions::read(above, Vec::new())?)) };
    let shard =
        |i| tar(folder.join(format!("{i}.tar")), TarShard { lines, classes: classes.clone(), ..TarShard::default() });
    Ok((0..count).map(shard).map(|shard| Shard { name: relative_name(&shard.path, folder), ..shard }).collect())
}

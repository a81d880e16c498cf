//! Where samples are: tar shards, Parquet files, tables, folders of pictures, or nowhere at all (`synthetic:N`).

mod captions;
mod count;
mod files;
mod folder;
mod options;
mod synthetic;
mod table;

pub(crate) use captions::ClassCaptions;
pub use count::ShardStats;
pub(crate) use files::FileList;
pub use options::SourceOptions;
pub(crate) use synthetic::draw;
pub(crate) use table::{Table, texts};

use crate::remote::{AVAILABLE, Asked, is_remote};
use crate::{DataError, RemoteOptions, Result, expand_braces};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Rows or files of one shard, where samples lie one by one: few, so that shuffled shards mix classes and places of a table.
pub(crate) const BLOCK: usize = 64;

/// A tar file, a Parquet file, or a block of consecutive rows or files: the unit that is read in one go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Where it lies.
    pub path: PathBuf,
    /// Its path below the folder that all shards of the source share, with `/`: part of every example id.
    pub name: Arc<str>,
    pub(crate) kind: ShardKind,
}

/// How the samples of a shard are found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ShardKind {
    /// Members of a tar file.
    Tar(TarShard),
    /// Rows of a Parquet file.
    Parquet(Arc<SourceOptions>),
    /// At most [`BLOCK`] rows of a table from this one on.
    Rows(Arc<Table>, u64),
    /// At most [`BLOCK`] files of a list from this one on.
    Files(Arc<FileList>, u64),
    /// This many samples from this one on.
    Synthetic(u64, u64),
}

/// What is known of a tar file beside its members.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TarShard {
    /// Whether every line of a `.txt` member is a caption.
    pub lines: bool,
    /// Whether img2dataset has not finished it: other shards of the folder have a `_stats.json`, this one has none.
    pub unfinished: bool,
    /// Set if it is on a server.
    pub remote: Option<Arc<RemoteOptions>>,
    /// Captions for samples that have a class alone.
    pub classes: Option<Arc<ClassCaptions>>,
}

impl Shard {
    /// The row or file that it begins with; 0 where it is a whole file.
    pub(crate) fn first(&self) -> u64 {
        match &self.kind {
            ShardKind::Rows(_, first) | ShardKind::Files(_, first) | ShardKind::Synthetic(first, _) => *first,
            ShardKind::Tar(_) | ShardKind::Parquet(_) => 0,
        }
    }

    /// Whether its file is there; a synthetic shard always is, and of one on a server nobody knows before it is read.
    pub(crate) fn exists(&self) -> bool {
        matches!(self.kind, ShardKind::Synthetic(..)) || self.remote().is_some() || self.path.exists()
    }

    /// How it is read, if it is on a server.
    pub(crate) fn remote(&self) -> Option<&Arc<RemoteOptions>> {
        match &self.kind {
            ShardKind::Tar(what) => what.remote.as_ref(),
            _ => None,
        }
    }

    /// Asks its server for it, if it is on one.
    pub(crate) fn ask(&self) -> Option<Asked> {
        self.remote().map(|options| Asked::new(self.path.to_string_lossy().into_owned(), options))
    }
}

/// A named, ordered list of shards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    name: Arc<str>,
    shards: Vec<Shard>,
}

impl Source {
    /// The source that `[NAME=]PATH` stands for.
    ///
    /// PATH is a file, a brace pattern of files, a folder, or `synthetic:N`. Files are tar shards, Parquet files (`.parquet`) or
    /// tables of picture files (`.csv`, `.tsv`, `.jsonl`). A folder is, whichever comes first: shards of CLIP_benchmark
    /// (`nshards.txt`); its `*.tar`, `*.tar.gz` and `*.tgz` files, sorted; its `*.parquet` files; its one table; pictures with
    /// captions in `.txt` files beside them; pictures in one folder a class. NAME (letters, digits, `_`, `-`, `.`) defaults to
    /// the name of the folder that holds the files; it is part of every example id, which absolute paths never are: moving a
    /// folder keeps its ids, renaming it changes them.
    ///
    /// # Errors
    /// `Source` for a folder without any of these, a bad pattern, or a scheme such as `pipe:`; `Table` for a table without the
    /// columns; `Io` if a folder cannot be listed.
    pub fn parse(spec: &str) -> Result<Source> {
        Source::parse_with(spec, &SourceOptions::default())
    }

    /// As [`parse`](Self::parse), with columns and separator of tables given.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn parse_with(spec: &str, options: &SourceOptions) -> Result<Source> {
        let problem = |problem| DataError::Source { spec: spec.to_string(), problem };
        let (name, pattern) = split_name(spec);
        if pattern.is_empty() {
            return Err(problem(
                "names no shard; give a folder, a file, or a pattern such as `train/{00000..00099}.tar`",
            ));
        }
        if let Some(count) = pattern.strip_prefix("synthetic:") {
            let count = count.parse::<u64>().ok().filter(|count| (1..=1 << 40).contains(count));
            let count = count.ok_or(problem("write `synthetic:N` with N, the number of examples, 1 or more"))?;
            return Ok(Source { name: name.unwrap_or("synthetic").into(), shards: synthetic::shards(count) });
        }
        if is_remote(pattern) && !AVAILABLE {
            return Err(problem(
                "on a server; build with the cargo feature `remote`, or copy the shards to a folder first",
            ));
        }
        if pattern.starts_with("pipe:") || !is_remote(pattern) && pattern.contains("://") {
            return Err(problem("is neither a path nor an address of s3://, gs://, az://, http:// or https://"));
        }
        if is_remote(pattern) && !pattern.contains(".tar") && !pattern.contains(".tgz") {
            return Err(problem("on a server, only tar shards are read; write e.g. `s3://bucket/{00..99}.tar`"));
        }
        if is_remote(pattern) && pattern.contains(['?', '#']) {
            return Err(problem(
                "an address with `?` or `#` cannot be read; give the plain one, and credentials in the environment",
            ));
        }
        let paths = expand_braces(pattern)?.into_iter().map(PathBuf::from).collect();
        Source::from_paths(spec, name, paths, options)
    }

    /// The source that a folder is; as [`parse`](Self::parse), for a path that may hold `{`, `=` or `::`.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn folder(folder: &Path) -> Result<Source> {
        Source::from_paths(&folder.to_string_lossy(), None, vec![folder.to_path_buf()], &SourceOptions::default())
    }

    fn from_paths(spec: &str, name: Option<&str>, given: Vec<PathBuf>, options: &SourceOptions) -> Result<Source> {
        let mut shards = Vec::new();
        let options = Arc::new(options.clone());
        let mut files = Vec::new();
        let mut roots = Vec::new();
        for path in given {
            if path.to_str().is_some_and(is_remote) {
                roots.push(path.parent().unwrap_or(Path::new("")).to_path_buf());
                let remote = options.remote.clone().map_or_else(RemoteOptions::installed, Arc::new);
                let kind = ShardKind::Tar(TarShard { remote: Some(remote), ..TarShard::default() });
                shards.push(Shard { path, name: "".into(), kind });
            } else if path.is_dir() {
                let found = folder::shards(&path, &options)?;
                if found.is_empty() {
                    return Err(DataError::Source { spec: spec.to_string(), problem: folder::NOTHING });
                }
                roots.push(path);
                shards.extend(found);
            } else {
                roots.push(path.parent().unwrap_or(Path::new("")).to_path_buf());
                files.push(path);
            }
        }
        let root = common_folder(&roots);
        for path in files {
            shards.extend(folder::file(&path, &options)?);
        }
        for shard in &mut shards {
            if shard.name.is_empty() {
                shard.name = relative_name(&shard.path, &root);
            }
            // Another column of captions makes other examples.
            if let (Some(key), ShardKind::Rows(..) | ShardKind::Parquet(_)) = (&options.caption_key, &shard.kind) {
                shard.name = format!("{}:{key}", shard.name).into();
            }
        }
        let name = name.map(Arc::from).unwrap_or_else(|| folder_name(&root));
        Ok(Source { name, shards })
    }

    /// Several sources, joined by `::` as open_clip writes them.
    ///
    /// # Errors
    /// As [`Source::parse`]; `SameShard` if two of them would give the same ids.
    pub fn parse_list(specs: &str) -> Result<Vec<Source>> {
        Source::parse_list_with(specs, &SourceOptions::default())
    }

    /// As [`parse_list`](Self::parse_list), with columns and separator of tables given.
    ///
    /// # Errors
    /// As [`parse_list`](Self::parse_list).
    pub fn parse_list_with(specs: &str, options: &SourceOptions) -> Result<Vec<Source>> {
        let sources = specs.split("::").map(|spec| Source::parse_with(spec, options)).collect::<Result<Vec<_>>>()?;
        check_distinct(&sources)?;
        Ok(sources)
    }

    /// The name, as it enters example ids.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The shards, in reading order.
    pub fn shards(&self) -> &[Shard] {
        &self.shards
    }

    /// The same source with those of its shards alone that are to be kept; ids stay as they are.
    #[must_use]
    pub fn with_shards(mut self, keep: impl FnMut(&Shard) -> bool) -> Source {
        self.shards.retain(keep);
        self
    }

    /// The same source with every text of a tar shard as one caption, whatever its kind says.
    pub(crate) fn with_whole_texts(mut self) -> Source {
        for shard in &mut self.shards {
            if let ShardKind::Tar(tar) = &mut shard.kind {
                (tar.lines, tar.classes) = (false, None);
            }
        }
        self
    }

    pub(crate) fn shared_name(&self) -> Arc<str> {
        self.name.clone()
    }
}

/// `SameShard` if two shards have one name under one source name.
pub(crate) fn check_distinct(sources: &[Source]) -> Result<()> {
    let mut seen = std::collections::HashSet::new();
    for source in sources {
        for shard in &source.shards {
            if !seen.insert((&source.name, &shard.name, shard.first())) {
                return Err(DataError::SameShard { name: source.name.to_string(), shard: shard.name.to_string() });
            }
        }
    }
    Ok(())
}

fn split_name(spec: &str) -> (Option<&str>, &str) {
    let word = |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b));
    match spec.split_once('=') {
        Some((name, pattern)) if word(name) => (Some(name), pattern),
        _ => (None, spec),
    }
}

fn common_folder(folders: &[PathBuf]) -> PathBuf {
    let mut folders = folders.iter();
    let mut common = folders.next().cloned().unwrap_or_default();
    for folder in folders {
        while !folder.starts_with(&common) && common.pop() {}
    }
    common
}

fn relative_name(path: &Path, root: &Path) -> Arc<str> {
    let parts = path.strip_prefix(root).unwrap_or(path).components();
    parts.map(|part| part.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/").into()
}

fn folder_name(root: &Path) -> Arc<str> {
    root.file_name().map(|name| name.to_string_lossy()).unwrap_or("data".into()).as_ref().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(spec: &str, name: &str, shards: &[&str]) {
        let source = Source::parse(spec).unwrap();
        let found: Vec<_> = source.shards().iter().map(|shard| shard.name.as_ref()).collect();
        assert_eq!((source.name(), found.as_slice()), (name, shards), "{spec}");
    }

    #[test]
    fn names_come_from_the_folder_or_the_prefix() {
        check("some/train/{00..01}.tar", "train", &["00.tar", "01.tar"]);
        check("/else/where/train/00.tar", "train", &["00.tar"]);
        check("x/{a,b}/0.tar", "x", &["a/0.tar", "b/0.tar"]);
        check("pool=some/train/00.tar.gz", "pool", &["00.tar.gz"]);
        check("00.tar", "data", &["00.tar"]);
        check("odd dir/k=v/0.tar", "k=v", &["0.tar"]);
        check(
            "x/{a,b{0..1}}/{08..09}.tar",
            "x",
            &["a/08.tar", "a/09.tar", "b0/08.tar", "b0/09.tar", "b1/08.tar", "b1/09.tar"],
        );
    }

    #[test]
    fn colliding_sources_are_refused() {
        let error = Source::parse_list("a/train/0.tar::b/train/0.tar").unwrap_err().to_string();
        assert!(error.contains("othername="), "{error}");
        assert_eq!(Source::parse_list("a/train/0.tar::other=b/train/0.tar").unwrap().len(), 2);
        assert!(Source::parse_list("synthetic:100::synthetic:100").is_err());
    }

    #[test]
    fn schemes_and_empty_folders_are_refused() {
        let empty = tempfile::tempdir().unwrap();
        let bad = ["pipe:cat 0.tar", "", "a=", "synthetic:0", "synthetic:many", "gopher://x/0.tar", "s3://bucket/x"];
        for spec in bad.into_iter().chain([empty.path().to_str().unwrap()]) {
            assert!(matches!(Source::parse(spec), Err(DataError::Source { .. })), "{spec}");
        }
    }
}

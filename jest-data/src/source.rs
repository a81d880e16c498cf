//! Where shards are: files, folders and brace patterns.

use crate::{DataError, Result, expand_braces};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// One tar or gzipped tar file of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Where it lies.
    pub path: PathBuf,
    /// Its path below the folder that all shards of the source share, with `/`: part of every example id.
    pub name: Arc<str>,
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
    /// PATH is a shard, a brace pattern of shards, or a folder: its `*.tar`, `*.tar.gz` and `*.tgz` files, sorted. NAME (letters,
    /// digits, `_`, `-`, `.`) defaults to the name of the folder that holds the shards; it is part of every example id, which
    /// absolute paths never are: moving a folder keeps its ids, renaming it changes them.
    ///
    /// # Errors
    /// `Source` for an empty folder, a bad pattern, or a scheme such as `s3://` and `pipe:`; `Io` if a folder cannot be listed.
    pub fn parse(spec: &str) -> Result<Source> {
        let problem = |problem| DataError::Source { spec: spec.to_string(), problem };
        let (name, pattern) = split_name(spec);
        if pattern.is_empty() {
            return Err(problem(
                "names no shard; give a folder, a file, or a pattern such as `train/{00000..00099}.tar`",
            ));
        }
        if pattern.starts_with("pipe:") || pattern.contains("://") {
            return Err(problem("only local files are read; copy the shards to a folder first"));
        }
        let paths = expand_braces(pattern)?.into_iter().map(PathBuf::from).collect();
        Source::from_paths(spec, name, paths)
    }

    /// The source that a folder of shards is; as [`parse`](Self::parse), for a path that may hold `{`, `=` or `::`.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn folder(folder: &Path) -> Result<Source> {
        Source::from_paths(&folder.to_string_lossy(), None, vec![folder.to_path_buf()])
    }

    fn from_paths(spec: &str, name: Option<&str>, given: Vec<PathBuf>) -> Result<Source> {
        let mut paths = Vec::new();
        for path in given {
            if path.is_dir() { paths.extend(list_shards(&path)?) } else { paths.push(path) }
        }
        if paths.is_empty() {
            let problem = "the folder holds no `.tar`, `.tar.gz` or `.tgz` file";
            return Err(DataError::Source { spec: spec.to_string(), problem });
        }
        let root = common_folder(&paths);
        let shards = paths.into_iter().map(|path| Shard { name: relative_name(&path, &root), path }).collect();
        let name = name.map(Arc::from).unwrap_or_else(|| folder_name(&root));
        Ok(Source { name, shards })
    }

    /// Several sources, joined by `::` as open_clip writes them.
    ///
    /// # Errors
    /// As [`Source::parse`]; `SameShard` if two of them would give the same ids.
    pub fn parse_list(specs: &str) -> Result<Vec<Source>> {
        let sources = specs.split("::").map(Source::parse).collect::<Result<Vec<_>>>()?;
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

    pub(crate) fn shared_name(&self) -> Arc<str> {
        self.name.clone()
    }
}

/// `SameShard` if two shards have one name under one source name.
pub(crate) fn check_distinct(sources: &[Source]) -> Result<()> {
    let mut seen = std::collections::HashSet::new();
    for source in sources {
        for shard in &source.shards {
            if !seen.insert((&source.name, &shard.name)) {
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

fn list_shards(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(DataError::io("list", folder))? {
        let path = entry.map_err(DataError::io("list", folder))?.path();
        let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
        if !name.starts_with('.') && [".tar", ".tar.gz", ".tgz"].iter().any(|end| name.ends_with(end)) {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn common_folder(paths: &[PathBuf]) -> PathBuf {
    let mut folders = paths.iter().map(|path| path.parent().unwrap_or(Path::new("")));
    let mut common = folders.next().unwrap_or(Path::new("")).to_path_buf();
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
    }

    #[test]
    fn colliding_sources_are_refused() {
        let error = Source::parse_list("a/train/0.tar::b/train/0.tar").unwrap_err().to_string();
        assert!(error.contains("othername="), "{error}");
        assert_eq!(Source::parse_list("a/train/0.tar::other=b/train/0.tar").unwrap().len(), 2);
    }

    #[test]
    fn schemes_and_empty_folders_are_refused() {
        let empty = tempfile::tempdir().unwrap();
        for spec in ["s3://bucket/{0..9}.tar", "pipe:cat 0.tar", "", "a=", empty.path().to_str().unwrap()] {
            assert!(matches!(Source::parse(spec), Err(DataError::Source { .. })), "{spec}");
        }
    }
}

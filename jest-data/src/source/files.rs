//! Pictures that lie in folders: with captions beside them, or one folder a class.

use super::{BLOCK, ClassCaptions, Shard, ShardKind};
use crate::{DataError, Result};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const PICTURES: [&str; 4] = ["jpg", "jpeg", "png", "webp"];

/// Pictures below a folder, sorted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FileList {
    root: PathBuf,
    /// Names of the folders below `root` with pictures; the first may be empty, for those in `root` itself.
    folders: Vec<Arc<str>>,
    /// Folder and file name of every picture.
    files: Vec<(u32, Box<str>)>,
    /// Captions by folder; none where captions lie beside the pictures.
    classes: Option<ClassCaptions>,
}

/// One picture of a list.
pub(crate) struct Entry {
    /// Its path below the root, with `/`.
    pub key: String,
    pub image: PathBuf,
    /// Where its caption lies; none where the class is the caption.
    pub beside: Option<PathBuf>,
    pub class: Option<u32>,
    pub captions: Vec<Vec<u8>>,
}

/// Names in a folder, sorted, hidden ones left out.
pub(super) struct Names {
    pub files: Vec<String>,
    pub folders: Vec<String>,
}

pub(super) fn list(folder: &Path) -> Result<Names> {
    let mut names = Names { files: Vec::new(), folders: Vec::new() };
    for entry in std::fs::read_dir(folder).map_err(DataError::io("list", folder))? {
        let entry = entry.map_err(DataError::io("list", folder))?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if !name.starts_with('.') {
            let folder =
                entry.file_type().is_ok_and(|kind| kind.is_dir() || kind.is_symlink() && entry.path().is_dir());
            if folder { names.folders.push(name) } else { names.files.push(name) }
        }
    }
    names.files.sort_unstable();
    names.folders.sort_unstable();
    Ok(names)
}

/// File name without its last ending, and whether that is a picture's.
fn picture(name: &str) -> Option<&str> {
    let (stem, ending) = name.rsplit_once('.')?;
    PICTURES.iter().any(|known| ending.eq_ignore_ascii_case(known)).then_some(stem)
}

impl FileList {
    /// The pictures of `root` and of the folders in it; none if there are none.
    pub(super) fn scan(root: &Path, names: &Names) -> Result<Option<FileList>> {
        let mut list = FileList { root: root.to_path_buf(), folders: Vec::new(), files: Vec::new(), classes: None };
        let mut captions = list.add("", &names.files);
        let in_root = list.files.len();
        for folder in &names.folders {
            captions |= list.add(folder, &self::list(&root.join(folder))?.files);
        }
        if list.files.is_empty() || in_root > 0 && !captions {
            return Ok(None);
        }
        if !captions {
            let names = list.folders.iter().map(|folder| folder.replace('_', " ")).collect();
            list.classes = Some(ClassCaptions::read(root, names)?);
        }
        Ok(Some(list))
    }

    /// Adds the pictures of a folder; whether one of them has a caption beside it.
    fn add(&mut self, folder: &str, names: &[String]) -> bool {
        let before = self.files.len();
        let at = self.folders.len() as u32;
        self.files.extend(names.iter().filter(|name| picture(name).is_some()).map(|name| (at, name.as_str().into())));
        let added = &self.files[before..];
        if !added.is_empty() {
            self.folders.push(folder.into());
        }
        let texts: std::collections::HashSet<&str> =
            names.iter().filter_map(|name| name.strip_suffix(".txt")).collect();
        added.iter().any(|(_, name)| picture(name).is_some_and(|stem| texts.contains(stem)))
    }

    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// The pictures of the block that begins with this one.
    pub fn block(&self, first: u64) -> impl Iterator<Item = Entry> + '_ {
        let first = (first as usize).min(self.files.len());
        self.files[first..].iter().take(BLOCK).map(|(folder, name)| self.entry(*folder, name))
    }

    fn entry(&self, folder: u32, name: &str) -> Entry {
        let in_folder = self.root.join(&*self.folders[folder as usize]);
        let stem = picture(name).unwrap_or(name);
        let class = self.classes.is_some().then_some(folder);
        let captions = self.classes.as_ref().map(|classes| classes.of(folder as usize)).unwrap_or_default();
        Entry {
            // With its ending: pictures of one stem share a caption file, but not an id.
            key: format!("{}/{name}", self.folders[folder as usize]).trim_start_matches('/').to_string(),
            beside: class.is_none().then(|| in_folder.join(stem)),
            image: in_folder.join(name),
            class,
            captions,
        }
    }
}

/// A list as shards.
pub(super) fn blocks(list: Arc<FileList>) -> Vec<Shard> {
    let shard = |first: usize| Shard {
        path: list.root.clone(),
        name: "files".into(),
        kind: ShardKind::Files(list.clone(), first as u64),
    };
    (0..list.len()).step_by(BLOCK).map(shard).collect()
}

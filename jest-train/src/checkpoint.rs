//! Checkpoint folders: written whole, then renamed; each file's hash is kept beside it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::storage::{sync_folder, write_atomic};
use crate::{Result, TrainError};

/// File that lists the hash of every other file of a checkpoint.
pub const CHECKSUMS: &str = "checksums.json";
const PREFIX: &str = "step-";
/// Begins the name of a folder that is being written.
const UNFINISHED: &str = ".unfinished-";

/// Name of the checkpoint after so many updates.
pub fn folder_name(step: u64) -> String {
    format!("{PREFIX}{step:08}")
}

/// Checkpoints of one run: `<folder>/step-00000200/`.
#[derive(Clone, Debug)]
pub struct Checkpoints {
    folder: PathBuf,
    keep: usize,
}

/// A checkpoint found on disk whose files are as they were written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Updates made when it was written.
    pub step: u64,
    /// Its folder.
    pub path: PathBuf,
}

impl Checkpoints {
    /// Checkpoints in `folder`; saving keeps the newest `keep` of them.
    pub fn new(folder: PathBuf, keep: usize) -> Self {
        Self { folder, keep: keep.max(1) }
    }

    /// Writes a checkpoint: `fill` puts files into the folder it is given, which then gets its final name.
    ///
    /// # Errors
    /// `Storage` when the disk is full or refuses; older checkpoints stay as they are, and nothing half-written keeps a
    /// final name.
    pub fn save(&self, step: u64, fill: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
        let path = self.folder.join(folder_name(step));
        let unfinished = self.folder.join(format!("{UNFINISHED}{step:08}"));
        self.clear_unfinished()?;
        fs::create_dir_all(&unfinished).map_err(TrainError::storage("create", &unfinished))?;
        let written = fill(&unfinished).and_then(|()| seal(&unfinished));
        if let Err(error) = written {
            // The reason for the failure matters more than whether the rest could be cleared away.
            drop(fs::remove_dir_all(&unfinished));
            return Err(error);
        }
        discard(&path)?;
        fs::rename(&unfinished, &path).map_err(TrainError::storage("rename", &unfinished))?;
        sync_folder(&self.folder)?;
        self.tidy(step)?;
        Ok(path)
    }

    /// The newest checkpoint whose files match their hashes, and the damaged ones that are newer.
    ///
    /// # Errors
    /// `Storage` when the folder cannot be read.
    pub fn newest(&self) -> Result<(Option<Found>, Vec<TrainError>)> {
        let mut damaged = Vec::new();
        for found in self.list()?.into_iter().rev() {
            match verify(&found.path) {
                Ok(()) => return Ok((Some(found), damaged)),
                Err(error) => damaged.push(error),
            }
        }
        Ok((None, damaged))
    }

    /// All checkpoints by step, whether damaged or not.
    fn list(&self) -> Result<Vec<Found>> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(TrainError::storage("list", &self.folder)(error)),
        };
        let mut found = Vec::new();
        for entry in entries {
            let path = entry.map_err(TrainError::storage("list", &self.folder))?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if let Some(step) = name.strip_prefix(PREFIX).and_then(|step| step.parse().ok()) {
                found.push(Found { step, path });
            }
        }
        found.sort_by_key(|found| found.step);
        Ok(found)
    }

    /// Keeps the newest up to `step` and nothing else, also where a process was killed before it had done so. Those after it are damaged, or follow from one that is: the run went back behind them.
    ///
    /// # Errors
    /// `Storage` when the folder cannot be read or the rest not be removed.
    pub fn tidy(&self, step: u64) -> Result<()> {
        let (all, later): (Vec<Found>, Vec<Found>) = self.list()?.into_iter().partition(|found| found.step <= step);
        for old in all[..all.len().saturating_sub(self.keep)].iter().chain(&later) {
            discard(&old.path)?;
        }
        self.clear_unfinished()
    }

    /// Removes what a process left that was killed while it wrote.
    fn clear_unfinished(&self) -> Result<()> {
        let Ok(entries) = fs::read_dir(&self.folder) else { return Ok(()) };
        for entry in entries {
            let entry = entry.map_err(TrainError::storage("list", &self.folder))?;
            if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
                discard(&entry.path())?;
            }
        }
        Ok(())
    }
}

fn discard(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(TrainError::storage("remove", path)(error)),
        _ => Ok(()),
    }
}

fn hash(path: &Path) -> Result<String> {
    let bytes = fs::read(path).map_err(TrainError::storage("read", path))?;
    Ok(blake3::hash(&bytes).to_hex().to_string())
}

/// Writes the hashes of all files of a folder, and makes the files durable.
fn seal(folder: &Path) -> Result<()> {
    let mut hashes = BTreeMap::new();
    for entry in fs::read_dir(folder).map_err(TrainError::storage("list", folder))? {
        let path = entry.map_err(TrainError::storage("list", folder))?.path();
        let file = fs::File::open(&path).map_err(TrainError::storage("open", &path))?;
        file.sync_all().map_err(TrainError::storage("write", &path))?;
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        hashes.insert(name, hash(&path)?);
    }
    let text = serde_json::to_vec_pretty(&hashes).map_err(|source| TrainError::Json { what: CHECKSUMS, source })?;
    write_atomic(folder.join(CHECKSUMS), &text)?;
    sync_folder(folder)
}

/// Holds every file of a checkpoint against its hash.
///
/// # Errors
/// `Damaged` naming the file that is missing or differs.
pub fn verify(folder: &Path) -> Result<()> {
    let damaged = |file: &str| TrainError::Damaged { path: folder.join(file) };
    let text = fs::read(folder.join(CHECKSUMS)).map_err(|_| damaged(CHECKSUMS))?;
    let hashes: BTreeMap<String, String> = serde_json::from_slice(&text).map_err(|_| damaged(CHECKSUMS))?;
    for (name, expected) in &hashes {
        let inside = Path::new(name).components().count() == 1 && !name.contains("..");
        if !inside || hash(&folder.join(name)).ok().as_ref() != Some(expected) {
            return Err(damaged(name));
        }
    }
    if hashes.is_empty() { Err(damaged(CHECKSUMS)) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(text: &str) -> impl FnOnce(&Path) -> Result<()> {
        move |folder| fs::write(folder.join("a"), text).map_err(TrainError::storage("write", folder))
    }

    fn steps(checkpoints: &Checkpoints) -> Vec<u64> {
        checkpoints.list().unwrap().iter().map(|found| found.step).collect()
    }

    #[test]
    fn the_newest_are_kept_and_found() {
        let folder = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::new(folder.path().join("run"), 2);
        assert_eq!(checkpoints.newest().unwrap().0, None);
        for step in [5, 10, 15] {
            checkpoints.save(step, write("x")).unwrap();
        }
        assert_eq!(steps(&checkpoints), [10, 15]);
        assert_eq!(checkpoints.newest().unwrap().0.unwrap().step, 15);
    }

    #[test]
    fn a_flipped_bit_or_a_missing_file_is_named_and_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::new(folder.path().to_path_buf(), 3);
        for step in [1, 2, 3] {
            checkpoints.save(step, write("x")).unwrap();
        }
        fs::write(folder.path().join("step-00000003/a"), "y").unwrap();
        fs::remove_file(folder.path().join("step-00000002").join(CHECKSUMS)).unwrap();
        let (found, damaged) = checkpoints.newest().unwrap();
        assert_eq!(found.unwrap().step, 1);
        assert_eq!(damaged.len(), 2);
        assert!(damaged[0].to_string().contains("step-00000003"), "{}", damaged[0]);
        assert_eq!(damaged[0].exit_code(), 8);
    }

    #[test]
    fn saving_clears_what_a_killed_process_left_and_what_lies_after() {
        let folder = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::new(folder.path().to_path_buf(), 2);
        for step in [3, 6, 9] {
            checkpoints.save(step, write("x")).unwrap();
        }
        fs::create_dir(folder.path().join(".unfinished-00000012")).unwrap();
        checkpoints.save(4, write("x")).unwrap();
        assert_eq!(steps(&checkpoints), [4]);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_failed_save_leaves_the_older_checkpoint_and_no_litter() {
        let folder = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::new(folder.path().to_path_buf(), 1);
        checkpoints.save(1, write("x")).unwrap();
        let full = |path: &Path| -> Result<()> {
            fs::write(path.join("half"), "x").map_err(TrainError::storage("write", path))?;
            Err(TrainError::storage("write", path)(std::io::ErrorKind::StorageFull.into()))
        };
        let error = checkpoints.save(2, full).unwrap_err();
        assert_eq!(error.exit_code(), 7);
        assert_eq!(steps(&checkpoints), [1]);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}

//! One process a run folder.

use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Seek, Write};
use std::path::{Path, PathBuf};

use crate::error::{Result, TrainError};
use crate::say::tell;

const FILE: &str = "run.lock";

/// Held by the process that writes into a run folder, until dropped.
///
/// The lock is the operating system's, on the file `run.lock`: it ends with the process, however that ends.
#[derive(Debug)]
pub struct RunLock {
    file: File,
}

/// Notice that the folder's last process died without letting go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Takeover {
    /// The run folder.
    pub folder: PathBuf,
    /// Process id that the dead process left.
    pub pid: String,
}

impl fmt::Display for Takeover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} was left locked by process {}, which is gone; taken over", self.folder.display(), self.pid)
    }
}

impl RunLock {
    /// Takes the folder, which is made where it is missing; says so where a dead process had left it locked.
    ///
    /// # Errors
    /// `Locked` while another process holds it, with that process's id; `Storage` if the file cannot be written.
    pub fn acquire(folder: impl AsRef<Path>) -> Result<(Self, Option<Takeover>)> {
        let folder = folder.as_ref();
        fs::create_dir_all(folder).map_err(TrainError::storage("create folder", folder))?;
        let path = folder.join(FILE);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(TrainError::storage("open", &path))?;
        let held = match file.try_lock() {
            Ok(()) => false,
            Err(TryLockError::WouldBlock) => true,
            Err(TryLockError::Error(source)) => return Err(TrainError::storage("lock", &path)(source)),
        };
        let mut pid = String::new();
        file.read_to_string(&mut pid).map_err(TrainError::storage("read", &path))?;
        let pid = pid.trim().to_owned();
        if held {
            let pid = if pid.is_empty() { "unknown".to_owned() } else { pid };
            return Err(TrainError::Locked { folder: folder.to_path_buf(), pid });
        }
        Self::sign(&mut file).map_err(TrainError::storage("write", &path))?;
        let takeover = (!pid.is_empty()).then(|| Takeover { folder: folder.to_path_buf(), pid });
        Ok((Self { file }, takeover))
    }

    fn sign(file: &mut File) -> std::io::Result<()> {
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", std::process::id())?;
        file.flush()
    }
}

/// The turn of one process or thread at what several may want to do first, until dropped.
#[derive(Debug)]
pub struct Turn {
    _file: File,
}

impl Turn {
    /// Waits until nobody else has the turn at `folder`, which is made where it is missing; says so where that takes a while. None
    /// where the folder cannot be written: who only reads needs no turn.
    ///
    /// # Errors
    /// `Storage` if the file `turn.lock` cannot be opened for another reason, or not be locked.
    pub fn wait(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join("turn.lock");
        let open = || OpenOptions::new().write(true).create(true).truncate(false).open(&path);
        let file = match fs::create_dir_all(folder).and_then(|()| open()) {
            Ok(file) => file,
            Err(error) if [ErrorKind::ReadOnlyFilesystem, ErrorKind::PermissionDenied].contains(&error.kind()) => {
                return Ok(None);
            }
            Err(source) => return Err(TrainError::storage("open", &path)(source)),
        };
        match file.try_lock() {
            Ok(()) => (),
            Err(TryLockError::WouldBlock) => {
                tell!("note: waits for another run at {}", folder.display());
                file.lock().map_err(TrainError::storage("lock", &path))?;
            }
            Err(TryLockError::Error(source)) => return Err(TrainError::storage("lock", &path)(source)),
        }
        Ok(Some(Self { _file: file }))
    }
}

impl Drop for RunLock {
    /// An empty lock file says that its process ended in order; the file stays, as removing it would race.
    fn drop(&mut self) {
        if let Err(error) = self.file.set_len(0) {
            tell!("warning: run.lock could not be emptied: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_is_refused_and_a_dead_one_replaced() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("runs/x");
        let (lock, takeover) = RunLock::acquire(&folder).unwrap();
        assert_eq!(takeover, None);

        let error = RunLock::acquire(&folder).unwrap_err();
        let TrainError::Locked { pid, .. } = &error else { panic!("{error}") };
        assert_eq!(*pid, std::process::id().to_string());
        assert_eq!(error.exit_code(), 7);

        drop(lock);
        assert_eq!(RunLock::acquire(&folder).unwrap().1, None);

        fs::write(folder.join(FILE), "4194305\n").unwrap(); // As a killed process leaves it.
        let (_lock, takeover) = RunLock::acquire(&folder).unwrap();
        assert_eq!(takeover.unwrap().pid, "4194305");
    }

    #[test]
    fn turns_are_taken_one_after_the_other() {
        let parent = tempfile::tempdir().unwrap();
        let (folder, taken) = (parent.path().join("cache"), std::sync::atomic::AtomicBool::new(false));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let _turn = Turn::wait(&folder).unwrap();
                        assert!(!taken.swap(true, std::sync::atomic::Ordering::SeqCst));
                        std::thread::yield_now();
                        taken.store(false, std::sync::atomic::Ordering::SeqCst);
                    }
                });
            }
        });
    }
}

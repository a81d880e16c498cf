//! Files that are written whole: into a temporary file beside them, synced, then renamed.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use crate::error::{Result, TrainError};

/// Replaces `path` by `bytes`, or leaves it as it was.
///
/// # Errors
/// As [`write_atomic_with`].
pub fn write_atomic(path: impl AsRef<Path>, bytes: &[u8]) -> Result<()> {
    write_atomic_with(path, |out| out.write_all(bytes))
}

/// Replaces `path` by what `write` writes, or leaves it as it was. Makes the folder where it is missing.
///
/// When it returns, file and folder have reached the disk.
///
/// # Errors
/// `Storage`, which names `path`: the disk is full, the folder is not writable. No partial file is left behind.
pub fn write_atomic_with(path: impl AsRef<Path>, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
    let path = path.as_ref();
    let folder = folder_of(path);
    fs::create_dir_all(folder).map_err(TrainError::storage("create folder", folder))?;
    let temporary = temporary_in(folder).map_err(TrainError::storage("write", path))?;
    fill(temporary.as_file(), path, write)?;
    temporary.as_file().sync_all().map_err(TrainError::storage("sync", path))?;
    temporary.persist(path).map_err(|refused| TrainError::storage("rename to", path)(refused.error))?;
    sync_folder(folder)
}

/// Makes renames inside `folder` survive a power loss. Does nothing where a folder cannot be opened as a file.
///
/// # Errors
/// `Storage`, which names `folder`.
pub fn sync_folder(folder: impl AsRef<Path>) -> Result<()> {
    let folder = folder.as_ref();
    if cfg!(unix) {
        File::open(folder).and_then(|open| open.sync_all()).map_err(TrainError::storage("sync folder", folder))?;
    }
    Ok(())
}

/// Writes through a buffer into `file`, and names `path` where that fails.
fn fill(file: impl Write, path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
    let mut buffered = BufWriter::new(file);
    write(&mut buffered).and_then(|()| buffered.flush()).map_err(TrainError::storage("write", path))
}

/// The folder that holds `path`; `.` for a bare file name.
fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// A temporary file with the permissions an ordinary new file has, not those of a secret.
fn temporary_in(folder: &Path) -> io::Result<tempfile::NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".writing-");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(fs::Permissions::from_mode(0o666)); // The umask is taken off by the system.
    }
    builder.tempfile_in(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes `room` bytes, then is full.
    struct SmallDisk {
        room: usize,
    }

    impl Write for SmallDisk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.room == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            let taken = bytes.len().min(self.room);
            self.room -= taken;
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn names_path(error: &TrainError, expected: &str) {
        let TrainError::Storage { path, source, .. } = error else { panic!("{error}") };
        assert_eq!(path, Path::new(expected));
        assert_eq!(source.kind(), io::ErrorKind::StorageFull);
        assert_eq!(error.exit_code(), 7);
    }

    #[test]
    fn replaces_the_file_and_leaves_nothing_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/folder/file.txt");
        write_atomic(&path, b"one").unwrap();
        write_atomic(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn a_writer_that_fails_leaves_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file.txt");
        write_atomic(&path, b"old").unwrap();
        let error = write_atomic_with(&path, |out| {
            out.write_all(b"half of the new")?;
            Err(io::ErrorKind::StorageFull.into())
        })
        .unwrap_err();
        names_path(&error, path.to_str().unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_full_disk_is_seen_although_writes_are_buffered() {
        let error = fill(SmallDisk { room: 4 }, Path::new("a/b"), |out| out.write_all(b"12345")).unwrap_err();
        names_path(&error, "a/b");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_device_is_seen() {
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let error = fill(full, Path::new("/dev/full"), |out| out.write_all(b"1")).unwrap_err();
        names_path(&error, "/dev/full");
    }

    #[cfg(unix)]
    #[test]
    fn permissions_are_those_of_an_ordinary_file() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let (ours, plain) = (folder.path().join("ours"), folder.path().join("plain"));
        write_atomic(&ours, b"").unwrap();
        fs::write(&plain, b"").unwrap();
        let mode = |path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(ours), mode(plain));
    }
}

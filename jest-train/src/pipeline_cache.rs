//! Compiled kernels on disk, so that a GPU's driver compiles each once.

use std::path::{Path, PathBuf};

use jest_kernels::Device;

use crate::{Result, storage};

/// What stands in front of the driver's bytes: their checksum.
const HEADER: usize = blake3::OUT_LEN;
/// Bytes beyond which a file is neither read nor written: all kernels together compile to some megabytes.
const LIMIT: u64 = 256 << 20;

/// Lets the device use the kernels kept in `folder`; gives a note where a file is damaged, which is then ignored.
pub fn load(device: &Device, folder: &Path) -> Option<String> {
    let path = file(device, folder)?;
    let size = std::fs::metadata(&path).map_or(0, |file| file.len());
    let read = if size > LIMIT { None } else { std::fs::read(&path).ok() };
    let kept = read.as_deref().and_then(checked);
    let why = match (&read, kept) {
        _ if size > LIMIT => Some(format!("has {size} bytes, more than {LIMIT}")),
        (Some(_), None) => Some("is damaged".to_string()),
        _ => None,
    };
    let note = why.map(|why| format!("{} {why}, and is ignored", path.display()));
    // SAFETY: the bytes are those that `save` wrote under this adapter's key: the user's cache folder is trusted not to be
    // forged, as the programs in it are, and a file that was cut or damaged has another checksum.
    unsafe { device.load_pipelines(kept) };
    note
}

/// Keeps the kernels that the device has compiled; does nothing where its driver has no such cache, or nothing is new, or
/// they are too large.
///
/// # Errors
/// `Storage`.
pub fn save(device: &Device, folder: &Path) -> Result<()> {
    let (Some(path), Some(compiled)) = (file(device, folder), device.compiled_pipelines()) else { return Ok(()) };
    if compiled.len() as u64 > LIMIT - HEADER as u64 {
        return Ok(());
    }
    let bytes = [blake3::hash(&compiled).as_bytes(), compiled.as_slice()].concat();
    let as_long = std::fs::metadata(&path).is_ok_and(|file| file.len() == bytes.len() as u64);
    if as_long && std::fs::read(&path).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    storage::write_atomic(path, &bytes)
}

fn file(device: &Device, folder: &Path) -> Option<PathBuf> {
    Some(folder.join(format!("{}.bin", device.pipeline_cache_key()?)))
}

fn checked(bytes: &[u8]) -> Option<&[u8]> {
    let (sum, compiled) = bytes.split_at_checked(HEADER)?;
    (blake3::hash(compiled).as_bytes() == sum).then_some(compiled)
}

#[cfg(test)]
mod tests {
    use jest_kernels::ops::gelu::{self, Gelu};
    use jest_kernels::testing::lesser_gpu;

    use super::*;

    /// Computes GELU of one number on a device that has loaded what the folder holds; gives the note, and what was saved.
    fn run(folder: &Path) -> (Option<String>, Vec<u8>) {
        let device = lesser_gpu(Default::default());
        let note = load(&device, folder);
        let mut pass = device.pass();
        let x = pass.upload(&[1.0], &[1]).unwrap();
        let y = gelu::forward(&mut pass, Gelu::Tanh, &x).unwrap();
        assert!((pass.read(&y).unwrap()[0] - 0.8412).abs() < 1e-4);
        save(&device, folder).unwrap();
        (note, std::fs::read(file(&device, folder).unwrap()).unwrap())
    }

    #[test]
    fn what_was_kept_is_used_and_what_is_damaged_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let (note, first) = run(folder.path());
        assert!(note.is_none() && first.len() > HEADER);
        assert!(run(folder.path()).0.is_none());
        let path = std::fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
        let mut hurt = first.clone();
        *hurt.last_mut().unwrap() ^= 1;
        for damaged in [&hurt[..], b"short"] {
            std::fs::write(&path, damaged).unwrap();
            let (note, again) = run(folder.path());
            assert!(note.unwrap().contains("damaged") && checked(&again).is_some());
        }
        std::fs::File::options().write(true).open(&path).unwrap().set_len(LIMIT + 1).unwrap();
        assert!(run(folder.path()).0.unwrap().contains("more than 268435456"));
    }

    #[test]
    fn the_cpu_device_keeps_nothing() {
        let device = Device::open(&jest_kernels::DeviceRequest::Cpu, Default::default()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        assert!(load(&device, folder.path()).is_none());
        save(&device, folder.path()).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}

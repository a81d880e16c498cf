//! Writes tar shards as WebDataset reads them: the same samples give the same bytes.

use crate::{DataError, Result, Surveyed};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// Where shards are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardSize {
    /// Most samples of a shard.
    pub samples: u64,
    /// Bytes after which a shard takes no further sample.
    pub bytes: u64,
}

impl Default for ShardSize {
    /// 10,000 samples, as img2dataset, and 3e9 bytes, as WebDataset.
    fn default() -> ShardSize {
        ShardSize { samples: 10_000, bytes: 3_000_000_000 }
    }
}

/// Writes `00000.tar`, `00001.tar`, ... into an empty folder, and `sizes.json` last: a folder without it is not finished.
///
/// A sample's members are `NNNNNNNNN.jpg|png|webp` with the picture's own bytes, `.txt` with its first caption, `.cls` with its label
/// where it has one, and `.json` with its metadata, to which `source_key` and, where there are several, `captions` are added. Times and
/// owners are zero.
#[derive(Debug)]
pub struct ShardWriter {
    folder: PathBuf,
    size: ShardSize,
    open: Option<Open>,
    sizes: BTreeMap<String, u64>,
    written: u64,
}

#[derive(Debug)]
struct Open {
    tar: BufWriter<NamedTempFile>,
    samples: u64,
    bytes: u64,
}

impl ShardWriter {
    /// Makes the folder, which must not hold anything.
    ///
    /// # Errors
    /// `Io` if it cannot be made; `Table` if it holds something.
    pub fn create(folder: &Path, size: ShardSize) -> Result<ShardWriter> {
        std::fs::create_dir_all(folder).map_err(DataError::io("create", folder))?;
        let mut entries = std::fs::read_dir(folder).map_err(DataError::io("list", folder))?;
        if entries.next().is_some() {
            let problem = "the folder is not empty; shards are written into an empty one".to_string();
            return Err(DataError::Table { path: folder.to_path_buf(), problem });
        }
        Ok(ShardWriter { folder: folder.to_path_buf(), size, open: None, sizes: BTreeMap::new(), written: 0 })
    }

    /// Adds a sample.
    ///
    /// # Errors
    /// `Io` if the shard cannot be written.
    pub fn add(&mut self, sample: &Surveyed) -> Result<()> {
        let full = |open: &Open| open.samples >= self.size.samples || open.bytes >= self.size.bytes;
        if self.open.as_ref().is_some_and(full) {
            self.close()?;
        }
        self.append(sample).map_err(DataError::io("write", &self.folder))?;
        self.written += 1;
        Ok(())
    }

    fn append(&mut self, sample: &Surveyed) -> io::Result<()> {
        if self.open.is_none() {
            let tar = BufWriter::with_capacity(1 << 20, NamedTempFile::new_in(&self.folder)?);
            self.open = Some(Open { tar, samples: 0, bytes: 0 });
        }
        let Some(open) = self.open.as_mut() else { return Ok(()) };
        let key = format!("{:09}", self.written);
        open.member(&format!("{key}.{}", sample.header.ending), &sample.image)?;
        open.member(&format!("{key}.txt"), sample.captions.first().map_or("", String::as_str).as_bytes())?;
        if let Some(class) = &sample.class {
            open.member(&format!("{key}.cls"), class.as_bytes())?;
        }
        open.member(&format!("{key}.json"), metadata(sample).as_bytes())?;
        open.samples += 1;
        Ok(())
    }

    fn close(&mut self) -> Result<()> {
        let Some(mut open) = self.open.take() else { return Ok(()) };
        let name = format!("{:05}.tar", self.sizes.len());
        let path = self.folder.join(&name);
        let mut finish = || -> io::Result<()> {
            open.tar.write_all(&[0; 1024])?;
            open.tar.flush()?;
            open.tar.get_ref().as_file().sync_all()
        };
        finish().map_err(DataError::io("write", &path))?;
        let file = open.tar.into_inner().map_err(|e| DataError::io("write", &path)(e.into_error()))?;
        publish(file, &path)?;
        self.sizes.insert(name, open.samples);
        Ok(())
    }

    /// Ends the last shard and writes `sizes.json`; samples by shard.
    ///
    /// # Errors
    /// `Io` if they cannot be written.
    pub fn finish(mut self) -> Result<BTreeMap<String, u64>> {
        self.close()?;
        let path = self.folder.join("sizes.json");
        let entries: Vec<String> = self.sizes.iter().map(|(name, n)| format!("  \"{name}\": {n}")).collect();
        let write = || -> io::Result<NamedTempFile> {
            let mut file = NamedTempFile::new_in(&self.folder)?;
            write!(file, "{{\n{}\n}}\n", entries.join(",\n"))?;
            file.as_file().sync_all()?;
            Ok(file)
        };
        publish(write().map_err(DataError::io("write", &path))?, &path)?;
        Ok(self.sizes)
    }
}

impl Open {
    fn member(&mut self, name: &str, content: &[u8]) -> io::Result<()> {
        let mut header = tar::Header::new_ustar();
        header.set_path(name)?;
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        header.set_cksum();
        self.tar.write_all(header.as_bytes())?;
        self.tar.write_all(content)?;
        let padding = content.len().next_multiple_of(512) - content.len();
        self.tar.write_all(&[0; 512][..padding])?;
        self.bytes += (512 + content.len() + padding) as u64;
        Ok(())
    }
}

/// Renames a whole file to its name, readable by others as files usually are.
fn publish(file: NamedTempFile, path: &Path) -> Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let readable = std::fs::Permissions::from_mode(0o644);
        std::fs::set_permissions(file.path(), readable).map_err(DataError::io("write", path))?;
    }
    file.persist(path).map_err(|e| DataError::io("write", path)(e.error))?;
    Ok(())
}

fn metadata(sample: &Surveyed) -> String {
    let object = sample.json.as_deref().and_then(|json| serde_json::from_str::<Map<String, Value>>(json).ok());
    let mut object = object.unwrap_or_default();
    object.entry("source_key").or_insert_with(|| Value::from(sample.key.as_str()));
    if sample.captions.len() > 1 {
        object.entry("captions").or_insert_with(|| Value::from(sample.captions.clone()));
    }
    Value::Object(object).to_string()
}

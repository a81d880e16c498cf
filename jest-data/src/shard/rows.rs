//! The samples of any shard, one after the other.

use super::Broken;
use super::group::{Found, RawSample, SampleReader};
use super::open::open_shard;
use crate::remote::Asked;
use crate::source::{FileList, Table, draw};
use crate::{Limits, Shard, SkipReason, source::ShardKind};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// What a shard holds, in its order.
pub(crate) type Samples<'a> = Box<dyn Iterator<Item = Found> + 'a>;

/// Opens a shard and reads it sample by sample; one on a server may have been asked for before.
pub(crate) fn read_samples<'a>(shard: &'a Shard, asked: Option<Asked>, limits: &Limits) -> Result<Samples<'a>, Broken> {
    match &shard.kind {
        ShardKind::Tar(what) => Ok(Box::new(SampleReader::new(open_shard(shard, asked)?, *limits, what))),
        #[cfg(feature = "parquet")]
        ShardKind::Parquet(options) => super::parquet::read(&shard.path, options, limits),
        #[cfg(not(feature = "parquet"))]
        ShardKind::Parquet(_) => {
            let detail = "Parquet; build jest-data with its feature `parquet`, or repack as .tar";
            Err(Broken::new(SkipReason::ShardFormat, detail))
        }
        ShardKind::Rows(table, first) => rows(table, *first, &shard.path),
        ShardKind::Files(list, first) => Ok(files(list, *first)),
        ShardKind::Synthetic(first, count) => Ok(Box::new((*first..first + count).filter_map(synthetic))),
    }
}

fn rows<'a>(table: &Table, first: u64, path: &Path) -> Result<Samples<'a>, Broken> {
    let unread = |e: std::io::Error| Broken::new(SkipReason::ShardMissing, format!("{}: {e}", path.display()));
    let rows = table.block(first).map_err(unread)?;
    let found = (first..).zip(rows).map(|(number, row)| match row {
        Ok(row) => Found::Sample(RawSample {
            // A picture may stand in many rows, each an example of its own.
            repeat: number as u32,
            captions: row.captions,
            json: Some(row.json.into_bytes()),
            beside: Some(Beside { image: row.image, stem: None }),
            ..RawSample::of(row.key)
        }),
        Err(problem) => Found::Note(Some(format!("row {}", number + 1)), Broken::new(SkipReason::BadRow, problem)),
    });
    Ok(Box::new(found))
}

fn files(list: &FileList, first: u64) -> Samples<'_> {
    Box::new(list.block(first).map(|entry| {
        Found::Sample(RawSample {
            captions: entry.captions,
            class: entry.class.map(|class| class.to_string().into_bytes()),
            beside: Some(Beside { image: entry.image, stem: entry.beside }),
            ..RawSample::of(entry.key)
        })
    }))
}

fn synthetic(i: u64) -> Option<Found> {
    let (png, caption) = draw(i)?;
    Some(Found::Sample(RawSample {
        image: Some(png),
        captions: vec![caption.into_bytes()],
        class: Some((i % 64).to_string().into_bytes()),
        ..RawSample::of(format!("{i:09}"))
    }))
}

/// Files of a sample that are still to be read: by a worker, so that one thread does not wait for all of them.
#[derive(Debug)]
pub(crate) struct Beside {
    pub image: PathBuf,
    /// Path without ending at which `.txt` and `.json` lie, where captions lie beside pictures.
    pub stem: Option<PathBuf>,
}

impl RawSample {
    /// Reads the `.json` that lies beside the picture.
    pub fn load_json(&mut self, limits: &Limits) {
        if let Some(path) =
            self.beside.as_ref().and_then(|beside| beside.stem.as_deref()).map(|stem| with(stem, ".json"))
            && self.json.is_none()
        {
            self.json = read(&path, limits.member_bytes).ok();
        }
    }

    /// Reads the files that belong to the sample.
    pub fn load(&mut self, limits: &Limits) {
        self.load_json(limits);
        let Some(beside) = self.beside.take() else { return };
        if let Some(stem) = &beside.stem
            && let Ok(text) = read(&with(stem, ".txt"), limits.member_bytes)
        {
            self.captions = vec![text];
        }
        match read(&beside.image, limits.member_bytes) {
            Ok(bytes) => self.image = Some(bytes),
            Err(broken) => self.refused = Some(broken),
        }
    }
}

fn with(stem: &Path, ending: &str) -> PathBuf {
    let mut path = stem.as_os_str().to_os_string();
    path.push(ending);
    path.into()
}

fn read(path: &Path, most: u64) -> Result<Vec<u8>, Broken> {
    let missing = |e: std::io::Error| Broken::new(SkipReason::ImageMissing, format!("{}: {e}", path.display()));
    let mut bytes = Vec::new();
    File::open(path).map_err(missing)?.take(most.saturating_add(1)).read_to_end(&mut bytes).map_err(missing)?;
    if bytes.len() as u64 > most {
        let detail = format!("{}: more than {most} bytes", path.display());
        return Err(Broken::new(SkipReason::MemberTooLarge, detail));
    }
    Ok(bytes)
}

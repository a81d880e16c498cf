//! Tiles of matrix products that were chosen by timing: in plans and checkpoints, and on disk for the next run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jest_kernels::Device;
use serde::{Deserialize, Serialize};

use crate::lock::Turn;
use crate::{Result, TrainError, storage};

/// Version of the file.
const FORMAT: u32 = 1;
/// A file of more bytes is none of ours.
const MOST_BYTES: u64 = 1 << 20;

/// Name of the tile by the name of the class of shapes, the adapter and its driver; written as a list of `CLASS: TILE`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct Tiles(pub BTreeMap<String, String>);

impl From<Tiles> for Vec<String> {
    fn from(tiles: Tiles) -> Self {
        tiles.0.into_iter().map(|(class, tile)| format!("{class}: {tile}")).collect()
    }
}

impl TryFrom<Vec<String>> for Tiles {
    type Error = String;

    fn try_from(lines: Vec<String>) -> std::result::Result<Self, String> {
        let parsed = lines.iter().map(|line| {
            let (class, tile) = line.rsplit_once(": ").ok_or_else(|| {
                format!("tile {line:?} is not written as `CLASS: TILE`; copy it from a plan.toml, or leave `tiles` out")
            })?;
            Ok((class.to_owned(), tile.to_owned()))
        });
        parsed.collect::<std::result::Result<_, _>>().map(Self)
    }
}

impl Tiles {
    /// Whether nothing was chosen.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The file, of one adapter under one driver.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    format: u32,
    adapter: String,
    driver: String,
    tiles: Tiles,
}

impl Kept {
    fn of(device: &Device) -> Self {
        let info = device.info();
        Self { format: FORMAT, adapter: info.name, driver: info.driver, tiles: Tiles(device.tiles()) }
    }
}

/// The tiles that `folder` has for this device, and a note where its file cannot be used: then all is timed anew.
pub fn load(device: &Device, folder: &Path) -> (Tiles, Option<String>) {
    let path = file(device, folder);
    let Ok(length) = std::fs::metadata(&path).map(|found| found.len()) else { return (Tiles::default(), None) };
    let text = if length > MOST_BYTES { None } else { std::fs::read(&path).ok() };
    let kept = text.and_then(|text| serde_json::from_slice::<Kept>(&text).ok());
    let own = Kept::of(device);
    match kept.filter(|kept| (kept.format, &kept.adapter, &kept.driver) == (FORMAT, &own.adapter, &own.driver)) {
        Some(kept) => (kept.tiles, None),
        None => (Tiles::default(), Some(format!("{} cannot be used; tiles are timed anew", path.display()))),
    }
}

/// Keeps the tiles of this device beside those that other processes kept meanwhile; writes nothing where none was chosen.
///
/// # Errors
/// `Storage`.
pub fn save(device: &Device, folder: &Path) -> Result<()> {
    let mut kept = Kept::of(device);
    if kept.tiles.is_empty() {
        return Ok(());
    }
    // Nobody else writes between this reading and the writing.
    let _turn = Turn::wait(folder)?;
    let mut all = load(device, folder).0;
    all.0.append(&mut kept.tiles.0);
    kept.tiles = all;
    let text = serde_json::to_vec_pretty(&kept).map_err(|source| TrainError::Json { what: "tiles", source })?;
    storage::write_atomic(file(device, folder), &text)
}

fn file(device: &Device, folder: &Path) -> PathBuf {
    let info = device.info();
    let digest = blake3::hash(format!("{}\0{}", info.name, info.driver).as_bytes()).to_hex();
    folder.join(format!("tiles-{}.json", &digest[..16]))
}

#[cfg(test)]
mod tests {
    use jest_kernels::testing::lesser_gpu;

    use super::*;

    fn chosen() -> Tiles {
        let info = lesser_gpu(Default::default()).info();
        let class = format!("ab f32 z1 m64 n64 k64 fours rows on {}, {}", info.name, info.driver);
        Tiles([(class, "wide".to_owned())].into())
    }

    #[test]
    fn what_was_chosen_is_there_for_the_next_run() {
        let (folder, device) = (tempfile::tempdir().unwrap(), lesser_gpu(Default::default()));
        assert_eq!(load(&device, folder.path()), (Tiles::default(), None));
        save(&device, folder.path()).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing was chosen");
        device.use_tiles(chosen().0);
        save(&device, folder.path()).unwrap();
        assert_eq!(load(&device, folder.path()), (chosen(), None));
    }

    #[test]
    fn what_two_processes_chose_at_once_is_kept_of_both() {
        const CLASSES: usize = 8;
        let folder = tempfile::tempdir().unwrap();
        let begin = std::sync::Barrier::new(2);
        let choose = &|form: &'static str| {
            let device = lesser_gpu(Default::default());
            let info = device.info();
            begin.wait();
            for class in 0..CLASSES {
                let class = format!("{form} f32 z1 m64 n64 k{} on {}, {}", 1 << class, info.name, info.driver);
                device.use_tiles([(class, "wide".to_owned())].into());
                save(&device, folder.path()).unwrap();
            }
        };
        std::thread::scope(|scope| {
            ["ab", "atb"].into_iter().for_each(|form| drop(scope.spawn(move || choose(form))));
        });
        assert_eq!(load(&lesser_gpu(Default::default()), folder.path()).0.0.len(), 2 * CLASSES);
        // What this process chose anew takes the place of what it had kept.
        let device = lesser_gpu(Default::default());
        let (class, _) = load(&device, folder.path()).0.0.pop_first().unwrap();
        device.use_tiles([(class.clone(), "large".to_owned())].into());
        save(&device, folder.path()).unwrap();
        let kept = load(&device, folder.path()).0.0;
        assert_eq!((kept.len(), kept[&class].as_str()), (2 * CLASSES, "large"));
    }

    #[test]
    fn what_is_not_ours_is_noted_and_timed_anew() {
        let (folder, device) = (tempfile::tempdir().unwrap(), lesser_gpu(Default::default()));
        device.use_tiles(chosen().0);
        save(&device, folder.path()).unwrap();
        let path = file(&device, folder.path());
        let good = std::fs::read_to_string(&path).unwrap();
        let longest = "x".repeat(MOST_BYTES as usize + 1);
        for hostile in [
            "",
            "[]",
            "\0\u{7f}",
            &good[..good.len() / 2],
            &good.replace("\"format\": 1", "\"format\": 2"),
            &good.replace("llvmpipe", "another"),
            &good.replace(": wide", " wide"),
            &good.replace("\"tiles\"", "\"more\": 1, \"tiles\""),
            &longest,
        ] {
            assert_ne!(hostile, good);
            std::fs::write(&path, hostile).unwrap();
            let (tiles, note) = load(&device, folder.path());
            assert!(tiles.is_empty() && note.unwrap().contains("timed anew"), "{:.80}", hostile);
        }
        save(&device, folder.path()).unwrap();
        assert_eq!(load(&device, folder.path()), (chosen(), None));
    }
}

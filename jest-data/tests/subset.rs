//! DataComp's subset files: read as numpy wrote them, written as numpy reads them, refused where they are none.
// Helpers fail as tests do.
#![allow(clippy::unwrap_used)]

mod common;

use common::{archive, config, folder, png};
use jest_data::{DataError, ExampleId, Fields, Loader, LoaderConfig, LoaderState, Source, Subset, read_all};
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/sources").join(name)
}

/// The uids of `fixtures/sources/make.py`.
fn uid(i: u128) -> ExampleId {
    ExampleId::from_bytes((i.wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835)).to_be_bytes())
}

#[test]
fn what_numpy_wrote_is_read_and_written_again_byte_for_byte() {
    let subset = Subset::open(&fixture("subset.npy")).unwrap();
    assert_eq!(subset.len(), 4);
    let found: Vec<bool> = (1..=6).map(|i| subset.contains(uid(i)).unwrap()).collect();
    assert_eq!(found, [true, false, false, true, true, false]);
    assert!(subset.contains(ExampleId::from_bytes([0xff; 16])).unwrap());
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("again.npy");
    let uids = [uid(5), ExampleId::from_bytes([0xff; 16]), uid(1), uid(4), uid(1)];
    assert_eq!(Subset::write(&path, uids).unwrap(), 4);
    assert_eq!(std::fs::read(path).unwrap(), std::fs::read(fixture("subset.npy")).unwrap());
}

#[test]
fn a_large_subset_finds_what_it_has_and_nothing_else() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("s.npy");
    for n in [0u128, 1, 255, 256, 257, 5000] {
        assert_eq!(Subset::write(&path, (0..n).map(|i| uid(2 * i + 1))).unwrap(), n as u64);
        let subset = Subset::open(&path).unwrap();
        assert!((0..n).all(|i| subset.contains(uid(2 * i + 1)).unwrap()), "{n}");
        assert!((0..n + 3).all(|i| !subset.contains(uid(2 * i + 2)).unwrap()), "{n}");
    }
}

#[test]
fn files_that_are_none_say_what_one_is() {
    let check = |path: &Path, says: &str| {
        let error = Subset::open(path).unwrap_err();
        assert!(matches!(error, DataError::Table { .. }) && error.to_string().contains(says), "{error}");
    };
    check(&fixture("unsorted.npy"), "entry 1 (");
    check(&fixture("unsorted.npy"), "np.sort");
    check(&fixture("floats.npy"), "its dtype is '<f8'");
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("x.npy");
    let whole = std::fs::read(fixture("subset.npy")).unwrap();
    std::fs::write(&path, &whole[..whole.len() - 5]).unwrap();
    check(&path, "is cut or has a tail");
    std::fs::write(&path, b"uid,score\n").unwrap();
    check(&path, "is no numpy file");
    let text = |from: &str, to: &str| String::from_utf8_lossy(&whole[10..128]).replace(from, to);
    let with = |text: String| [&whole[..10], text.as_bytes(), &whole[128..]].concat();
    std::fs::write(&path, with(text("<u8", ">u8"))).unwrap();
    check(&path, ">u8");
    std::fs::write(&path, with(text("(4,), ", "(2,2),"))).unwrap();
    check(&path, "not one dimension");
    std::fs::write(&path, with(text("(4,)", "(9,)"))).unwrap();
    check(&path, "is cut");
    assert!(matches!(Subset::open(Path::new("nowhere.npy")), Err(DataError::Io { .. })));
}

/// Samples 1 to 6 with uids, and two without.
fn shards() -> tempfile::TempDir {
    let mut files = Vec::new();
    for i in 1..=8u128 {
        files.push((format!("{i}.png"), png(i as u32)));
        files.push((format!("{i}.txt"), format!("caption {i}").into_bytes()));
        let json = if i < 7 { format!(r#"{{"uid": "{}", "w": 1}}"#, uid(i)) } else { "{}".to_string() };
        files.push((format!("{i}.json"), json.into_bytes()));
    }
    folder(&[(
        "0.tar",
        archive(&files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect::<Vec<_>>()),
    )])
}

fn within(folder: &Path, subset: &Path) -> LoaderConfig {
    LoaderConfig { subset: Some(Arc::new(Subset::open(subset).unwrap())), ..config(folder) }
}

#[test]
fn training_on_a_subset_reads_it_alone_and_resumes() {
    let folder = shards();
    let config = within(folder.path(), &fixture("subset.npy"));
    let batch = read_all(&config, 10).unwrap().next().unwrap().unwrap();
    assert_eq!(batch.keys, ["1", "4", "5"]);
    let mut loader = Loader::new(config.clone(), LoaderState::default()).unwrap();
    let want: Vec<_> = (0..9)
        .map(|_| {
            let state = loader.state();
            (state, loader.next_super_batch(2).unwrap())
        })
        .collect();
    assert!(loader.skips().skipped() == 0 && loader.state().epoch >= 5);
    for cache_bytes in [0, 1 << 30] {
        for (state, batch) in &want {
            let mut resumed = Loader::new(LoaderConfig { cache_bytes, ..config.clone() }, state.clone()).unwrap();
            assert!(resumed.next_super_batch(2).unwrap() == *batch);
        }
    }
    // Another subset is another order.
    let whole = LoaderConfig { subset: None, ..config };
    assert!(matches!(Loader::new(whole, want[1].0.clone()).err(), Some(DataError::Resume { .. })));
}

#[test]
fn training_on_what_the_json_says_reads_it_alone() {
    let mut files = Vec::new();
    for (i, json) in [r#"{"noise":"none"}"#, r#"{"noise":"spam"}"#, "{}", r#"{"noise":"weak"}"#].iter().enumerate() {
        files.push((format!("{i}.png"), png(i as u32)));
        files.push((format!("{i}.txt"), b"a caption".to_vec()));
        files.push((format!("{i}.json"), json.as_bytes().to_vec()));
    }
    let files: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
    let place = folder(&[("0.tar", archive(&files))]);
    let keys = |conditions: &[&str]| {
        let fields = Fields::parse(conditions).unwrap();
        let config = LoaderConfig { fields, ..config(place.path()) };
        read_all(&config, 10).unwrap().next().map(|batch| batch.map(|batch| batch.keys))
    };
    assert_eq!(keys(&["noise=none", "noise=weak"]).unwrap().unwrap(), ["0", "3"]);
    let error = keys(&["noise=none", "style=flat"]).unwrap().unwrap_err().to_string();
    assert!(error.contains("noise=none, style=flat"), "{error}");
}

#[test]
fn samples_without_a_uid_are_found_by_their_id() {
    let folder = shards();
    let ids = read_all(&config(folder.path()), 10).unwrap().next().unwrap().unwrap().ids;
    let path = folder.path().join("s.npy");
    Subset::write(&path, [ids[7], ids[1]]).unwrap();
    let batch = read_all(&within(folder.path(), &path), 10).unwrap().next().unwrap().unwrap();
    assert_eq!(
        (batch.keys.as_slice(), batch.ids.as_slice()),
        (&["2".to_string(), "8".into()][..], &[ids[1], ids[7]][..])
    );
}

#[test]
fn a_subset_of_other_data_is_an_error_that_names_it() {
    let folder = shards();
    let path = folder.path().join("other.npy");
    Subset::write(&path, (100..200).map(uid)).unwrap();
    let error = read_all(&within(folder.path(), &path), 10).unwrap().next().unwrap().unwrap_err().to_string();
    assert!(error.contains("other.npy") && error.contains("100 uids"), "{error}");
}

#[cfg(feature = "parquet")]
#[test]
fn the_uid_of_a_row_is_its_column() {
    let source = Source::parse(&fixture("img2dataset.parquet").display().to_string()).unwrap();
    let config = LoaderConfig { sources: vec![source], ..within(shards().path(), &fixture("subset.npy")) };
    let batch = read_all(&config, 10).unwrap().next().unwrap().unwrap();
    assert_eq!(batch.captions, ["caption 0", "caption 3", "caption 4"]);
}

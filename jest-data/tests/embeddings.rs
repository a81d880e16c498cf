//! The embedding cache: round trip, resume, refusals.
// Helpers fail as tests do.
#![allow(clippy::unwrap_used)]

use jest_data::{CacheKey, DataError, EmbeddingCache, ExampleId};
use std::path::{Path, PathBuf};

fn key() -> CacheKey {
    CacheKey {
        model: "m1".into(),
        tokenizer: "t1".into(),
        preprocess: "p1".into(),
        image_size: 32,
        text_tokens: 16,
        dim: 3,
    }
}

fn id(i: u32) -> ExampleId {
    ExampleId::new("train", "0.tar", &i.to_string(), 0)
}

fn row(i: u32, text: bool) -> [f32; 3] {
    [i as f32, -(i as f32) / 3.0, if text { 1e-30 } else { -0.0 }]
}

fn add(cache: &mut EmbeddingCache, range: std::ops::Range<u32>) {
    let ids: Vec<_> = range.clone().map(id).collect();
    let rows = |text| range.clone().flat_map(|i| row(i, text)).collect::<Vec<_>>();
    cache.add(&ids, &rows(false), &rows(true)).unwrap();
}

fn check(cache: &EmbeddingCache, n: u32) {
    assert_eq!(cache.len(), n as usize);
    for i in 0..n {
        assert_eq!(cache.get(&id(i)), Some((&row(i, false)[..], &row(i, true)[..])), "row {i}");
    }
    assert_eq!(cache.get(&id(n)), None);
}

fn parts(folder: &Path) -> Vec<PathBuf> {
    let mut parts: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    parts.retain(|path| path.extension().is_some_and(|end| end == "safetensors"));
    parts.sort();
    parts
}

#[test]
fn rows_survive_and_known_ids_are_not_added_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut cache = EmbeddingCache::open(folder.path(), &key()).unwrap();
    assert!(cache.is_empty());
    add(&mut cache, 0..10);
    check(&cache, 10);
    cache.flush().unwrap();
    cache.flush().unwrap();
    add(&mut cache, 5..12);
    drop(cache);
    let mut cache = EmbeddingCache::open(folder.path(), &key()).unwrap();
    check(&cache, 10);
    add(&mut cache, 0..70_000);
    cache.flush().unwrap();
    assert_eq!(parts(folder.path()).len(), 3, "a full part was written on the way");
    check(&EmbeddingCache::open(folder.path(), &key()).unwrap(), 70_000);
}

#[test]
fn another_key_is_refused_by_field() {
    let folder = tempfile::tempdir().unwrap();
    EmbeddingCache::open(folder.path(), &key()).unwrap();
    let other = CacheKey { model: "m2".into(), image_size: 64, ..key() };
    let error = EmbeddingCache::open(folder.path(), &other).err().unwrap().to_string();
    assert!(error.contains("model: cached m1, wanted m2; image_size: cached 32, wanted 64"), "{error}");
    assert!(!error.contains("tokenizer"), "{error}");
    std::fs::write(folder.path().join("key.json"), "{").unwrap();
    assert!(matches!(EmbeddingCache::open(folder.path(), &key()).err(), Some(DataError::Cache { .. })));
}

#[test]
fn a_flipped_bit_anywhere_and_a_cut_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let mut cache = EmbeddingCache::open(folder.path(), &key()).unwrap();
    add(&mut cache, 0..2);
    cache.flush().unwrap();
    let path = parts(folder.path()).remove(0);
    let whole = std::fs::read(&path).unwrap();
    let refused = |bytes: &[u8], what: String| {
        std::fs::write(&path, bytes).unwrap();
        match EmbeddingCache::open(folder.path(), &key()) {
            Err(error) => assert!(error.to_string().contains("part-000000.safetensors"), "{what}: {error}"),
            // A bit of the header that carries nothing, such as a letter of `format`.
            Ok(cache) => check(&cache, 2),
        }
    };
    let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        refused(&bytes, format!("byte {at}"));
        assert!(at < header || EmbeddingCache::open(folder.path(), &key()).is_err(), "byte {at} of the tables");
    }
    for end in 0..whole.len() {
        std::fs::write(&path, &whole[..end]).unwrap();
        assert!(EmbeddingCache::open(folder.path(), &key()).is_err(), "cut at {end}");
    }
}

#[test]
fn leftover_temporary_files_do_not_matter() {
    let folder = tempfile::tempdir().unwrap();
    let mut cache = EmbeddingCache::open(folder.path(), &key()).unwrap();
    add(&mut cache, 0..3);
    cache.flush().unwrap();
    std::fs::write(folder.path().join(".tmpAbC"), "half a part").unwrap();
    check(&EmbeddingCache::open(folder.path(), &key()).unwrap(), 3);
}

#[test]
fn wrong_shapes_and_values_that_are_not_finite_never_enter() {
    let folder = tempfile::tempdir().unwrap();
    let mut cache = EmbeddingCache::open(folder.path(), &key()).unwrap();
    let good = [0.5f32; 6];
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut rows = good;
        rows[4] = bad;
        for (image, text) in [(&rows, &good), (&good, &rows)] {
            let error = cache.add(&[id(0), id(1)], image, text).unwrap_err().to_string();
            assert!(error.contains(&id(1).to_string()), "{error}");
        }
    }
    assert!(cache.add(&[id(0)], &good, &good[..3]).is_err());
    assert!(cache.is_empty());
}

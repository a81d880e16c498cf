//! The embedding cache: round trip, resume, refusals.
// Helpers fail as tests do.
#![allow(clippy::unwrap_used)]

use jest_data::{CacheKey, DataError, EmbeddingCache, ExampleId, Precision, Source};
use safetensors::tensor::{Dtype, TensorView};
use std::path::{Path, PathBuf};

fn key() -> CacheKey {
    CacheKey {
        model: "m1".into(),
        tokenizer: "t1".into(),
        preprocess: "p1".into(),
        image_size: 32,
        text_tokens: 16,
        caption_bytes: 8192,
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
    cache.add(&ids, &rows(false), &rows(true), 0.5 * ids.len() as f64).unwrap();
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
    let refused = |other: CacheKey| EmbeddingCache::open(folder.path(), &other).err().unwrap().to_string();
    let error = refused(CacheKey { model: "m2".into(), image_size: 64, caption_bytes: 16, ..key() });
    assert!(
        error.contains(
            "model: cached m1, wanted m2; image_size: cached 32, wanted 64; caption_bytes: cached 8192, wanted 16"
        ),
        "{error}"
    );
    assert!(!error.contains("tokenizer"), "{error}");
    for (other, said) in [
        (CacheKey { tokenizer: "t2".into(), ..key() }, "tokenizer: cached t1, wanted t2"),
        (CacheKey { preprocess: "p2".into(), ..key() }, "preprocess: cached p1, wanted p2"),
        (CacheKey { text_tokens: 8, ..key() }, "text_tokens: cached 16, wanted 8"),
        (CacheKey { dim: 4, ..key() }, "dim: cached 3, wanted 4"),
    ] {
        let error = refused(other);
        assert!(error.contains(said) && error.matches("wanted").count() == 1, "{error}");
    }
    std::fs::write(folder.path().join("key.json"), "{").unwrap();
    assert!(matches!(EmbeddingCache::open(folder.path(), &key()).err(), Some(DataError::Cache { .. })));
}

#[test]
fn a_part_of_another_model_is_refused_by_name() {
    for other in [
        CacheKey { model: "m2".into(), ..key() },
        CacheKey { tokenizer: "t2".into(), ..key() },
        CacheKey { preprocess: "p2".into(), ..key() },
        CacheKey { image_size: 64, ..key() },
        CacheKey { text_tokens: 8, ..key() },
        CacheKey { caption_bytes: 16, ..key() },
    ] {
        let folders = [key(), other].map(|key| {
            let folder = tempfile::tempdir().unwrap();
            let mut cache = EmbeddingCache::open(folder.path(), &key).unwrap();
            add(&mut cache, 0..2);
            cache.flush().unwrap();
            folder
        });
        let [own, other] = folders.each_ref().map(|folder| folder.path());
        std::fs::copy(&parts(other)[0], own.join("part-000001.safetensors")).unwrap();
        let error = EmbeddingCache::open(own, &key()).unwrap_err().to_string();
        assert!(error.contains("part-000001.safetensors") && error.contains("for another key"), "{error}");
    }
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
            let error = cache.add(&[id(0), id(1)], image, text, 0.0).unwrap_err().to_string();
            assert!(error.contains(&id(1).to_string()), "{error}");
        }
    }
    assert!(cache.add(&[id(0)], &good, &good[..3], 0.0).is_err());
    assert!(cache.is_empty());
}

#[test]
fn half_precision_gives_the_same_rows_before_and_after() {
    let folder = tempfile::tempdir().unwrap();
    let mut cache = EmbeddingCache::open(folder.path(), &key()).unwrap().with_precision(Precision::F16);
    let (image, text) = ([0.6f32, -0.8, 1.0 / 3.0], [0.1f32, 0.99, -1e-9]);
    cache.add(&[id(7)], &image, &text, 0.0).unwrap();
    let rows = |cache: &EmbeddingCache| {
        let (image, text) = cache.get(&id(7)).unwrap();
        [image, text].concat()
    };
    let before = rows(&cache);
    for (got, want) in before.iter().zip(image.iter().chain(&text)) {
        assert!((got - want).abs() <= 2f32.powi(-12), "{got} {want}");
    }
    cache.flush().unwrap();
    // A cache of the other precision reads it, and goes on in its own.
    let mut cache = EmbeddingCache::open(folder.path(), &key()).unwrap();
    assert_eq!(rows(&cache), before);
    add(&mut cache, 8..9);
    cache.flush().unwrap();
    let cache = EmbeddingCache::open(folder.path(), &key()).unwrap();
    assert_eq!((rows(&cache), cache.get(&id(8)).unwrap().0), (before, &row(8, false)[..]));
}

/// A part as it was before seconds were kept.
fn without_seconds(range: std::ops::Range<u32>) -> Vec<u8> {
    let n = range.len();
    let ids: Vec<u8> = range.clone().flat_map(|i| *id(i).as_bytes()).collect();
    let rows = |text| range.clone().flat_map(|i| row(i, text)).flat_map(f32::to_le_bytes).collect::<Vec<_>>();
    let (image, text) = (rows(false), rows(true));
    let mut hash = blake3::Hasher::new();
    for table in [&ids, &image, &text] {
        hash.update(&(table.len() as u64).to_le_bytes()).update(table);
    }
    let words = [("format", "pt".to_string()), ("blake3", hash.finalize().to_hex().to_string())];
    let words = words.map(|(name, value)| (name.to_string(), value)).into_iter().collect();
    let view = |dtype, width, bytes| TensorView::new(dtype, vec![n, width], bytes).unwrap();
    let tables = [
        ("ids", view(Dtype::U8, 16, &ids)),
        ("image", view(Dtype::F32, 3, &image)),
        ("text", view(Dtype::F32, 3, &text)),
    ];
    safetensors::serialize(tables, Some(words)).unwrap()
}

#[test]
fn rows_tell_what_they_took_and_older_parts_do_not() {
    let folder = tempfile::tempdir().unwrap();
    let mut cache = EmbeddingCache::open(folder.path(), &key()).unwrap();
    add(&mut cache, 0..4);
    let ids: Vec<_> = (2..9).map(id).collect();
    assert_eq!(cache.seconds(&ids), 1.0, "two of the seven are here, not written yet");
    cache.flush().unwrap();
    add(&mut cache, 4..5);
    cache.flush().unwrap();
    let cache = EmbeddingCache::open(folder.path(), &key()).unwrap();
    assert_eq!(cache.seconds(&ids), 1.5);
    // Seconds that were not taken are not charged, and a part from before they were kept is read.
    let (path, word) = (parts(folder.path()).remove(0), b"\"seconds\":\"2\"");
    let mut other = std::fs::read(&path).unwrap();
    let at = other.windows(word.len()).position(|bytes| bytes == word).unwrap();
    other[at + word.len() - 2] = b'3';
    std::fs::write(&path, other).unwrap();
    let error = EmbeddingCache::open(folder.path(), &key()).err().unwrap().to_string();
    assert!(error.contains("the checksum does not agree"), "{error}");
    std::fs::write(&path, without_seconds(0..4)).unwrap();
    let cache = EmbeddingCache::open(folder.path(), &key()).unwrap();
    check(&cache, 5);
    assert_eq!(cache.seconds(&ids), 0.5);
}

#[test]
fn two_processes_write_parts_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let mut one = EmbeddingCache::open(folder.path(), &key()).unwrap();
    let mut other = EmbeddingCache::open(folder.path(), &key()).unwrap();
    add(&mut one, 0..5);
    add(&mut other, 5..9);
    one.flush().unwrap();
    other.flush().unwrap();
    check(&EmbeddingCache::open(folder.path(), &key()).unwrap(), 9);
    assert_eq!(parts(folder.path()).len(), 2);
}

#[test]
fn shards_claimed_at_once_are_all_known() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("0.tar"), b"shard").unwrap();
    let cache = folder.path().join("cache");
    let claim = |name: usize| {
        let source = Source::parse(&format!("s{name}={}/0.tar", folder.path().display())).unwrap();
        EmbeddingCache::open(&cache, &key()).unwrap().claim(&[source]).unwrap();
    };
    std::thread::scope(|scope| (0..16).for_each(|name| drop(scope.spawn(move || claim(name)))));
    let known = std::fs::read_to_string(cache.join("shards.json")).unwrap();
    assert_eq!((0..16).filter(|name| known.contains(&format!("\"s{name}/0.tar\""))).count(), 16, "{known}");
}

#[test]
fn another_file_of_a_known_name_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
    };
    let long = vec![7u8; 300_000];
    let mut other = long.clone();
    write("a/pool/0.tar", &long);
    write("b/pool/0.tar", &long);
    write("a/pool/1.tar", b"one");
    other[299_999] = 8;
    write("c/pool/0.tar", &other);
    let cache = EmbeddingCache::open(&folder.path().join("cache"), &key()).unwrap();
    let source = |spec: &str| vec![Source::parse(&spec.replace('@', &folder.path().display().to_string())).unwrap()];
    cache.claim(&source("@/a/pool")).unwrap();
    cache.claim(&source("@/a/pool")).unwrap();
    // The same bytes elsewhere are the same examples, and another name makes other ids.
    cache.claim(&source("@/b/pool")).unwrap();
    cache.claim(&source("c=@/c/pool")).unwrap();
    let said = cache.claim(&source("@/c/pool")).unwrap_err().to_string();
    assert!(said.contains("c/pool/0.tar") && said.contains("share ids") && said.contains("NAME=PATH"), "{said}");
    std::fs::write(folder.path().join("cache/shards.json"), b"[").unwrap();
    assert!(matches!(cache.claim(&source("@/a/pool")), Err(DataError::Cache { .. })));
}

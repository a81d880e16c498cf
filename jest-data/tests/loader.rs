//! Order, resume, epochs and the cache of the loader.
// Helpers fail as tests do.
#![allow(clippy::unwrap_used)]

mod common;

use common::{archive, config, folder, good, png, sample, tokenizer};
use jest_data::{
    DataError, ExampleId, Loader, LoaderConfig, LoaderState, Preprocess, Shuffle, Source, SuperBatch, read_all,
};
use std::collections::HashSet;

/// Six shards of different sizes, 61 examples, with one bad sample and one damaged shard among them.
fn shards() -> tempfile::TempDir {
    let picture = png(1);
    let mut damaged = good("d", 9);
    let end = damaged.len() - 1024 - 512;
    damaged[end - 2048..].fill(0x11);
    let bad: [(&str, &[u8]); 4] =
        [("no.txt", b"caption"), ("html.png", b"<html>"), ("html.txt", b"x"), ("ok.png", &picture)];
    folder(&[
        ("0.tar", good("a", 20)),
        ("1.tar.gz", common::gzip(&good("b", 11))),
        ("2.tar", good("c", 22)),
        ("3.tar", damaged),
        ("4.tar", archive(&bad)),
        ("5.tar", good("e", 1)),
    ])
}

fn small(folder: &tempfile::TempDir) -> LoaderConfig {
    LoaderConfig { shuffle: Shuffle { shards: true, buffer: 13 }, seed: 5, prefetch: 9, ..config(folder.path()) }
}

fn take(loader: &mut Loader, n: usize, times: usize) -> Vec<SuperBatch> {
    (0..times).map(|_| loader.next_super_batch(n).unwrap()).collect()
}

fn fresh(config: &LoaderConfig) -> Loader {
    Loader::new(config.clone(), LoaderState::default()).unwrap()
}

#[test]
fn workers_prefetch_and_cache_do_not_change_a_byte() {
    let folder = shards();
    let base = small(&folder);
    let want = take(&mut fresh(&LoaderConfig { workers: 1, cache_bytes: 0, ..base.clone() }), 16, 20);
    for (workers, prefetch, cache_bytes) in [(4, 1, 0), (2, 500, 1 << 30), (3, 9, 9_000), (1, 64, 1 << 30)] {
        let config = LoaderConfig { workers, prefetch, cache_bytes, ..base.clone() };
        let mut loader = fresh(&config);
        assert!(take(&mut loader, 16, 20) == want, "{workers} workers, prefetch {prefetch}, cache {cache_bytes}");
        let mut plain = fresh(&base);
        take(&mut plain, 16, 20);
        assert_eq!(loader.skips(), plain.skips());
    }
}

#[test]
fn seeds_and_epochs_change_the_order() {
    let folder = shards();
    let base = small(&folder);
    let ids = |config: &LoaderConfig, times| -> Vec<ExampleId> {
        take(&mut fresh(config), 10, times).into_iter().flat_map(|batch| batch.ids).collect()
    };
    let first = ids(&base, 5);
    assert_eq!(first, ids(&base, 5));
    assert_ne!(first, ids(&LoaderConfig { seed: 6, ..base.clone() }, 5));
    let in_order: Vec<_> = read_all(&base, 50).unwrap().next().unwrap().unwrap().ids;
    assert_ne!(first, in_order);
    let unshuffled = LoaderConfig { shuffle: Shuffle { shards: false, buffer: 0 }, ..base };
    assert_eq!(ids(&unshuffled, 5), in_order);
}

#[test]
fn every_epoch_delivers_every_example_once_and_no_batch_repeats_one() {
    let folder = shards();
    let config = small(&folder);
    let all: HashSet<ExampleId> = read_all(&config, 1000).unwrap().flat_map(|batch| batch.unwrap().ids).collect();
    for n in [1, 7, all.len() - 1, all.len()] {
        let mut loader = fresh(&config);
        let mut counts = std::collections::HashMap::new();
        let batches = 5 * all.len() / n;
        for batch in take(&mut loader, n, batches) {
            assert_eq!(batch.ids.iter().collect::<HashSet<_>>().len(), n);
            batch.ids.iter().for_each(|id| *counts.entry(*id).or_insert(0) += 1);
        }
        assert_eq!(counts.len(), all.len());
        // After k whole epochs every example came k times; the last one may be under way, and its deferred ones owed.
        let (least, most) = (counts.values().min().unwrap(), counts.values().max().unwrap());
        assert!(most - least <= 1, "n = {n}: {least}..{most}");
    }
}

#[test]
fn resuming_anywhere_continues_the_same_sequence() {
    let folder = shards();
    let config = small(&folder);
    for n in [1, 16, 45] {
        let mut whole = fresh(&config);
        let mut states = vec![whole.state()];
        let want: Vec<_> = (0..14)
            .map(|_| {
                let batch = whole.next_super_batch(n).unwrap();
                states.push(whole.state());
                batch
            })
            .collect();
        assert!(
            n != 45 || states.iter().any(|state| !state.deferred.is_empty()),
            "no state with deferred examples was met"
        );
        for (done, state) in states.iter().enumerate() {
            let json = serde_json::to_string(state).unwrap();
            let config = LoaderConfig { workers: 1 + done % 3, cache_bytes: (done as u64 % 2) << 30, ..config.clone() };
            let mut resumed = Loader::new(config, serde_json::from_str(&json).unwrap()).unwrap();
            assert_eq!(resumed.state(), if done == 0 { states[0].clone() } else { state.clone() });
            assert!(take(&mut resumed, n, want.len() - done) == want[done..], "n = {n}, resumed after {done}");
            assert_eq!(resumed.state(), states[want.len()]);
        }
    }
}

#[test]
fn a_state_of_other_data_is_refused() {
    let folder = shards();
    let config = small(&folder);
    let mut loader = fresh(&config);
    loader.next_super_batch(10).unwrap();
    let state = loader.state();
    let other = LoaderConfig { seed: 99, ..config.clone() };
    assert!(matches!(Loader::new(other, state.clone()).err(), Some(DataError::Resume { .. })));
    let beyond = LoaderState { position: 10_000, ..state.clone() };
    let error = Loader::new(config.clone(), beyond).unwrap().next_super_batch(1).unwrap_err();
    assert!(matches!(error, DataError::Resume { .. }), "{error}");
    let owed = LoaderState { deferred: vec![9_999], position: 10_000, ..state };
    assert!(Loader::new(config, owed).unwrap().next_super_batch(1).is_err());
}

#[test]
fn too_few_examples_and_none_at_all_are_errors() {
    let few = folder(&[("0.tar", good("k", 5))]);
    let error = fresh(&config(few.path())).next_super_batch(6).unwrap_err();
    assert!(matches!(error, DataError::TooFewExamples { distinct: 5, super_batch: 6 }), "{error}");
    assert_eq!(fresh(&config(few.path())).next_super_batch(5).unwrap().len(), 5);
    let none = folder(&[("0.tar", archive(&[("a.txt", b"no image")]))]);
    let error = fresh(&config(none.path())).next_super_batch(1).unwrap_err();
    assert!(matches!(error, DataError::NoExamples { .. }), "{error}");
    assert!(matches!(fresh(&config(few.path())).next_super_batch(0), Err(DataError::Setting { .. })));
}

#[test]
fn settings_out_of_range_are_named() {
    let few = folder(&[("0.tar", good("k", 1))]);
    let base = config(few.path());
    let flat = Preprocess { std: [0.0, 1.0, 1.0], ..base.preprocess };
    for (config, name) in [
        (LoaderConfig { workers: 0, ..base.clone() }, "workers"),
        (LoaderConfig { prefetch: 0, ..base.clone() }, "prefetch"),
        (LoaderConfig { text_tokens: 0, ..base.clone() }, "text_tokens"),
        (LoaderConfig { preprocess: Preprocess::siglip(0), ..base.clone() }, "preprocess.size"),
        (LoaderConfig { preprocess: flat, ..base.clone() }, "preprocess.std"),
        (LoaderConfig { sources: Vec::new(), ..base.clone() }, "sources"),
    ] {
        let error = Loader::new(config, LoaderState::default()).err().unwrap().to_string();
        assert!(error.starts_with(name), "{error}");
    }
}

#[test]
fn dropping_a_loader_under_way_ends_its_threads() {
    let config = LoaderConfig::new(
        vec![Source::folder(&sample().join("train")).unwrap()],
        Preprocess::siglip(16),
        tokenizer(),
        8,
    );
    for consumed in [0, 1, 100] {
        let mut loader = fresh(&config);
        if consumed > 0 {
            loader.next_super_batch(consumed).unwrap();
        }
        drop(loader);
    }
}

#[test]
fn a_sub_batch_is_its_rows() {
    let folder = shards();
    let batch = fresh(&small(&folder)).next_super_batch(12).unwrap();
    let sub = batch.subset(&[7, 2]);
    assert_eq!((sub.len(), sub.ids[0], &sub.captions[1]), (2, batch.ids[7], &batch.captions[2]));
    assert_eq!(sub.pixels(), [batch.pixels_of(7..8), batch.pixels_of(2..3)].concat());
    assert_eq!(sub.tokens_of(0..1), batch.tokens_of(7..8));
    assert_eq!(sub.image_rgb(1), batch.image_rgb(2));
    let (pixels, rgb) = (batch.pixels(), &batch.rgb);
    // Channel 1, row 3, column 5 of example 4.
    assert_eq!(pixels[((4 * 3 + 1) * 8 + 3) * 8 + 5], f32::from(rgb[((4 * 8 + 3) * 8 + 5) * 3 + 1]) / 127.5 - 1.0);
}

#[test]
fn the_shipped_sample_is_whole() {
    let sources = Source::parse_list(&format!("{0}/train::{0}/curated", sample().display())).unwrap();
    let mut pass = read_all(&LoaderConfig::new(sources, Preprocess::siglip(8), tokenizer(), 16), 512).unwrap();
    let batches: Vec<_> = pass.by_ref().map(Result::unwrap).collect();
    assert_eq!(batches.iter().map(SuperBatch::len).sum::<usize>(), 3144 + 1615, "{}", pass.skips());
    assert_eq!(pass.skips().skipped(), 0);
    assert!(batches.iter().all(|batch| batch.json.iter().all(Option::is_some)));
}

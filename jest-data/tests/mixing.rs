//! Several captions and several sources: what is drawn, and that every promise of the order holds for it.
// Helpers fail as tests do.
#![allow(clippy::unwrap_used)]

mod common;

use common::{archive, folder, good, png, tokenizer};
use jest_data::{
    CaptionChoice, Captions, ExampleId, Loader, LoaderConfig, LoaderState, Preprocess, SkipReason, Source, SuperBatch,
    read_all, read_captions,
};
use std::collections::{HashMap, HashSet};
use tempfile::TempDir;

/// Twelve samples with three captions each, in JSON.
fn several() -> TempDir {
    let shard = |range: std::ops::Range<u32>| {
        let mut files = Vec::new();
        for i in range {
            files.push((format!("{i}.png"), png(i)));
            files.push((format!("{i}.txt"), format!("alt text {i}").into_bytes()));
            let json = format!(r#"{{"captions": ["one {i}", "two {i}", "three {i}"], "title": "title {i}", "n": 5}}"#);
            files.push((format!("{i}.json"), json.into_bytes()));
        }
        archive(&files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect::<Vec<_>>())
    };
    folder(&[("0.tar", shard(0..7)), ("1.tar", shard(7..12))])
}

fn config(sources: Vec<Source>) -> LoaderConfig {
    LoaderConfig { seed: 3, ..LoaderConfig::new(sources, Preprocess::siglip(8), tokenizer(), 8) }
}

fn captioned(folder: &TempDir, choice: CaptionChoice, keys: &[&str]) -> LoaderConfig {
    let json_keys = keys.iter().map(|key| key.to_string()).collect();
    let sources = vec![Source::parse(&format!("test={}", folder.path().display())).unwrap()];
    LoaderConfig { captions: Captions { choice, json_keys }, ..config(sources) }
}

fn take(config: &LoaderConfig, n: usize, times: usize) -> Vec<SuperBatch> {
    let mut loader = Loader::new(config.clone(), LoaderState::default()).unwrap();
    (0..times).map(|_| loader.next_super_batch(n).unwrap()).collect()
}

/// Whatever the threads and the cache, and wherever it is resumed, the sequence is the same.
fn keeps_its_promises(config: &LoaderConfig, n: usize) {
    let want = take(&LoaderConfig { workers: 1, cache_bytes: 0, prefetch: 3, ..config.clone() }, n, 12);
    for (workers, cache_bytes) in [(3, 0), (2, 1 << 30), (1, 20_000)] {
        assert!(
            take(&LoaderConfig { workers, cache_bytes, ..config.clone() }, n, 12) == want,
            "{workers} {cache_bytes}"
        );
    }
    let mut loader = Loader::new(config.clone(), LoaderState::default()).unwrap();
    for done in 0..12 {
        let mut resumed = Loader::new(config.clone(), loader.state()).unwrap();
        for batch in &want[done..12.min(done + 3)] {
            assert!(resumed.next_super_batch(n).unwrap() == *batch, "resumed after {done}");
        }
        loader.next_super_batch(n).unwrap();
    }
}

#[test]
fn the_first_caption_or_one_drawn_anew_each_epoch() {
    let folder = several();
    let text = |batches: &[SuperBatch]| -> Vec<String> { batches.iter().flat_map(|b| b.captions.clone()).collect() };
    assert!(text(&take(&captioned(&folder, CaptionChoice::Random, &[]), 12, 3)).iter().all(|c| c.starts_with("alt")));
    let first = captioned(&folder, CaptionChoice::First, &["captions"]);
    assert!(text(&take(&first, 12, 3)).iter().all(|c| c.starts_with("one")));
    let random = captioned(&folder, CaptionChoice::Random, &["captions"]);
    let batches = take(&random, 12, 30);
    let mut seen: HashMap<String, usize> = HashMap::new();
    text(&batches).into_iter().for_each(|caption| *seen.entry(caption).or_default() += 1);
    // 36 captions in 360 draws: each about ten times.
    assert!(seen.len() == 36 && seen.values().all(|n| (2..=22).contains(n)), "{seen:?}");
    let ids: HashSet<_> = batches.iter().flat_map(|batch| &batch.ids).collect();
    assert_eq!(ids.len(), 36, "each pair of picture and caption has an id of its own");
    // A single pass has the first, with the id that it has in training too.
    let once = read_all(&random, 12).unwrap().next().unwrap().unwrap();
    assert!(once.captions.iter().all(|c| c.starts_with("one")) && once.ids.iter().all(|id| ids.contains(id)));
    // All that may be drawn are told by their ids, in order, the first apart.
    let mut every = read_captions(&random, 5).unwrap();
    let mut told: HashMap<ExampleId, (ExampleId, String)> = HashMap::new();
    while let Some(batch) = every.next() {
        let batch = batch.unwrap();
        let others = every.take_captions();
        assert_eq!(others.len(), 2 * batch.len());
        for (i, id) in batch.ids.iter().enumerate() {
            assert!(others[2 * i..2 * i + 2].iter().all(|other| other.first == *id));
            told.insert(*id, (*id, batch.captions[i].clone()));
        }
        told.extend(others.into_iter().map(|other| (other.id, (other.first, other.caption))));
    }
    let drawn = batches.iter().flat_map(|batch| batch.ids.iter().zip(&batch.captions));
    assert!(told.len() == 36 && drawn.into_iter().all(|(id, caption)| told[id].1 == *caption));
    let mut alone = read_all(&random, 5).unwrap();
    alone.next().unwrap().unwrap();
    assert!(alone.take_captions().is_empty());
    keeps_its_promises(&random, 5);
}

/// Fault 11: the field is missing, or a number instead of text.
#[test]
fn captions_from_json_by_priority_of_keys() {
    let folder = several();
    let captions =
        |keys: &[&str]| read_all(&captioned(&folder, CaptionChoice::First, keys), 12).unwrap().next().unwrap();
    let titled = captions(&["none", "n", "title", "captions"]).unwrap();
    assert_eq!(titled.captions[3], "title 3");
    assert_ne!(titled.ids[3], captions(&[]).unwrap().ids[3], "another caption is another example to caches");
    let mut pass = read_all(&captioned(&folder, CaptionChoice::First, &["none", "n"]), 12).unwrap();
    assert!(pass.next().unwrap().is_err());
    let skips = pass.skips();
    assert_eq!(skips.count(SkipReason::NoCaption), 12);
    assert!(skips.first()[0].detail.contains("no text under `none`, `n`"), "{skips}");
}

fn mixed(weights: &[f64]) -> (TempDir, LoaderConfig) {
    let folder = folder(&[("a.tar", good("a", 40)), ("b.tar", good("b", 40)), ("c.tar", common::gzip(&good("b", 3)))]);
    let at = folder.path().display();
    let sources = Source::parse_list(&format!("x={at}/a.tar::y={at}/{{b,c}}.tar")).unwrap();
    (folder, LoaderConfig { weights: weights.to_vec(), ..config(sources) })
}

#[test]
fn sources_are_weighed_and_no_example_repeats_within_an_epoch() {
    let (_folder, config) = mixed(&[1.0, 4.0]);
    let mut loader = Loader::new(config.clone(), LoaderState::default()).unwrap();
    let (mut counts, mut ids): (HashMap<String, usize>, HashMap<_, usize>) = Default::default();
    while loader.state().epoch < 40 {
        let batch = loader.next_super_batch(1).unwrap();
        *counts.entry(batch.sources[0].to_string()).or_default() += 1;
        *ids.entry(batch.ids[0]).or_default() += 1;
    }
    // 40 epochs: every example of y each time, one of x every fourth.
    assert!((340..=460).contains(&counts["x"]) && (43 * 40..=43 * 40 + 1).contains(&counts["y"]), "{counts:?}");
    assert!(ids.len() == 83 && ids.values().all(|n| *n <= 41), "every example comes, none twice an epoch");
    keeps_its_promises(&config, 7);
    let other = LoaderConfig { weights: vec![1.0, 3.0], ..config };
    assert!(Loader::new(other, loader.state()).is_err(), "another mixture is another order");
}

#[test]
fn weights_that_do_not_fit_are_named() {
    for weights in [&[1.0][..], &[1.0, 0.0], &[1.0, f64::NAN], &[1.0, 2.0, 3.0]] {
        let error = mixed(weights).1.check().unwrap_err().to_string();
        assert!(error.starts_with("weights") && error.contains("for 2 sources"), "{error}");
    }
}

#[test]
fn every_kind_of_source_keeps_the_promises() {
    let folder = tempfile::tempdir().unwrap();
    let mut table = "filepath,title\n".to_string();
    for i in 0..150 {
        let class = folder.path().join(format!("classes/c{}", i % 4));
        std::fs::create_dir_all(&class).unwrap();
        std::fs::write(class.join(format!("{i}.png")), png(i)).unwrap();
        table.push_str(&format!("classes/c{}/{i}.png,picture {i}\n", i % 4));
    }
    std::fs::write(folder.path().join("t.csv"), table).unwrap();
    let at = folder.path().display();
    let parquet = concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/sources/img2dataset.parquet");
    let all = format!("{at}/t.csv::{at}/classes::synthetic:90::p={parquet}");
    let config = config(Source::parse_list(&all).unwrap());
    keeps_its_promises(&config, 100);
    let small = LoaderConfig { shuffle: jest_data::Shuffle { shards: true, buffer: 10 }, ..config };
    keeps_its_promises(&LoaderConfig { weights: vec![1.0, 2.0, 0.5, 2.0], ..small }, 30);
}

//! The rules of WebDataset, one planted archive a rule.
// Helpers fail as tests do.
#![allow(clippy::unwrap_used)]

mod common;

use common::{archive, config, folder, good, gzip, members, png, read};
use jest_data::{LoaderConfig, SkipReason, Source};
use std::path::Path;

/// Keys, captions and reasons of one shard.
fn shard(files: &[(&str, &[u8])]) -> (Vec<String>, Vec<String>, Vec<(SkipReason, u64)>) {
    let folder = folder(&[("0.tar", archive(files))]);
    let mut pass = jest_data::read_all(&config(folder.path()), 100).unwrap();
    let (mut keys, mut captions) = (Vec::new(), Vec::new());
    for batch in pass.by_ref().flatten() {
        keys.extend(batch.keys);
        captions.extend(batch.captions);
    }
    (keys, captions, pass.skips().counts().collect())
}

#[test]
fn key_and_extension_part_at_the_first_dot_of_the_last_path_part() {
    let (a, b) = (png(1), png(2));
    // Of `a/b.seg.png` the extension is `seg.png`, which is no picture; a dot in a folder parts nothing.
    let files: [(&str, &[u8]); 7] = [
        ("v1.0/b.c.png", b"not the picture"),
        ("v1.0/b.png", &a),
        ("v1.0/b.txt", b"one"),
        ("v1.0/b.seg.png", b"not the picture"),
        ("v1.0/x.PNG", &b),
        ("v1.0/x.Txt", b"two"),
        ("v1.0/x.json", b"{}"),
    ];
    let (keys, captions, skips) = shard(&files);
    assert_eq!((keys, captions), (vec!["v1.0/b".to_string(), "v1.0/x".into()], vec!["one".to_string(), "two".into()]));
    assert!(skips.is_empty(), "{skips:?}");
}

#[test]
fn one_base_name_in_two_folders_is_two_samples() {
    let (a, b) = (png(1), png(2));
    let files: [(&str, &[u8]); 4] = [("x/0.png", &a), ("x/0.txt", b"one"), ("y/0.png", &b), ("y/0.txt", b"two")];
    assert_eq!(shard(&files).0, ["x/0", "y/0"]);
}

#[test]
fn meta_members_are_left_out_also_between_the_members_of_a_sample() {
    let picture = png(1);
    let files: [(&str, &[u8]); 5] = [
        ("__index__/0.json", b"{}"),
        ("a.png", &picture),
        ("__worker__/7.png", b"x"),
        ("a.txt", b"one"),
        ("__MACOSX__/a.png", b"x"),
    ];
    let (keys, _, skips) = shard(&files);
    assert_eq!((keys.len(), skips.len()), (1, 0), "{skips:?}");
}

/// Fault 12: members of samples interleaved; a repeated extension.
#[test]
fn members_apart_are_detected_and_counted_per_sample() {
    let (a, b, c) = (png(1), png(2), png(3));
    let files: [(&str, &[u8]); 6] =
        [("a.png", &a), ("b.png", &b), ("a.txt", b"one"), ("b.txt", b"two"), ("c.png", &c), ("c.txt", b"three")];
    let (keys, captions, skips) = shard(&files);
    // Never the picture of one sample with the caption of another.
    assert_eq!((keys, captions), (vec!["c".to_string()], vec!["three".to_string()]));
    assert_eq!(skips, [(SkipReason::WdsOrder, 2), (SkipReason::NoImage, 2), (SkipReason::NoCaption, 2)]);
    let files: [(&str, &[u8]); 5] =
        [("a.png", &a), ("a.txt", b"one"), ("a.txt", b"again"), ("a.png", &b), ("b.png", &c)];
    let (keys, captions, skips) = shard(&files);
    assert_eq!((keys.len(), captions.as_slice()), (2, &["one".to_string(), "again".into()][..]));
    assert_eq!(skips, [(SkipReason::WdsOrder, 1), (SkipReason::NoCaption, 1)]);
}

#[test]
fn jpg_jpeg_png_and_webp_are_pictures_and_the_first_of_a_sample_counts() {
    let (a, jpeg) = (png(1), common::jpeg(2));
    let files: [(&str, &[u8]); 5] =
        [("a.jpeg", &jpeg), ("a.png", b"not looked at"), ("a.txt", b"one"), ("b.webp", &a), ("b.txt", b"two")];
    assert_eq!(shard(&files).0, ["a", "b"]);
}

#[test]
fn gzip_is_read_whatever_the_name_and_other_packings_say_what_to_do() {
    let two = [gzip(&members(&[("k.png", &png(1)), ("k.txt", b"first member")])), gzip(&good("l", 1))].concat();
    let folder = folder(&[("0.tar", two), ("1.tar", b"BZh9....".to_vec()), ("2.tar", b"\xfd7zXZ\0".to_vec())]);
    let (batches, skips) = read(&config(folder.path()));
    assert_eq!(batches.iter().map(|batch| batch.len()).sum::<usize>(), 2);
    assert_eq!(skips.count(SkipReason::ShardFormat), 2);
    let details: Vec<_> = skips.first().iter().map(|skip| skip.detail.as_str()).collect();
    assert!(details[0].contains("bzip2; repack as .tar or .tar.gz") && details[1].starts_with("xz;"), "{details:?}");
}

fn count(folder: &Path) -> u64 {
    Source::folder(folder).unwrap().count().unwrap()
}

#[test]
fn samples_are_counted_from_what_lies_beside_or_from_the_names() {
    let text = |text: &str| text.as_bytes().to_vec();
    let shards = || vec![("0.tar", good("a", 5)), ("1.tar.gz", gzip(&good("b", 7)))];
    let mut files = shards();
    assert_eq!(count(folder(&files).path()), 12);
    // Two pictures of one key are two samples only where an extension repeats.
    let (a, b) = (png(1), png(2));
    let odd: [(&str, &[u8]); 6] =
        [("a.png", &a), ("a.jpg", &b), ("b.txt", b"no picture"), ("c.png", &a), ("c.txt", b"x"), ("c.png", &b)];
    assert_eq!(count(folder(&[("0.tar", archive(&odd))]).path()), 3);
    files.push(("sizes.json", text(r#"{"0.tar": 50, "1.tar.gz": 70}"#)));
    assert_eq!(count(folder(&files).path()), 120);
    files[2] = ("sizes.json", text(r#"{"0.tar": 50}"#));
    assert_eq!(count(folder(&files).path()), 57);
    files[2] = ("__len__", text("1000\n"));
    let whole = folder(&files);
    assert_eq!(count(whole.path()), 1000);
    // Of a part of the folder, `__len__` says nothing.
    let part = Source::parse(&whole.path().join("0.tar").display().to_string()).unwrap();
    assert_eq!(part.count().unwrap(), 5);
    files[2] = ("sizes.json", text("[]"));
    let error = Source::folder(folder(&files).path()).unwrap().count().unwrap_err().to_string();
    assert!(error.contains("sizes.json") && error.contains("SAMPLES"), "{error}");
    let missing = Source::parse("nowhere/{0..3}.tar").unwrap();
    assert_eq!(missing.count().unwrap(), 0);
}

#[test]
fn patterns_and_lists_of_sources_give_one_stream() {
    let folder = folder(&[("00.tar", good("a", 2)), ("01.tar", good("b", 2)), ("x.tar", good("c", 2))]);
    let at = folder.path().display();
    let sources = Source::parse_list(&format!("{at}/{{{{00..01}},x}}.tar::again={at}/00.tar")).unwrap();
    let config = LoaderConfig { sources, ..config(folder.path()) };
    let (batches, _) = read(&config);
    let keys: Vec<_> = batches.iter().flat_map(|batch| batch.keys.iter().map(String::as_str)).collect();
    assert_eq!(keys, ["a0", "a1", "b0", "b1", "c0", "c1", "a0", "a1"]);
}

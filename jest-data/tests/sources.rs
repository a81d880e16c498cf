//! Data as they lie on disk: img2dataset, Parquet, tables, folders, CLIP_benchmark, and none at all.
// Helpers fail as tests do.
#![allow(clippy::unwrap_used)]

mod common;

use common::{good, png, read, tokenizer};
use jest_data::{DataError, LoaderConfig, Preprocess, SkipReason, SkipReport, Source, SourceOptions, SuperBatch};
use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

fn place(files: &[(&str, &[u8])]) -> TempDir {
    let place = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        let path = place.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    place
}

fn reading(source: Source) -> LoaderConfig {
    let mut config = LoaderConfig::new(vec![source], Preprocess::siglip(8), tokenizer(), 8);
    config.limits.max_skipped_share = 1.0;
    config
}

/// All examples as one batch.
fn all(source: Source) -> (SuperBatch, SkipReport) {
    let mut pass = jest_data::read_all(&reading(source), 10_000).unwrap();
    let batch = pass.next().unwrap().unwrap();
    assert!(pass.next().is_none());
    assert_eq!(batch.ids.iter().collect::<HashSet<_>>().len(), batch.len(), "an id repeats");
    (batch, pass.skips().clone())
}

fn at(path: &Path) -> Source {
    Source::parse(&format!("test={}", path.display())).unwrap()
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/sources").join(name)
}

#[test]
fn a_shard_that_img2dataset_has_not_finished_is_named_and_used() {
    let stats = br#"{"count": 5, "successes": 3, "failed_to_download": 1, "failed_to_resize": 1, "duration": 2.5,
        "status_dict": {"success": 3}}"#;
    let (a, b) = (good("a", 3), good("b", 2));
    let files: [(&str, &[u8]); 5] = [
        ("00000.tar", &a),
        ("00000.parquet", b"metadata, not looked at"),
        ("00000_stats.json", stats),
        // A gap in the numbers is usual.
        ("00007.tar", &b),
        ("00007.parquet", b""),
    ];
    let folder = place(&files);
    let source = at(folder.path());
    let stats: Vec<_> = source.shards().iter().map(|shard| shard.stats()).collect();
    assert_eq!(stats[0].map(|s| (s.count, s.successes, s.failed_to_download, s.failed_to_resize)), Some((5, 3, 1, 1)));
    assert_eq!((stats[1], source.count().unwrap()), (None, 5));
    let (batch, skips) = all(source);
    assert_eq!((batch.len(), skips.count(SkipReason::ShardUnfinished), skips.skipped()), (5, 1, 1));
    assert_eq!(&*skips.first()[0].shard, "00007.tar");
}

#[cfg(feature = "parquet")]
#[test]
fn parquet_of_img2dataset() {
    let source = at(&fixture("img2dataset.parquet"));
    assert_eq!(source.count().unwrap(), 6);
    let (batch, skips) = all(source);
    // Rows that could not be fetched are no samples.
    assert_eq!((batch.len(), skips.skipped()), (4, 0));
    assert_eq!(batch.keys, ["000000000", "000000001", "000000003", "000000004"]);
    assert_eq!(batch.captions[2], "caption 3");
    let json: serde_json::Value = serde_json::from_str(batch.json[2].as_ref().unwrap()).unwrap();
    assert_eq!((json["width"].as_u64(), json["uid"].as_str().map(str::len)), (Some(12), Some(32)));
    assert!(json.get("jpg").is_none());
}

#[cfg(feature = "parquet")]
#[test]
fn parquet_of_hugging_face_with_several_captions() {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(fixture("hugging_face.parquet"), folder.path().join("train-00000-of-00001.parquet")).unwrap();
    fs::write(folder.path().join("beside.png"), png(7)).unwrap();
    let (batch, _) = all(at(folder.path()));
    assert_eq!(batch.captions, ["first of 0", "first of 1", "first of 2", "first of 3", "first of 4"]);
    assert_eq!(batch.labels, [Some(0), Some(1), Some(2), Some(3), Some(4)]);
    // The picture of a row without bytes is the file that its path names.
    fs::remove_file(folder.path().join("beside.png")).unwrap();
    let (batch, skips) = all(at(folder.path()));
    assert_eq!((batch.len(), skips.count(SkipReason::ImageMissing)), (4, 1));
}

#[cfg(feature = "parquet")]
#[test]
fn a_damaged_parquet_file_is_abandoned_and_others_are_read() {
    let whole = fs::read(fixture("img2dataset.parquet")).unwrap();
    let mut page = whole.clone();
    page[200..1500].fill(0xee);
    let wide = fs::read(fixture("hugging_face.parquet")).unwrap();
    let folder = place(&[
        ("0.parquet", &whole),
        ("1.parquet", &whole[..whole.len() / 2]),
        ("2.parquet", b"PAR1 and nothing more PAR1"),
        ("3.parquet", b""),
        ("4.parquet", &page),
    ]);
    let (batch, skips) = all(at(folder.path()));
    assert!(batch.len() >= 4 && skips.count(SkipReason::ParquetDamaged) >= 3, "{skips}");
    fs::write(folder.path().join("5.parquet"), wide).unwrap();
    let options = SourceOptions { caption_key: Some("txt".into()), ..SourceOptions::default() };
    let source = Source::parse_with(&folder.path().display().to_string(), &options).unwrap();
    let (_, skips) = read(&reading(source));
    let unfit = skips.first().iter().find(|skip| skip.reason == SkipReason::ShardFormat).unwrap();
    assert!(unfit.detail.contains("`txt`") && unfit.detail.contains("`captions`"), "{}", unfit.detail);
}

#[test]
fn tables_with_any_separator_and_column_names() {
    let (a, b) = (png(1), png(2));
    let pictures: [(&str, &[u8]); 2] = [("pics/a.png", &a), ("pics/b.png", &b)];
    let check = |name: &str, text: &str, options: SourceOptions| {
        let folder = place(&pictures);
        fs::write(folder.path().join(name), text).unwrap();
        let source = Source::parse_with(&folder.path().display().to_string(), &options).unwrap();
        assert_eq!(source.count().unwrap(), 3, "{name}");
        let (batch, skips) = all(source);
        assert_eq!(batch.captions, ["a cat, asleep", "a dog", "the cat again"], "{name}: {skips}");
        assert_eq!(batch.keys, ["pics/a.png", "pics/b.png", "pics/a.png"]);
    };
    let tabs = "filepath\ttitle\npics/a.png\ta cat, asleep\npics/b.png\ta dog\npics/a.png\tthe cat again\n";
    check("t.csv", tabs, SourceOptions::default());
    check("t.tsv", &tabs.replace('\n', "\r\n"), SourceOptions::default());
    let commas = "id,image,caption\n1,pics/a.png,\"a cat, asleep\"\n2,pics/b.png,a dog\n3,pics/a.png,the cat again";
    check("t.csv", commas, SourceOptions::default());
    let named = SourceOptions {
        image_key: Some("x".into()),
        caption_key: Some("y".into()),
        separator: Some('|'),
        ..Default::default()
    };
    check("t.csv", "y|x|title\na cat, asleep|pics/a.png|-\na dog|pics/b.png|-\nthe cat again|pics/a.png|-", named);
    let lines = "{\"file_name\":\"pics/a.png\",\"text\":\"a cat, asleep\"}\n\n{\"file_name\":\"pics/b.png\",\"text\":[\"a dog\",\"Rex\"]}\n\
        {\"image\":1,\"file_name\":\"pics/a.png\",\"text\":\"the cat again\"}\n";
    check("metadata.jsonl", lines, SourceOptions::default());
}

#[test]
fn rows_that_are_none_and_pictures_that_are_not_there_are_counted() {
    let folder = place(&[("a.png", &png(1))]);
    let path = folder.path().join("t.csv");
    fs::write(&path, "filepath,title\na.png,good\na.png,one,too many\nnone.png,lost\na.png,\"a line\nbreak\"\n")
        .unwrap();
    let (batch, skips) = all(at(&path));
    assert_eq!(batch.captions, ["good", "a line\nbreak"]);
    assert_eq!((skips.count(SkipReason::BadRow), skips.count(SkipReason::ImageMissing), skips.skipped()), (1, 1, 2));
    assert!(
        skips.to_string().contains("row 2") && skips.to_string().contains("3 columns, the header has 2"),
        "{skips}"
    );
    let path = folder.path().join("t.jsonl");
    fs::write(
        &path,
        "{\"image\":\"a.png\",\"text\":\"good\"}\n{\"image\":\"a.png\"}\nnot json\n{\"image\":3,\"text\":\"x\"}",
    )
    .unwrap();
    assert_eq!(all(at(&path)).1.count(SkipReason::BadRow), 3);
}

#[test]
fn tables_that_cannot_be_used_say_why() {
    let check = |name: &str, text: &[u8], says: &[&str]| {
        let folder = place(&[(name, text)]);
        let error = Source::folder(folder.path()).unwrap_err();
        assert!(matches!(error, DataError::Table { .. }), "{error}");
        says.iter().for_each(|part| assert!(error.to_string().contains(part), "`{part}` is not in: {error}"));
    };
    check(
        "t.csv",
        b"path_to,words\na,b\n",
        &["t.csv", "no column of pictures", "`filepath`", "`path_to`", "csv_img_key"],
    );
    check("t.csv", b"filepath,words\na,b\n", &["no column of captions", "csv_caption_key"]);
    check("t.csv", b"filepath,title\n", &["no row"]);
    check("t.jsonl", b"[1, 2]\n", &["line 1 is no JSON object"]);
    let open_quote = [&b"filepath,title\na,\""[..], &vec![b'x'; 18 << 20]].concat();
    check("t.csv", &open_quote, &["longer than 16 MiB", "quote"]);
    let two = place(&[("a.csv", b"filepath,title\n"), ("b.csv", b"")]);
    assert!(Source::folder(two.path()).unwrap_err().to_string().contains("one of 2 tables"));
}

#[test]
fn a_long_table_is_read_in_blocks_and_mixed() {
    let mut text = "filepath\ttitle\n".to_string();
    (0..300).for_each(|i| text.push_str(&format!("p{}.png\tcaption {i}\n", i % 3)));
    let folder = place(&[("p0.png", &png(0)), ("p1.png", &png(1)), ("p2.png", &png(2)), ("t.tsv", text.as_bytes())]);
    let source = at(&folder.path().join("t.tsv"));
    assert_eq!((source.shards().len(), source.count().unwrap()), (5, 300));
    let (batch, _) = all(source.clone());
    let wanted: Vec<_> = (0..300).map(|i| format!("caption {i}")).collect();
    assert_eq!(batch.captions, wanted);
    let mut config = reading(source);
    config.shuffle.buffer = 1;
    let mut loader = jest_data::Loader::new(config, Default::default()).unwrap();
    let first = loader.next_super_batch(64).unwrap();
    let blocks: HashSet<_> = first.captions.iter().map(|c| c[8..].parse::<usize>().unwrap() / 64).collect();
    // Whole blocks come in random order.
    assert!(!blocks.contains(&0) || blocks.len() > 1 || first.captions != wanted[..64], "{blocks:?}");
}

#[test]
fn a_folder_a_class_as_imagenet_lies() {
    let (a, b, jpeg) = (png(1), png(2), common::jpeg(3));
    let mut files: Vec<(&str, &[u8])> =
        vec![("tabby_cat/1.png", &a), ("tabby_cat/2.JPEG", &jpeg), ("dog/1.png", &b), ("dog/notes.md", b"no picture")];
    let (batch, _) = all(at(place(&files).path()));
    assert_eq!(batch.captions, ["dog", "tabby cat", "tabby cat"]);
    assert_eq!(batch.labels, [Some(0), Some(1), Some(1)]);
    assert_eq!(batch.keys, ["dog/1.png", "tabby_cat/1.png", "tabby_cat/2.JPEG"]);
    files.push(("classnames.txt", b"hound\ncat\n"));
    files.push(("zeroshot_classification_templates.txt", b"a photo of a {c}.\nart of {c}\n"));
    let (batch, _) = all(at(place(&files).path()));
    assert_eq!(batch.captions, ["a photo of a hound.", "a photo of a cat.", "a photo of a cat."]);
    files.push(("bird/1.png", &a));
    let folder = place(&files);
    let error = Source::folder(folder.path()).unwrap_err().to_string();
    assert!(error.contains("2 names for 3 folders"), "{error}");
}

#[test]
fn pictures_with_captions_beside_them() {
    let (a, b) = (png(1), png(2));
    // As img2dataset writes them with `output_format=files`.
    let folder = place(&[
        ("00000/000000000.jpg", &common::jpeg(1)),
        ("00000/000000000.txt", b"one"),
        ("00000/000000000.json", br#"{"uid": "x", "n": 1}"#),
        ("00000/000000001.png", &a),
        ("00001/000010000.png", &b),
        ("00001/000010000.txt", b"two"),
    ]);
    let (batch, skips) = all(at(folder.path()));
    assert_eq!((batch.captions.as_slice(), skips.count(SkipReason::NoCaption)), (&["one".into(), "two".into()][..], 1));
    assert!(batch.json[0].as_ref().unwrap().contains("uid"));
    let flat = place(&[("a.png", &a), ("a.txt", b"flat"), ("b.png", &b), ("b.txt", b"and short")]);
    assert_eq!(all(at(flat.path())).0.captions, ["flat", "and short"]);
    let error = Source::folder(place(&[("a.png", &a)]).path()).unwrap_err();
    assert!(matches!(error, DataError::Source { .. }), "{error}");
}

#[test]
fn clip_benchmark_folders() {
    let (a, b) = (png(1), png(2));
    let classes = common::archive(&[
        ("s0000000.webp", &a),
        ("s0000000.cls", b"1"),
        ("s0000001.webp", &b),
        ("s0000001.cls", b"0"),
    ]);
    let root = place(&[
        ("test/nshards.txt", b"2\n"),
        ("test/0.tar", &classes),
        ("classnames.txt", b"cat\ndog\n"),
        ("zeroshot_classification_templates.txt", b"a photo of a {c}.\n"),
    ]);
    let (batch, skips) = all(at(&root.path().join("test")));
    assert_eq!(batch.captions, ["a photo of a dog.", "a photo of a cat."]);
    assert_eq!((batch.labels.as_slice(), skips.count(SkipReason::ShardMissing)), (&[Some(1), Some(0)][..], 1));
    let pairs = common::archive(&[("s0000000.png", &a), ("s0000000.txt", b"first\nsecond\n\nthird\n")]);
    let files: [(&str, &[u8]); 3] =
        [("test/nshards.txt", b"1"), ("test/0.tar", &pairs), ("dataset_type.txt", b"retrieval\n")];
    assert_eq!(all(at(&place(&files).path().join("test"))).0.captions, ["first"]);
    assert_eq!(all(at(&place(&files[..2]).path().join("test"))).0.captions, ["first\nsecond\n\nthird"]);
    let bad = place(&[("nshards.txt", b"many")]);
    assert!(Source::folder(bad.path()).unwrap_err().to_string().contains("`many` is no number of shards"));
}

#[test]
fn synthetic_examples_need_no_files() {
    let source = Source::parse("synthetic:2050").unwrap();
    assert_eq!((source.shards().len(), source.count().unwrap()), (3, 2050));
    let (batch, skips) = all(source);
    assert_eq!((batch.len(), skips.skipped()), (2050, 0));
    assert_eq!((batch.captions[1].as_str(), batch.captions[8].as_str()), ("green over red", "red over green"));
    assert_eq!(batch.image_rgb(1)[..3], [30, 160, 60]);
    assert_eq!(batch.captions[2049], "green over red");
    assert_eq!(batch.captions[65], "green over red in a grey frame of 1 pixels");
}

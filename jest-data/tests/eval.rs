//! Evaluation tasks, shipped and broken.
// Helpers fail as tests do.
#![allow(clippy::unwrap_used)]

mod common;

use common::{archive, config, png, sample};
use jest_data::{DataError, EvalKind, EvalTask, SkipReason};
use std::collections::HashSet;

#[test]
fn the_shipped_tasks() {
    let tasks = EvalTask::discover(&sample().join("eval")).unwrap();
    let names: Vec<_> = tasks.iter().map(|task| task.name.as_str()).collect();
    assert_eq!(names, ["clipart_retrieval", "emoji_zs", "fashion_zs"]);
    let config = config(&sample().join("train"));
    for (task, images, classes) in [(&tasks[0], 317, 0), (&tasks[1], 501, 501), (&tasks[2], 323, 10)] {
        let mut pass = task.batches(&config, 100).unwrap();
        let batches: Vec<_> = pass.by_ref().map(Result::unwrap).collect();
        assert_eq!(batches.iter().map(|batch| batch.len()).sum::<usize>(), images, "{}", pass.skips());
        assert_eq!(task.prompts().len(), classes);
        let labels: HashSet<_> = batches.iter().flat_map(|batch| &batch.labels).copied().collect();
        assert_eq!(labels.len(), classes.max(1));
        assert_eq!(labels.contains(&None), task.kind == EvalKind::Retrieval);
    }
    assert_eq!(EvalTask::discover(&tasks[2].folder).unwrap(), tasks[2..]);
}

fn task(json: &str, shard: Vec<u8>) -> (tempfile::TempDir, Result<EvalTask, DataError>) {
    let folder = common::folder(&[("0.tar", shard), ("classes.json", json.as_bytes().to_vec())]);
    let task = EvalTask::open(folder.path());
    (folder, task)
}

#[test]
fn labels_come_from_cls_or_json_and_captions_may_lack() {
    let picture = png(1);
    let files: [(&str, &[u8]); 8] = [
        ("a.png", &picture),
        ("a.cls", b"1\n"),
        ("b.png", &picture),
        ("b.json", br#"{"label":0}"#),
        ("c.png", &picture),
        ("c.cls", b"2"),
        ("d.png", &picture),
        ("d.txt", b"no label"),
    ];
    let json = r#"{"type":"zero-shot","classes":["cat","dog"],"templates":["a {}","{c} toy"]}"#;
    let (folder, task) = task(json, archive(&files));
    let task = task.unwrap();
    assert_eq!(task.prompts(), [["a cat", "cat toy"], ["a dog", "dog toy"]]);
    let mut pass = task.batches(&config(folder.path()), 10).unwrap();
    let batch = pass.next().unwrap().unwrap();
    assert_eq!(batch.labels, [Some(1), Some(0)]);
    assert_eq!((batch.captions[0].as_str(), batch.lengths[0]), ("", 1));
    assert_eq!(pass.skips().count(SkipReason::BadLabel), 2);
}

#[test]
fn folders_of_clip_benchmark() {
    let picture = png(1);
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    };
    write("test/0.tar", &archive(&[("s0.png", &picture), ("s0.cls", b"1"), ("s0.txt", b"one\ntwo")]));
    write("test/1.tar", &archive(&[("s1.png", &picture), ("s1.cls", b"0"), ("s1.txt", b"three")]));
    write("test/2.tar", b"beyond the count");
    write("test/nshards.txt", b" 2\n");
    write("classnames.txt", b"cat \ndog\n\n");
    // What lies beyond the count is not read: `2.tar` is no shard at all.
    write("zeroshot_classification_templates.txt", b"a {c}\n{c} toy\n");
    let config = config(&sample().join("train"));
    let open = || EvalTask::open(folder.path());
    let task = open().unwrap();
    assert_eq!(task.prompts(), [["a cat", "cat toy"], ["a dog", "dog toy"]]);
    assert_eq!(task.name, folder.path().file_name().unwrap().to_str().unwrap());
    let labels: Vec<_> = task.batches(&config, 10).unwrap().flat_map(|batch| batch.unwrap().labels).collect();
    assert_eq!(labels, [Some(1), Some(0)]);
    let error = task.training_batches(&config, 10).err().unwrap().to_string();
    assert!(error.contains("`train` in classes.json"), "{error}");
    write("train/nshards.txt", b"1");
    write("train/0.tar", &archive(&[("t.png", &picture), ("t.cls", b"0")]));
    assert_eq!(open().unwrap().training_batches(&config, 10).unwrap().next().unwrap().unwrap().labels, [Some(0)]);
    write("dataset_type.txt", b"Retrieval\n");
    let captions: Vec<_> =
        open().unwrap().batches(&config, 10).unwrap().flat_map(|batch| batch.unwrap().captions).collect();
    assert_eq!(captions, ["one\ntwo", "three"]);
    write("dataset_type.txt", b"multilabel");
    assert!(open().unwrap_err().to_string().contains("`multilabel`"));
    write("test/nshards.txt", b"0");
    write("dataset_type.txt", b"");
    let error = open().unwrap().batches(&config, 10).err().unwrap().to_string();
    assert!(error.contains("`0` is no number of shards"), "{error}");
}

#[test]
fn templates_may_stand_in_a_file() {
    let json = r#"{"type":"zero-shot","classes":["cat"],"templates":"templates.txt"}"#;
    let (folder, task) = task(json, archive(&[]));
    assert!(matches!(task, Err(DataError::Io { .. })));
    std::fs::write(folder.path().join("templates.txt"), "a {}\n{c}s\n").unwrap();
    assert_eq!(EvalTask::open(folder.path()).unwrap().prompts(), [["a cat", "cats"]]);
}

#[test]
fn broken_descriptions_say_what_is_wrong() {
    for (json, word) in [
        ("", "EOF"),
        (r#"{"type":"zero-shot"}"#, "`classes`"),
        (r#"{"type":"retrieval","task":"../other"}"#, "`task` is `../other`"),
        (r#"{"type":"linear"}"#, "`zero-shot` or `retrieval`"),
        (r#"{"type":"zero-shot","classes":["a"],"templates":["x"]}"#, "template `x`"),
    ] {
        let (_folder, task) = task(json, archive(&[]));
        let error = task.unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
    assert!(EvalTask::discover(&sample().join("train")).is_err());
}

//! Ids against those of the original libraries: `fixtures/text`, made by `scripts/text/make_goldens.py`.
// Helpers fail as tests do.
#![allow(clippy::unwrap_used)]

mod common;

use common::sample;
use jest_data::{Canonicalize, DataError, Tokenizer};
use serde_json::{Value, json};
use std::io::Read;
use std::path::{Path, PathBuf};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/text")
}

fn file(name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(fixtures().join(name)).unwrap()).unwrap()
}

fn strings(list: &Value) -> Vec<String> {
    list.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_string()).collect()
}

/// Every caption of the sample, then each as a prompt in capitals.
fn captions() -> Vec<String> {
    let mut text = String::new();
    let file = std::fs::File::open(sample().join("manifest.jsonl.gz")).unwrap();
    flate2::read::GzDecoder::new(file).read_to_string(&mut text).unwrap();
    let rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let field = |row: &Value, name: &str| row[name].as_str().unwrap().to_string();
    let prompt = |row: &Value| {
        let caption = field(row, "caption").to_uppercase();
        format!("A photo_of: {caption} ({}, {})", field(row, "source"), field(row, "style"))
    };
    rows.iter().map(|row| field(row, "caption")).chain(rows.iter().map(prompt)).collect()
}

/// Holds a tokenizer against the entry `name` of `ids.json`.
fn check(name: &str) {
    let golden = &file("ids.json")[name];
    let mut tokenizer = match golden["tokenizer"].as_str().unwrap() {
        "clip" => Tokenizer::clip().unwrap(),
        file => Tokenizer::open(&fixtures().join(file)).unwrap(),
    };
    if let Some(pad) = golden["pad"].as_u64() {
        tokenizer = tokenizer.with_pad(pad as u32).unwrap();
    }
    if let Some(rule) = serde_json::from_value(golden["canonicalize"].clone()).unwrap() {
        tokenizer = tokenizer.with_canonicalize(rule).unwrap();
    }
    // What is written must read back as the same.
    let reread = Tokenizer::from_bytes(tokenizer.to_json().as_bytes()).unwrap();
    assert_eq!(reread.hash(), tokenizer.hash());
    let length = golden["length"].as_u64().unwrap() as usize;
    let encode = |text: &str| reread.encode(text, length).unwrap().ids;
    let ids = |list: &Value| list.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect::<Vec<_>>();
    for (text, expected) in strings(&file("texts.json")["nasty"]).iter().zip(golden["nasty"].as_array().unwrap()) {
        assert_eq!(encode(text), ids(expected), "{name}: {text:?}");
    }
    assert_eq!(encode(&"a drawing of cats, ".repeat(52_430)), ids(&golden["long"]), "{name}: 1 MB");
    let captions = captions();
    assert_eq!(captions.len(), golden["texts"].as_u64().unwrap() as usize);
    assert!(captions.len() > 10_000);
    // FNV-1a, an id at a time.
    let fold = |hash: u64, id: u32| (hash ^ u64::from(id)).wrapping_mul(0x100_0000_01b3);
    let hash = captions.iter().flat_map(|text| encode(text)).fold(0xcbf2_9ce4_8422_2325, fold);
    assert_eq!(format!("{hash:016x}"), golden["captions"].as_str().unwrap(), "{name}: captions");
}

/// `unigram.model` as a tokenizer.json with other normalisers, made of its own.
fn renormalized(change: impl FnOnce(&Value) -> Value) -> Result<Tokenizer, DataError> {
    let mut json: Value = serde_json::from_str(unigram().to_json()).unwrap();
    json["normalizer"] = change(&json["normalizer"]);
    Tokenizer::from_bytes(json.to_string().as_bytes())
}

fn unigram() -> Tokenizer {
    Tokenizer::open(&fixtures().join("unigram.model")).unwrap()
}

#[test]
fn clip_gives_open_clips_ids() {
    let clip = Tokenizer::clip().unwrap();
    assert_eq!((clip.vocab_size(), clip.pad_id(), clip.eos_id()), (49_408, 0, Some(49_407)));
    check("clip");
}

#[test]
fn siglip_1_gives_sentencepieces_ids_under_each_rule() {
    assert_eq!((unigram().pad_id(), unigram().eos_id()), (0, Some(1)));
    ["unigram", "siglip, open_clip", "siglip, big_vision", "siglip, hf"].into_iter().for_each(check);
}

#[test]
fn siglip_2_gives_sentencepieces_ids() {
    check("gemma");
}

#[test]
fn unigram_with_bytes_gives_sentencepieces_ids() {
    check("bytes");
}

#[test]
fn wordpiece_gives_berts_ids() {
    check("wordpiece");
}

#[test]
fn dirty_text_is_cleaned_as_ftfy_does_it() {
    let texts = file("texts.json");
    for (text, cleaned) in strings(&texts["nasty"]).iter().zip(strings(&texts["cleaned"])) {
        let words = cleaned.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(Canonicalize::Clip.apply(text), words.to_lowercase(), "{text:?}");
    }
}

#[test]
fn a_caption_cannot_write_marks() {
    for (tokenizer, text) in [
        (Tokenizer::clip().unwrap(), "a <end_of_text> b <start_of_text>"),
        (unigram(), "a </s> b <unk> <pad>"),
        (Tokenizer::open(&fixtures().join("vocab.txt")).unwrap(), "a [SEP] b [CLS]"),
    ] {
        let tokens = tokenizer.encode(text, 64).unwrap();
        let ends = tokens.ids[..tokens.length as usize].iter().filter(|id| Some(**id) == tokenizer.eos_id()).count();
        assert_eq!(ends, 1, "{text}");
    }
}

#[test]
fn a_folder_is_opened_by_what_it_holds() {
    let folder = tempfile::tempdir().unwrap();
    let copy = |from: &str, to: &str| std::fs::copy(fixtures().join(from), folder.path().join(to)).unwrap();
    copy("vocab.txt", "vocab.txt");
    let uncased = Tokenizer::open(folder.path()).unwrap();
    std::fs::write(folder.path().join("tokenizer_config.json"), r#"{"do_lower_case":false}"#).unwrap();
    let cased = Tokenizer::open(folder.path()).unwrap();
    assert_eq!(uncased.encode("A CAT", 8).unwrap(), uncased.encode("a cat", 8).unwrap());
    assert_ne!(cased.encode("A CAT", 8).unwrap(), cased.encode("a cat", 8).unwrap());
    let config = folder.path().join("tokenizer_config.json");
    for text in ["", "{", r#"{"do_lower_case":"no"}"#, r#"{"do_lower_case":null}"#] {
        std::fs::write(&config, text).unwrap();
        let error = Tokenizer::open(folder.path()).unwrap_err();
        assert!(matches!(&error, DataError::TokenizerFile { path, .. } if *path == config), "{text}: {error:?}");
    }
    std::fs::write(&config, "{}").unwrap();
    assert_eq!(Tokenizer::open(folder.path()).unwrap().hash(), uncased.hash());
    std::fs::remove_file(&config).unwrap();
    std::fs::create_dir(&config).unwrap();
    assert!(matches!(Tokenizer::open(folder.path()), Err(DataError::Io { path, .. }) if path == config));
    for name in ["vocab.txt", "spiece.model", "tokenizer.json"] {
        let bad = tempfile::tempdir().unwrap();
        std::fs::write(bad.path().join(name), "not one").unwrap();
        let error = Tokenizer::open(bad.path()).unwrap_err().to_string();
        assert_eq!(error, bad.path().join(name).display().to_string());
    }
    copy("unigram.model", "spiece.model");
    assert_eq!(Tokenizer::open(folder.path()).unwrap().hash(), unigram().hash());
    std::fs::write(folder.path().join("tokenizer.json"), uncased.to_json()).unwrap();
    assert_eq!(Tokenizer::open(folder.path()).unwrap().hash(), uncased.hash());
}

#[test]
fn cleaning_keeps_its_order_wherever_it_stands() {
    let sequence = |steps: &[Value]| json!({"type": "Sequence", "normalizers": steps});
    let decompose = json!({"type": "NFKD"});
    let own = |normalizer: &Value| normalizer["normalizers"].as_array().unwrap().clone();
    let [nested, first] = [
        renormalized(|n| sequence(&[sequence(std::slice::from_ref(&decompose)), sequence(std::slice::from_ref(n))]))
            .unwrap(),
        renormalized(|n| sequence(&[&[decompose.clone()][..], &own(n)].concat())).unwrap(),
    ];
    let behind = renormalized(|n| sequence(&[n.clone(), decompose.clone()])).unwrap();
    for text in ["Caf\u{e9} \u{ff76}\u{ff9e}", "a\u{30a} \u{bd}"] {
        let ids = |tokenizer: &Tokenizer| tokenizer.encode(text, 16).unwrap().ids;
        // The charsmap composes what was taken apart in front of it, and not what is taken apart behind it.
        assert_eq!(ids(&nested), ids(&unigram()), "{text}");
        assert_eq!(ids(&first), ids(&unigram()), "{text}");
        assert_ne!(ids(&behind), ids(&unigram()), "{text}");
    }
}

#[test]
fn damaged_replacements_are_refused() {
    // Nothing, no array, an array that does not end, replacements that are no text.
    for charsmap in
        [json!(""), json!(null), json!(7), json!("AAAAAA=="), json!("CAAAAAEC"), json!("BAAAAAECAwT/"), json!("-")]
    {
        let step = json!({"type": "Precompiled", "precompiled_charsmap": charsmap});
        for step in [step.clone(), json!({"type": "Sequence", "normalizers": [step]})] {
            let error = renormalized(|_| step.clone()).unwrap_err();
            assert!(matches!(error, DataError::Tokenizer { action: "read the replacements", .. }), "{step}: {error:?}");
        }
    }
    // <unk> and </s>, then a normaliser whose charsmap is an empty array.
    let model = b"\x0a\x09\x0a\x05<unk>\x18\x02\x0a\x08\x0a\x04</s>\x18\x03\x1a\x06\x12\x04\0\0\0\0";
    let Err(DataError::Tokenizer { source, .. }) = Tokenizer::sentencepiece(model) else { panic!("it was read") };
    assert_eq!(source.to_string(), "its normalisation rules are damaged");
}

#[test]
fn damaged_files_are_refused() {
    let model = std::fs::read(fixtures().join("gemma.model")).unwrap();
    let problem = |bytes: &[u8]| match Tokenizer::sentencepiece(bytes) {
        Err(DataError::Tokenizer { source, .. }) => source.to_string(),
        other => panic!("{other:?}"),
    };
    assert_eq!(problem(b""), "it is no SentencePiece model");
    assert_eq!(problem(b"not a model"), "it is no SentencePiece model");
    assert_eq!(problem(&model[..model.len() - 1]), "it is no SentencePiece model");
    assert_eq!(problem(&[10, 3, 10, 1, b'a']), "it has no end mark");
    let long = [&b"\x0a\x84\x04\x0a\x81\x04"[..], &[b'a'; 513]].concat();
    assert_eq!(problem(&long), "piece 0 is 513 bytes long, the limit is 512; train without it");
    // Any byte may be wrong: an answer, never a panic.
    for at in (0..model.len()).step_by(97) {
        let mut broken = model.clone();
        broken[at] ^= 0xff;
        drop(Tokenizer::sentencepiece(&broken));
    }
    // And behind a good end the rules of a charsmap: what is read must also encode.
    let model = std::fs::read(fixtures().join("unigram.model")).unwrap();
    let charsmap = model.len() - 240_000;
    for at in (0..charsmap).step_by(997).chain((charsmap..model.len()).step_by(8009)) {
        let mut broken = model.clone();
        broken[at] ^= 0xff;
        if let Ok(tokenizer) = Tokenizer::sentencepiece(&broken).and_then(|t| t.with_canonicalize(Canonicalize::Hf)) {
            drop(tokenizer.encode("ｶﾞ É ½ a\u{301} ﷺ a drawing", 16));
        }
    }
    let error = Tokenizer::wordpiece("[UNK]\na\n", true).unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(source, "no line is [PAD]; give BERT's vocab.txt");
}

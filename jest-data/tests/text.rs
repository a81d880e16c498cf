//! Tokenizers: length, end mark, cleaning, training.
// Helpers fail as tests do.
#![allow(clippy::unwrap_used)]

mod common;

use common::{config, sample, tokenizer};
use jest_data::{Canonicalize, DataError, LoaderConfig, Source, Tokenizer, read_all, train_tokenizer};

fn captions() -> Vec<String> {
    let sources = Source::parse_list(&format!("{0}/train::{0}/curated", sample().display())).unwrap();
    let config = LoaderConfig { sources, ..config(&sample().join("train")) };
    read_all(&config, 1000).unwrap().flat_map(|batch| batch.unwrap().captions).collect()
}

#[test]
fn the_shipped_tokenizer_is_what_its_captions_give() {
    let captions = captions();
    let trained = train_tokenizer(&captions, 4096).unwrap();
    assert_eq!(trained.to_json(), tokenizer().to_json());
    assert_eq!(trained.hash(), tokenizer().hash());
    let again = std::thread::spawn(move || train_tokenizer(captions.iter().rev(), 4096)).join().unwrap().unwrap();
    assert_eq!(again.to_json(), trained.to_json(), "the order of the captions does not enter");
}

#[test]
fn special_ids_are_fixed() {
    let tokenizer = tokenizer();
    assert_eq!((tokenizer.pad_id(), tokenizer.eos_id(), tokenizer.vocab_size()), (0, Some(1), 4022));
    let empty = tokenizer.encode("", 4).unwrap();
    assert_eq!((empty.ids, empty.length), (vec![1, 0, 0, 0], 1));
}

#[test]
fn too_long_keeps_the_end_mark_and_too_short_is_padded() {
    let tokenizer = tokenizer();
    let long = tokenizer.encode(&"broccoli and ".repeat(20), 6).unwrap();
    assert_eq!((long.ids.len(), long.ids[5], long.length), (6, 1, 6));
    let short = tokenizer.encode("broccoli", 6).unwrap();
    assert_eq!(short.ids[short.length as usize - 1], 1);
    assert!(short.ids[short.length as usize..].iter().all(|id| *id == 0));
    assert_eq!(short.ids[0], long.ids[0]);
    assert_eq!(tokenizer.encode("broccoli", 1).unwrap().ids, [1]);
    let (ids, lengths) = tokenizer.encode_all(["broccoli", "a very long caption of a drawing"], 5).unwrap();
    assert_eq!((ids.len(), lengths.len(), &ids[..5]), (10, 2, &short.ids[..5]));
}

#[test]
fn cleaning_follows_big_vision() {
    let tokenizer = tokenizer();
    let ids = |text: &str| tokenizer.encode(text, 32).unwrap();
    for (raw, clean) in [
        ("Hello_World", "hello world"),
        ("  two\t\n spaces ", "two spaces"),
        ("it's #1 [really] {so} ~`^\\|", "its 1 really so"),
        ("ÉCOLE straße", "école straße"),
        ("a-b.c", "abc"),
        ("!!!", ""),
    ] {
        assert_eq!(ids(raw), ids(clean), "{raw:?}");
        assert_eq!(tokenizer.is_blank(raw), clean.is_empty());
    }
    assert_ne!(ids("école"), ids("ecole"));
}

#[test]
fn a_rule_and_a_pad_become_part_of_the_file() {
    let plain = Tokenizer::from_bytes(WORDS.as_bytes()).unwrap();
    assert_eq!((plain.pad_id(), plain.eos_id(), plain.vocab_size()), (3, None, 8));
    assert_eq!(plain.encode("Red, cat", 4).unwrap().ids, [0, 0, 2, 3]);
    let clean = plain.with_canonicalize(Canonicalize::BigVision).unwrap();
    assert_eq!(clean.encode("Red, cat", 4).unwrap().ids, [1, 2, 3, 3]);
    assert_eq!(plain.with_canonicalize(Canonicalize::Lower).unwrap().encode("RED, cat", 3).unwrap().ids, [1, 0, 2]);
    let padded = clean.with_pad(7).unwrap();
    let reread = Tokenizer::from_bytes(padded.to_json().as_bytes()).unwrap();
    assert_eq!(reread.encode("Red_cat!", 4).unwrap().ids, [1, 2, 7, 7]);
    assert_eq!(reread.hash(), padded.hash());
    let hashes = [plain.hash(), clean.hash(), padded.hash()];
    assert!(hashes[0] != hashes[1] && hashes[1] != hashes[2]);
    assert!(matches!(clean.with_pad(99), Err(DataError::Setting { .. })));
}

#[test]
fn what_is_no_tokenizer_is_refused() {
    for bytes in [&b""[..], b"{}", b"not json", b"\xff\xfe"] {
        assert!(matches!(Tokenizer::from_bytes(bytes), Err(DataError::Tokenizer { .. })));
    }
    assert!(matches!(Tokenizer::open(&sample().join("none.json")), Err(DataError::Io { .. })));
    assert!(matches!(train_tokenizer(["a"], 258), Err(DataError::Setting { .. })));
    assert_eq!(train_tokenizer(Vec::<&str>::new(), 300).unwrap().vocab_size(), 259);
}

/// Six words, an unknown mark, a hole at id 6, no end mark.
const WORDS: &str = r#"{"version":"1.0","truncation":null,"padding":null,"added_tokens":[],"normalizer":null,
"pre_tokenizer":{"type":"Whitespace"},"post_processor":null,"decoder":null,
"model":{"type":"WordLevel","vocab":{"[UNK]":0,"red":1,"cat":2,"[PAD]":3,"a":4,"b":5,"dog":7},"unk_token":"[UNK]"}}"#;

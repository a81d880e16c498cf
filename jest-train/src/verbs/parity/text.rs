//! Token ids against those of the libraries that tokenizers come from.

use std::fs;
use std::path::Path;

use jest_data::{Canonicalize, Tokenizer};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::checks::Checks;
use crate::{Result, TrainError};

/// Longest context in tokens.
const LONGEST: usize = 8192;

/// One entry of `ids.json`.
#[derive(Deserialize)]
struct Golden {
    /// A file beside it, or `clip`.
    tokenizer: String,
    canonicalize: Option<Canonicalize>,
    pad: Option<u32>,
    length: usize,
    /// Of each of the texts.
    nasty: Vec<Vec<f32>>,
}

#[derive(Deserialize)]
struct Texts {
    nasty: Vec<String>,
}

/// `ids.json`: the ids of the texts in `texts.json`, by tokenizer.
pub(super) fn text(folder: &Path, checks: &mut Checks) -> Result<()> {
    let texts: Texts = read(&folder.join("texts.json"))?;
    let all: std::collections::BTreeMap<String, Golden> = read(&folder.join("ids.json"))?;
    for (name, golden) in all {
        if !(1..=LONGEST).contains(&golden.length) {
            checks.refuse(&name, &format!("its length {} is not in 1..={LONGEST}", golden.length));
            continue;
        }
        let mut tokenizer = match golden.tokenizer.as_str() {
            "clip" => Tokenizer::clip()?,
            file => Tokenizer::open(&folder.join(file))?,
        };
        if let Some(pad) = golden.pad {
            tokenizer = tokenizer.with_pad(pad)?;
        }
        if let Some(rule) = golden.canonicalize {
            tokenizer = tokenizer.with_canonicalize(rule)?;
        }
        let (ids, _) = tokenizer.encode_all(&texts.nasty, golden.length)?;
        let ids: Vec<f32> = ids.iter().map(|id| *id as f32).collect();
        checks.compare_exactly(&name, &ids, &golden.nasty.concat());
    }
    Ok(())
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = fs::read(path).map_err(TrainError::storage("read", path))?;
    serde_json::from_slice(&text).map_err(|source| TrainError::Json { what: "the expected ids", source })
}

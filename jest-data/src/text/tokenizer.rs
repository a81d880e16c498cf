//! Any `tokenizer.json`, padded and cut to one length as the SigLIP and CLIP processors do it.

use crate::{DataError, Result};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::Arc;
use tokenizers::normalizers::replace::ReplacePattern;
use tokenizers::normalizers::{Lowercase, Replace, Sequence, Strip};
use tokenizers::{NormalizedString, Normalizer, NormalizerWrapper, PaddingParams, PaddingStrategy};

/// How text is cleaned before it is cut into tokens; becomes part of the tokenizer and of its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Canonicalize {
    /// Lower case only, as SigLIP 2.
    Lower,
    /// `_` to space, ASCII punctuation removed, lower case, white space collapsed: SigLIP 1 as open_clip and big_vision clean it.
    OpenClip,
}

/// The tokens of one caption.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tokens {
    /// As many ids as asked for, padded on the right.
    pub ids: Vec<u32>,
    /// How many of them are no padding: the end mark counts, so it is 1 or more if the tokenizer has one.
    pub length: u32,
}

/// A tokenizer of the `tokenizers` library behind three promises: one length, the end mark always kept, padding on the right.
#[derive(Clone)]
pub struct Tokenizer {
    inner: Arc<tokenizers::Tokenizer>,
    json: Arc<str>,
    hash: String,
    pad: u32,
    eos: Option<u32>,
    vocab_size: usize,
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Tokenizer { hash, pad, eos, vocab_size, .. } = self;
        write!(f, "Tokenizer {{ hash: {hash}, vocab_size: {vocab_size}, pad: {pad}, eos: {eos:?} }}")
    }
}

impl Tokenizer {
    /// Reads a `tokenizer.json`, or the one in a folder.
    ///
    /// # Errors
    /// `Io` if it cannot be read, `Tokenizer` if it is none.
    pub fn open(path: &Path) -> Result<Tokenizer> {
        let file = if path.is_dir() { path.join("tokenizer.json") } else { path.to_path_buf() };
        Tokenizer::from_bytes(&std::fs::read(&file).map_err(DataError::io("read", &file))?)
    }

    /// Reads the bytes of a `tokenizer.json`.
    ///
    /// # Errors
    /// `Tokenizer` if the library refuses them.
    pub fn from_bytes(json: &[u8]) -> Result<Tokenizer> {
        Tokenizer::from_inner(tokenizers::Tokenizer::from_bytes(json).map_err(failed("read tokenizer.json"))?)
    }

    pub(super) fn from_inner(mut inner: tokenizers::Tokenizer) -> Result<Tokenizer> {
        let json = inner.to_string(true).map_err(failed("write tokenizer.json"))?;
        let stated_pad = inner.get_padding().map(|padding| padding.pad_id);
        inner.with_padding(None).with_truncation(None).map_err(failed("switch off truncation"))?;
        let marks = inner.encode_fast("", true).map_err(failed("encode the empty text"))?;
        let eos = marks.get_ids().last().copied();
        let named_pad = ["<pad>", "[PAD]"].iter().find_map(|name| inner.token_to_id(name));
        let highest = inner.get_vocab(true).into_values().max();
        Ok(Tokenizer {
            hash: blake3::hash(json.as_bytes()).to_hex()[..32].to_string(),
            json: json.into(),
            pad: stated_pad.or(named_pad).or(eos).unwrap_or(0),
            eos,
            vocab_size: highest.map_or(0, |id| id as usize + 1),
            inner: Arc::new(inner),
        })
    }

    /// The same tokenizer behind a cleaning rule, which runs before its own normaliser and is saved with it.
    ///
    /// # Errors
    /// `Tokenizer` if the library refuses the rule.
    pub fn with_canonicalize(&self, rule: Canonicalize) -> Result<Tokenizer> {
        let mut inner = self.reread()?;
        let mut steps = normalizers(rule)?;
        steps.extend(inner.get_normalizer().cloned());
        inner.with_normalizer(Some(Sequence::new(steps))).map_err(failed("set the normaliser"))?;
        Tokenizer::from_inner(inner)
    }

    /// The same tokenizer padding with `id`: SigLIP 1 pads with its end mark 1, open_clip's CLIP with 0.
    ///
    /// # Errors
    /// `Setting` if the vocabulary has no such id.
    pub fn with_pad(&self, id: u32) -> Result<Tokenizer> {
        let Some(pad_token) = self.inner.id_to_token(id) else {
            return Err(DataError::Setting {
                setting: "pad",
                value: id.to_string(),
                problem: "is not in the vocabulary",
            });
        };
        let mut inner = self.reread()?;
        inner.with_padding(Some(padding(id, pad_token)));
        Tokenizer::from_inner(inner)
    }

    fn reread(&self) -> Result<tokenizers::Tokenizer> {
        tokenizers::Tokenizer::from_bytes(self.json.as_bytes()).map_err(failed("read tokenizer.json"))
    }

    /// The `l` ids of a text: too long is cut and its last slot kept for the end mark, too short is padded on the right.
    ///
    /// # Errors
    /// `Tokenizer` if the library refuses the text.
    pub fn encode(&self, text: &str, l: usize) -> Result<Tokens> {
        let encoding = self.inner.encode_fast(text, true).map_err(failed("encode"))?;
        let mut ids = encoding.get_ids().to_vec();
        if ids.len() > l {
            ids.truncate(l);
            if let (Some(eos), Some(last)) = (self.eos, ids.last_mut()) {
                *last = eos;
            }
        }
        let length = ids.len() as u32;
        ids.resize(l, self.pad);
        Ok(Tokens { ids, length })
    }

    /// The ids of several texts in one table, and their lengths.
    ///
    /// # Shapes
    /// Returns `[n, l]` and `[n]`.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub fn encode_all<S: AsRef<str>>(
        &self,
        texts: impl IntoIterator<Item = S>,
        l: usize,
    ) -> Result<(Vec<u32>, Vec<u32>)> {
        let (mut ids, mut lengths) = (Vec::new(), Vec::new());
        for text in texts {
            let tokens = self.encode(text.as_ref(), l)?;
            ids.extend(tokens.ids);
            lengths.push(tokens.length);
        }
        Ok((ids, lengths))
    }

    /// Whether nothing but white space is left of a text once it is cleaned.
    pub fn is_blank(&self, text: &str) -> bool {
        let Some(normalizer) = self.inner.get_normalizer() else { return text.trim().is_empty() };
        let mut cleaned = NormalizedString::from(text);
        normalizer.normalize(&mut cleaned).is_ok() && cleaned.get().trim().is_empty()
    }

    /// One more than the highest id: the rows a token embedding needs.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// The padding id: what the file states, else `<pad>` or `[PAD]`, else the end mark, else 0.
    pub fn pad_id(&self) -> u32 {
        self.pad
    }

    /// The end mark, if the tokenizer appends one.
    pub fn eos_id(&self) -> Option<u32> {
        self.eos
    }

    /// A hash of the whole file: equal hashes mean equal ids.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// The text of a `tokenizer.json` that [`from_bytes`](Self::from_bytes) and other libraries read.
    pub fn to_json(&self) -> &str {
        &self.json
    }
}

pub(super) fn padding(pad_id: u32, pad_token: String) -> PaddingParams {
    // A fixed length is the caller's; the file only says which token pads, and that it pads on the right.
    PaddingParams { strategy: PaddingStrategy::BatchLongest, pad_id, pad_token, ..PaddingParams::default() }
}

pub(super) fn failed(action: &'static str) -> impl FnOnce(tokenizers::Error) -> DataError {
    move |source| DataError::Tokenizer { action, source }
}

pub(super) fn normalizers(rule: Canonicalize) -> Result<Vec<NormalizerWrapper>> {
    let regex = |pattern: &str, content: &str| {
        Replace::new(ReplacePattern::Regex(pattern.to_string()), content).map_err(failed("build the normaliser"))
    };
    Ok(match rule {
        Canonicalize::Lower => vec![Lowercase.into()],
        Canonicalize::OpenClip => vec![
            Replace::new("_", " ").map_err(failed("build the normaliser"))?.into(),
            regex(r"[!-/:-@\[-`{-~]", "")?.into(),
            Lowercase.into(),
            regex(r"\s+", " ")?.into(),
            Strip::new(true, true).into(),
        ],
    })
}

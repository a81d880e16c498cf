//! Any `tokenizer.json`, padded and cut to one length as the SigLIP and CLIP processors do it.

use super::canonicalize::Canonicalize;
use super::cleaning::{self, Cleaning};
use super::hidden::{Bytes, hide};
use crate::{DataError, Result};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use tokenizers::normalizers::Sequence;
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{NormalizedString, Normalizer, PaddingParams, PaddingStrategy};

/// The tokens of one caption.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tokens {
    /// As many ids as asked for, padded on the right.
    pub ids: Vec<u32>,
    /// How many of them are no padding: the end mark counts, so it is 1 or more if the tokenizer has one.
    pub length: u32,
}

/// Files that a folder's tokenizer is looked for in.
const FILES: [&str; 5] = ["tokenizer.json", "tokenizer.model", "spiece.model", "sentencepiece.model", "vocab.txt"];

/// A tokenizer of the `tokenizers` library behind four promises: one length, the end mark always kept, padding on the right, and marks
/// that a caption spells out are text.
#[derive(Clone)]
pub struct Tokenizer {
    inner: Arc<tokenizers::Tokenizer>,
    cleaning: Arc<Cleaning>,
    bytes: Option<Arc<Bytes>>,
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
    /// Reads a `tokenizer.json`, a SentencePiece `.model`, or BERT's `vocab.txt`; of a folder the first of them that it holds.
    ///
    /// A `tokenizer_config.json` beside a `vocab.txt` says with `do_lower_case` whether the model is uncased, as it is without one.
    ///
    /// # Errors
    /// `Io` if a file cannot be read, `TokenizerFile` if it is no such file.
    pub fn open(path: &Path) -> Result<Tokenizer> {
        let held = |name: &&&str| path.join(name).is_file();
        let file = if path.is_dir() { path.join(FILES.iter().find(held).unwrap_or(&FILES[0])) } else { path.into() };
        let bytes = std::fs::read(&file).map_err(DataError::io("read", &file))?;
        let tokenizer = match file.extension().and_then(|ending| ending.to_str()) {
            Some("model") => Tokenizer::sentencepiece(&bytes),
            Some("txt") => {
                let lower = lower_case(&file.with_file_name("tokenizer_config.json"))?;
                let text = String::from_utf8(bytes).map_err(|e| failed("read the word pieces")(e.into()));
                text.and_then(|text| Tokenizer::wordpiece(&text, lower))
            }
            _ => Tokenizer::from_bytes(&bytes),
        };
        tokenizer.map_err(in_file(&file))
    }

    /// Reads the bytes of a `tokenizer.json`.
    ///
    /// # Errors
    /// `Tokenizer` if the library refuses them.
    pub fn from_bytes(json: &[u8]) -> Result<Tokenizer> {
        cleaning::check(json)?;
        guarded("read tokenizer.json", || {
            Tokenizer::from_inner(tokenizers::Tokenizer::from_bytes(json).map_err(failed("read tokenizer.json"))?)
        })
    }

    fn from_inner(mut inner: tokenizers::Tokenizer) -> Result<Tokenizer> {
        let json = inner.to_string(true).map_err(failed("write tokenizer.json"))?;
        let stated_pad = inner.get_padding().map(|padding| padding.pad_id);
        inner.with_padding(None).with_truncation(None).map_err(failed("switch off truncation"))?;
        let marks = inner.encode_fast("", true).map_err(failed("encode the empty text"))?;
        let eos = marks.get_ids().last().copied();
        let named_pad = ["<pad>", "[PAD]"].iter().find_map(|name| inner.token_to_id(name));
        let highest = inner.get_vocab(true).into_values().max();
        let cleaning = Arc::new(Cleaning::take(&mut inner)?);
        let bytes = hide(&mut inner)?.map(Arc::new);
        Ok(Tokenizer {
            hash: blake3::hash(json.as_bytes()).to_hex()[..32].to_string(),
            json: json.into(),
            pad: stated_pad.or(named_pad).or(eos).unwrap_or(0),
            eos,
            vocab_size: highest.map_or(0, |id| id as usize + 1),
            inner: Arc::new(inner),
            cleaning,
            bytes,
        })
    }

    /// The same tokenizer behind a cleaning rule, which runs before its own normaliser and is saved with it.
    ///
    /// # Errors
    /// `Tokenizer` if the library refuses the rule.
    pub fn with_canonicalize(&self, rule: Canonicalize) -> Result<Tokenizer> {
        let mut inner = self.reread()?;
        let mut steps = rule.steps()?;
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
        let mut ids = guarded("encode", || self.all_ids(text))?;
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

    fn all_ids(&self, text: &str) -> Result<Vec<u32>> {
        let text = self.cleaning.apply(text)?;
        // Only the slow way keeps the text of what is unknown.
        if let Some(bytes) = &self.bytes {
            return Ok(bytes.spell(&self.inner.encode(text.as_ref(), true).map_err(failed("encode"))?));
        }
        Ok(self.inner.encode_fast(text.as_ref(), true).map_err(failed("encode"))?.get_ids().to_vec())
    }

    /// Whether nothing but white space is left of a text once it is cleaned.
    pub fn is_blank(&self, text: &str) -> bool {
        let Ok(text) = self.cleaning.apply(text) else { return false };
        let Some(normalizer) = self.inner.get_normalizer() else { return text.trim().is_empty() };
        let mut cleaned = NormalizedString::from(text.as_ref());
        normalizer.normalize(&mut cleaned).is_ok()
            && cleaned.get().trim_matches(|c: char| c.is_whitespace() || c == '▁').is_empty()
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

fn in_file(path: &Path) -> impl FnOnce(DataError) -> DataError {
    move |source| DataError::TokenizerFile { path: path.into(), source: Box::new(source) }
}

/// What `do_lower_case` of a tokenizer_config.json says; true where it says nothing or there is none.
fn lower_case(path: &Path) -> Result<bool> {
    #[derive(serde::Deserialize)]
    struct Config {
        #[serde(default = "uncased")]
        do_lower_case: bool,
    }
    fn uncased() -> bool {
        true
    }
    match std::fs::read(path) {
        Ok(text) => serde_json::from_slice(&text)
            .map(|config: Config| config.do_lower_case)
            .map_err(|e| in_file(path)(failed("read do_lower_case")(e.into()))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(uncased()),
        Err(error) => Err(DataError::io("read", path)(error)),
    }
}

pub(super) fn padding(pad_id: u32, pad_token: String) -> PaddingParams {
    // A fixed length is the caller's; the file only says which token pads, and that it pads on the right.
    PaddingParams { strategy: PaddingStrategy::BatchLongest, pad_id, pad_token, ..PaddingParams::default() }
}

pub(super) fn failed(action: &'static str) -> impl FnOnce(tokenizers::Error) -> DataError {
    move |source| DataError::Tokenizer { action, source }
}

/// The answer of a call into the library, also where it panics.
pub(super) fn guarded<T>(action: &'static str, call: impl FnOnce() -> Result<T>) -> Result<T> {
    let panicked = || failed(action)("the tokenizer library panicked; the tokenizer's file is damaged".into());
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|_| Err(panicked()))
}

/// A caption between its marks, each a piece and its id.
pub(super) fn ends(start: Option<(&str, u32)>, end: (&str, u32)) -> Result<TemplateProcessing> {
    let mut marks = vec![(end.0.to_string(), end.1)];
    marks.extend(start.map(|(mark, id)| (mark.to_string(), id)));
    let single = format!("{}$A {}", start.map_or(String::new(), |(mark, _)| format!("{mark} ")), end.0);
    let mut builder = TemplateProcessing::builder();
    builder.try_single(single).map_err(|e| failed("build the marks")(e.into()))?.special_tokens(marks);
    builder.build().map_err(|e| failed("build the marks")(e.into()))
}

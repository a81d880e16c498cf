//! Any `tokenizer.json`, padded and cut to one length as the SigLIP and CLIP processors do it.

use super::canonicalize::Canonicalize;
use super::charsmap::{Charsmap, from_base64};
use crate::{DataError, Result};
use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;
use tokenizers::models::ModelWrapper;
use tokenizers::models::unigram::Unigram;
use tokenizers::normalizers::Sequence;
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{NormalizedString, Normalizer, NormalizerWrapper, PaddingParams, PaddingStrategy};

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
    rules: Vec<Canonicalize>,
    charsmap: Option<Arc<Charsmap>>,
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
    /// `Io` if it cannot be read, `Tokenizer` if it is none.
    pub fn open(path: &Path) -> Result<Tokenizer> {
        let held = |name: &&&str| path.join(name).is_file();
        let file = if path.is_dir() { path.join(FILES.iter().find(held).unwrap_or(&FILES[0])) } else { path.into() };
        let bytes = std::fs::read(&file).map_err(DataError::io("read", &file))?;
        match file.extension().and_then(|ending| ending.to_str()) {
            Some("model") => Tokenizer::sentencepiece(&bytes),
            Some("txt") => {
                let beside = std::fs::read(file.with_file_name("tokenizer_config.json")).unwrap_or_default();
                let config: serde_json::Value = serde_json::from_slice(&beside).unwrap_or_default();
                let text = String::from_utf8(bytes).map_err(|e| failed("read the word pieces")(e.into()))?;
                Tokenizer::wordpiece(&text, config["do_lower_case"].as_bool().unwrap_or(true))
            }
            _ => Tokenizer::from_bytes(&bytes),
        }
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
        let (rules, charsmap) = take_native(&mut inner)?;
        spell_out_marks(&mut inner)?;
        Ok(Tokenizer {
            hash: blake3::hash(json.as_bytes()).to_hex()[..32].to_string(),
            json: json.into(),
            pad: stated_pad.or(named_pad).or(eos).unwrap_or(0),
            eos,
            vocab_size: highest.map_or(0, |id| id as usize + 1),
            inner: Arc::new(inner),
            rules,
            charsmap,
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
        let text = self.clean(text);
        let encoding = self.inner.encode_fast(text.as_ref(), true).map_err(failed("encode"))?;
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

    /// What of the cleaning is done here, exactly as its sources do it; the library's normalisers come after.
    fn clean<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let ruled = self.rules.iter().fold(Cow::Borrowed(text), |text, rule| Cow::Owned(rule.apply(&text)));
        match &self.charsmap {
            Some(charsmap) => Cow::Owned(charsmap.normalize(&ruled)),
            None => ruled,
        }
    }

    /// Whether nothing but white space is left of a text once it is cleaned.
    pub fn is_blank(&self, text: &str) -> bool {
        let text = self.clean(text);
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

pub(super) fn padding(pad_id: u32, pad_token: String) -> PaddingParams {
    // A fixed length is the caller's; the file only says which token pads, and that it pads on the right.
    PaddingParams { strategy: PaddingStrategy::BatchLongest, pad_id, pad_token, ..PaddingParams::default() }
}

pub(super) fn failed(action: &'static str) -> impl FnOnce(tokenizers::Error) -> DataError {
    move |source| DataError::Tokenizer { action, source }
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

/// Takes out of the normalisers what is done here: rules by their marks, and SentencePiece's replacements, which the library finds by the
/// shortest match instead of the longest.
fn take_native(inner: &mut tokenizers::Tokenizer) -> Result<(Vec<Canonicalize>, Option<Arc<Charsmap>>)> {
    let steps: Vec<NormalizerWrapper> = match inner.get_normalizer() {
        Some(NormalizerWrapper::Sequence(sequence)) => sequence.as_ref().to_vec(),
        Some(one) => vec![one.clone()],
        None => Vec::new(),
    };
    let (mut rules, mut charsmap, mut rest) = (Vec::new(), None, Vec::new());
    for step in steps {
        rules.extend(Canonicalize::named_by(&step));
        match &step {
            NormalizerWrapper::Precompiled(rules) => {
                let json = serde_json::to_value(rules).map_err(|e| failed("read the replacements")(e.into()))?;
                let bytes = json["precompiled_charsmap"].as_str().and_then(from_base64).unwrap_or_default();
                charsmap = Charsmap::parse(&bytes).map(Arc::new);
            }
            _ => rest.push(step),
        }
    }
    inner.with_normalizer((!rest.is_empty()).then(|| Sequence::new(rest))).map_err(failed("set the normaliser"))?;
    Ok((rules, charsmap))
}

/// A caption that spells out a mark gets the ids of its letters: it cannot end itself early.
fn spell_out_marks(inner: &mut tokenizers::Tokenizer) -> Result<()> {
    inner.set_encode_special_tokens(true);
    let ModelWrapper::Unigram(model) = inner.get_model() else { return Ok(()) };
    let special = |text: &str| {
        let added = inner.get_added_vocabulary();
        added.get_vocab().get(text).is_some() && added.is_special_token(text)
    };
    let pieces: Vec<(String, f64)> = model
        .iter()
        .map(|(text, score)| if special(text) { (format!("\0{text}"), *score) } else { (text.clone(), *score) })
        .collect();
    let json = serde_json::to_value(model).map_err(|e| failed("read the pieces")(e.into()))?;
    let unknown = json["unk_id"].as_u64().map(|id| id as usize);
    let model = Unigram::from(pieces, unknown, model.byte_fallback()).map_err(failed("build the pieces"))?;
    inner.with_model(model);
    Ok(())
}

//! Tokenizers from the `.model` files of SentencePiece: unigram (T5, SigLIP 1) and BPE (Gemma, SigLIP 2).

use super::Tokenizer;
use super::charsmap::Charsmap;
use super::hidden::hidden;
use super::tokenizer::{ends, failed, guarded, padding};
use crate::{DataError, Result};
use std::collections::HashMap;
use tokenizers::models::ModelWrapper;
use tokenizers::models::bpe::BPE;
use tokenizers::models::unigram::Unigram;
use tokenizers::normalizers::replace::ReplacePattern;
use tokenizers::normalizers::{Precompiled, Replace, Sequence};
use tokenizers::pre_tokenizers::metaspace::{Metaspace, PrependScheme};
use tokenizers::{AddedToken, NormalizerWrapper, TokenizerBuilder};

/// What a piece is for; the numbers of the file.
const NORMAL: u64 = 1;
const UNKNOWN: u64 = 2;
const CONTROL: u64 = 3;
const USER_DEFINED: u64 = 4;
const UNUSED: u64 = 5;
const BYTE: u64 = 6;
/// Longest piece in bytes: what is done for every place to cut one is done for each of its bytes.
const LONGEST: usize = 512;
const UNIGRAM: u64 = 1;
const BPE_MODEL: u64 = 2;

struct Piece {
    text: String,
    score: f32,
    kind: u64,
}

/// What of a model file decides ids, with SentencePiece's defaults.
struct Model {
    pieces: Vec<Piece>,
    kind: u64,
    byte_fallback: bool,
    space_as_suffix: bool,
    eos: String,
    pad: String,
    charsmap: Vec<u8>,
    dummy_prefix: bool,
    remove_extra_spaces: bool,
}

impl Tokenizer {
    /// A SentencePiece model, unigram or BPE: no mark in front, `</s>` or the model's own end mark behind, padded with its padding piece.
    ///
    /// # Errors
    /// `Tokenizer` if the bytes are no such model, or one of another kind.
    ///
    /// # Source
    /// SentencePiece 0.2, id for id. Not so for a model with a space in front of all texts and words of its own (user-defined symbols):
    /// here a space comes in front of what stands behind such a word, too; nor for a caption that begins with U+2581.
    pub fn sentencepiece(bytes: &[u8]) -> Result<Tokenizer> {
        let json = guarded("read the SentencePiece model", || tokenizer_json(bytes))?;
        Tokenizer::from_bytes(json.as_bytes())
    }
}

/// The model in the words of tokenizer.json.
fn tokenizer_json(bytes: &[u8]) -> Result<String> {
    let model = Model::parse(bytes).ok_or_else(|| refused("it is no SentencePiece model"))?;
    if let Some((id, piece)) = model.pieces.iter().enumerate().find(|(_, piece)| piece.text.len() > LONGEST) {
        let length = piece.text.len();
        return Err(refused(format!("piece {id} is {length} bytes long, the limit is {LONGEST}; train without it")));
    }
    let position = |text: &str| model.pieces.iter().position(|piece| piece.text == text);
    let eos = position(&model.eos).ok_or_else(|| refused("it has no end mark"))?;
    let pad = position(&model.pad).unwrap_or(eos);
    if model.space_as_suffix {
        return Err(refused(
            "it writes spaces behind words, which is not supported; take a model that writes them in front",
        ));
    }
    let scheme = if model.dummy_prefix { PrependScheme::Always } else { PrependScheme::Never };
    let mut inner = TokenizerBuilder::new()
        .with_model(model.build()?)
        .with_normalizer(Some(Sequence::new(model.normalizers()?)))
        .with_pre_tokenizer(Some(Metaspace::new('▁', scheme, false)))
        .with_post_processor(Some(ends(None, (&model.eos, eos as u32))?))
        .with_decoder(Some(Metaspace::new('▁', scheme, false)))
        .with_padding(Some(padding(pad as u32, model.pieces[pad].text.clone())))
        .build()
        .map_err(failed("build the SentencePiece tokenizer"))?;
    let added = |kind: u64, special: bool| {
        let of_kind = model.pieces.iter().filter(move |piece| piece.kind == kind);
        of_kind.map(move |piece| AddedToken::from(piece.text.clone(), special).normalized(!special)).collect::<Vec<_>>()
    };
    inner.add_special_tokens([added(UNKNOWN, true), added(CONTROL, true)].concat()).map_err(failed("add marks"))?;
    inner.add_tokens(added(USER_DEFINED, false)).map_err(failed("add the model's own words"))?;
    inner.to_string(false).map_err(failed("write tokenizer.json"))
}

fn refused(problem: impl Into<String>) -> DataError {
    DataError::Tokenizer { action: "read the SentencePiece model", source: problem.into().into() }
}

impl Model {
    fn parse(bytes: &[u8]) -> Option<Model> {
        let mut model = Model {
            pieces: Vec::new(),
            kind: UNIGRAM,
            byte_fallback: false,
            space_as_suffix: false,
            eos: "</s>".to_string(),
            pad: "<pad>".to_string(),
            charsmap: Vec::new(),
            dummy_prefix: true,
            remove_extra_spaces: true,
        };
        for (field, value) in fields(bytes)? {
            match (field, value) {
                (1, Value::Bytes(piece)) => model.pieces.push(Piece::parse(piece)?),
                (2, Value::Bytes(trainer)) => model.trainer(trainer)?,
                (3, Value::Bytes(normalizer)) => model.normalizer(normalizer)?,
                _ => {}
            }
        }
        (!model.pieces.is_empty()).then_some(model)
    }

    fn trainer(&mut self, bytes: &[u8]) -> Option<()> {
        for (field, value) in fields(bytes)? {
            match (field, value) {
                (3, Value::Number(kind)) => self.kind = kind,
                (24, Value::Number(suffix)) => self.space_as_suffix = suffix != 0,
                (35, Value::Number(fallback)) => self.byte_fallback = fallback != 0,
                (47, Value::Bytes(eos)) => self.eos = String::from_utf8(eos.to_vec()).ok()?,
                (48, Value::Bytes(pad)) => self.pad = String::from_utf8(pad.to_vec()).ok()?,
                _ => {}
            }
        }
        Some(())
    }

    fn normalizer(&mut self, bytes: &[u8]) -> Option<()> {
        for (field, value) in fields(bytes)? {
            match (field, value) {
                (2, Value::Bytes(charsmap)) => self.charsmap = charsmap.to_vec(),
                (3, Value::Number(prefix)) => self.dummy_prefix = prefix != 0,
                (4, Value::Number(remove)) => self.remove_extra_spaces = remove != 0,
                _ => {}
            }
        }
        Some(())
    }

    fn normalizers(&self) -> Result<Vec<NormalizerWrapper>> {
        let mut steps: Vec<NormalizerWrapper> = Vec::new();
        if !self.charsmap.is_empty() {
            let damaged = || refused("its normalisation rules are damaged");
            Charsmap::parse(&self.charsmap).ok_or_else(damaged)?;
            let rules = Precompiled::from(&self.charsmap).map_err(|_| damaged())?;
            steps.push(rules.into());
        }
        if self.remove_extra_spaces {
            for (pattern, content) in [("^ +| +$", ""), (" {2,}", " ")] {
                let step = Replace::new(ReplacePattern::Regex(pattern.to_string()), content);
                steps.push(step.map_err(failed("build the normaliser"))?.into());
            }
        }
        // Before the model's own words are looked for, some of which are runs of spaces.
        steps.push(Replace::new(" ", "▁").map_err(failed("build the normaliser"))?.into());
        Ok(steps)
    }

    fn build(&self) -> Result<ModelWrapper> {
        let unknown = self.pieces.iter().position(|piece| piece.kind == UNKNOWN);
        let unknown = unknown.ok_or_else(|| refused("it has no piece for what is unknown"))?;
        match self.kind {
            UNIGRAM => {
                // Bytes that stand for the unknown are known by their names.
                let hide = |piece: &Piece| piece.kind == UNUSED || piece.kind == BYTE && !self.byte_fallback;
                let name = |piece: &Piece| if hide(piece) { hidden(&piece.text) } else { piece.text.clone() };
                let scores = self.pieces.iter().map(|piece| (name(piece), f64::from(piece.score))).collect();
                let model = Unigram::from(scores, Some(unknown), self.byte_fallback);
                Ok(model.map_err(failed("build the unigram model"))?.into())
            }
            BPE_MODEL => {
                let ids = self.pieces.iter().map(|piece| piece.text.clone()).zip(0..).collect::<Vec<(String, u32)>>();
                let model = BPE::builder()
                    .vocab_and_merges(ids.into_iter().collect::<tokenizers::models::bpe::Vocab>(), self.merges())
                    .unk_token(self.pieces[unknown].text.clone())
                    .fuse_unk(true)
                    .byte_fallback(self.byte_fallback)
                    .build();
                Ok(model.map_err(failed("build the BPE model"))?.into())
            }
            _ => Err(refused("it is neither unigram nor BPE")),
        }
    }

    /// Every way to put a piece together from two others, the piece of the highest score first.
    fn merges(&self) -> Vec<(String, String)> {
        let mergeable = |piece: &&Piece| piece.kind == NORMAL;
        let known: HashMap<&str, usize> = self
            .pieces
            .iter()
            .enumerate()
            .filter(|(_, piece)| piece.kind == NORMAL)
            .map(|(id, p)| (p.text.as_str(), id))
            .collect();
        let mut merges: Vec<(f32, usize, usize)> = Vec::new();
        for piece in self.pieces.iter().filter(mergeable) {
            let first = merges.len();
            for (at, _) in piece.text.char_indices().skip(1) {
                let (left, right) = piece.text.split_at(at);
                if let (Some(left), Some(right)) = (known.get(left), known.get(right)) {
                    merges.push((piece.score, *left, *right));
                }
            }
            merges[first..].sort_unstable_by_key(|(_, left, right)| (*left, *right));
        }
        merges.sort_by(|a, b| b.0.total_cmp(&a.0));
        let text = |id: usize| self.pieces[id].text.clone();
        merges.into_iter().map(|(_, left, right)| (text(left), text(right))).collect()
    }
}

impl Piece {
    fn parse(bytes: &[u8]) -> Option<Piece> {
        let mut piece = Piece { text: String::new(), score: 0.0, kind: NORMAL };
        for (field, value) in fields(bytes)? {
            match (field, value) {
                (1, Value::Bytes(text)) => piece.text = String::from_utf8(text.to_vec()).ok()?,
                (2, Value::Float(score)) => piece.score = score,
                (3, Value::Number(kind)) => piece.kind = kind,
                _ => {}
            }
        }
        Some(piece)
    }
}

/// A value of a protocol buffer.
enum Value<'a> {
    Number(u64),
    Float(f32),
    Bytes(&'a [u8]),
    Long,
}

/// The fields of a protocol buffer in order; nothing where it is damaged.
fn fields(bytes: &[u8]) -> Option<Vec<(u64, Value<'_>)>> {
    let (mut rest, mut all) = (bytes, Vec::new());
    while !rest.is_empty() {
        let key = varint(&mut rest)?;
        let value = match key & 7 {
            0 => Value::Number(varint(&mut rest)?),
            1 => {
                rest = rest.get(8..)?;
                Value::Long
            }
            2 => {
                let length = usize::try_from(varint(&mut rest)?).ok()?;
                let (value, behind) = rest.split_at_checked(length)?;
                rest = behind;
                Value::Bytes(value)
            }
            5 => {
                let (value, behind) = rest.split_first_chunk()?;
                rest = behind;
                Value::Float(f32::from_le_bytes(*value))
            }
            _ => return None,
        };
        all.push((key >> 3, value));
    }
    Some(all)
}

/// Seven bits a byte, the lowest first; the highest bit says that more follow.
fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, behind) = bytes.split_first()?;
        *bytes = behind;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

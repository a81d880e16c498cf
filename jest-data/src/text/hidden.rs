//! Pieces of a unigram model that no caption matches by spelling them out.

use super::tokenizer::failed;
use crate::Result;
use std::collections::HashMap;
use tokenizers::models::ModelWrapper;
use tokenizers::models::unigram::Unigram;
use tokenizers::{AddedVocabulary, Encoding};

/// A piece's name that nothing spells: spaces are `▁` before pieces are looked for.
pub(super) fn hidden(piece: &str) -> String {
    format!("\0 {piece}")
}

/// The pieces that stand for bytes, of a model that writes what it does not know in them.
pub(super) struct Bytes {
    unknown: u32,
    ids: HashMap<u8, u32>,
}

impl Bytes {
    /// The ids of an encoding, what is unknown as its bytes, unless one has no piece.
    pub(super) fn spell(&self, encoding: &Encoding) -> Vec<u32> {
        let mut ids = Vec::with_capacity(encoding.len());
        for (id, text) in encoding.get_ids().iter().zip(encoding.get_tokens()) {
            let bytes = || text.bytes().map(|byte| self.ids.get(&byte).copied()).collect::<Option<Vec<u32>>>();
            match (*id == self.unknown).then(bytes).flatten() {
                Some(bytes) => ids.extend(bytes),
                None => ids.push(*id),
            }
        }
        ids
    }
}

/// Hides the marks, so that a caption cannot end itself early, and the pieces of bytes, which stand for the unknown alone.
pub(super) fn hide(inner: &mut tokenizers::Tokenizer) -> Result<Option<Bytes>> {
    inner.set_encode_special_tokens(true);
    let ModelWrapper::Unigram(model) = inner.get_model() else { return Ok(None) };
    let json = serde_json::to_value(model).map_err(|e| failed("read the pieces")(e.into()))?;
    let unknown = json["unk_id"].as_u64().map(|id| id as usize);
    let named = if model.byte_fallback() {
        (0..=u8::MAX).map(|b| (format!("<0x{b:02X}>"), b)).collect()
    } else {
        HashMap::new()
    };
    let mut ids = HashMap::new();
    let mut pieces = Vec::new();
    for ((piece, score), id) in model.iter().zip(0..) {
        let byte = named.get(piece);
        ids.extend(byte.map(|byte| (*byte, id)));
        let hide = byte.is_some() || is_mark(inner.get_added_vocabulary(), piece);
        pieces.push((if hide { hidden(piece) } else { piece.clone() }, *score));
    }
    let model = Unigram::from(pieces, unknown, false).map_err(failed("build the pieces"))?;
    inner.with_model(model);
    Ok(unknown.filter(|_| !ids.is_empty()).map(|unknown| Bytes { unknown: unknown as u32, ids }))
}

fn is_mark(added: &AddedVocabulary, piece: &str) -> bool {
    added.get_vocab().contains_key(piece) && added.is_special_token(piece)
}

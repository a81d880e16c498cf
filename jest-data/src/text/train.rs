//! A byte-level BPE tokenizer learned from the captions themselves, for data sets without one.

use super::Tokenizer;
use super::canonicalize::{Canonicalize, normalizers};
use super::tokenizer::{ends, failed, padding};
use crate::{DataError, Result};
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::normalizers::Sequence;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, TokenizerBuilder};

const SPECIAL: [&str; 3] = ["<pad>", "</s>", "<unk>"];

/// Learns a byte-level BPE of at most `vocab_size` ids: `<pad>` 0, `</s>` 1, `<unk>` 2, 256 bytes, then merges seen twice or more.
///
/// Text is cleaned by [`Canonicalize::BigVision`], `</s>` ends every caption, and the same captions give the same bytes.
///
/// # Errors
/// `Setting` if `vocab_size` has no room for the bytes; `Tokenizer` if the library fails.
pub fn train_tokenizer<S: AsRef<str>>(captions: impl IntoIterator<Item = S>, vocab_size: usize) -> Result<Tokenizer> {
    let smallest = SPECIAL.len() + 256;
    if vocab_size < smallest {
        let value = vocab_size.to_string();
        return Err(DataError::Setting {
            setting: "vocab_size",
            value,
            problem: "must be 259 or more: 3 marks and 256 bytes",
        });
    }
    let captions: Vec<String> = captions.into_iter().map(|caption| caption.as_ref().to_string()).collect();
    let mut trainer = BpeTrainer::builder()
        .show_progress(false)
        .vocab_size(vocab_size)
        .min_frequency(2)
        .special_tokens(SPECIAL.iter().map(|mark| AddedToken::from(*mark, true)).collect())
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .build();
    let mut learned = TokenizerBuilder::new()
        .with_model(BPE::default())
        .with_normalizer(Some(Sequence::new(normalizers(Canonicalize::BigVision)?)))
        .with_pre_tokenizer(Some(ByteLevel::new(true, true, true)))
        .with_post_processor(Some(ends(None, ("</s>", 1))?))
        .with_decoder(Some(ByteLevel::new(true, true, true)))
        .with_padding(Some(padding(0, SPECIAL[0].to_string())))
        .build()
        .map_err(failed("build the model"))?;
    learned.train(&mut trainer, captions.into_iter()).map_err(failed("train"))?;
    let json = learned.to_string(false).map_err(failed("write tokenizer.json"))?;
    Tokenizer::from_bytes(json.as_bytes())
}

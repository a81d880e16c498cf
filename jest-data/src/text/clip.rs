//! CLIP's tokenizer: byte-level BPE of 49,408 ids, its merges shipped.

use super::Tokenizer;
use super::canonicalize::Canonicalize;
use super::tokenizer::{ends, failed, padding};
use crate::{DataError, Result};
use std::io::Read;
use tokenizers::models::bpe::BPE;
use tokenizers::normalizers::Sequence;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence as PreTokenizers;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, SplitDelimiterBehavior, TokenizerBuilder};

const MERGES: &[u8] = include_bytes!("../../../assets/clip/merges.txt.gz");
const MARKS: [&str; 2] = ["<start_of_text>", "<end_of_text>"];
const WORDS: &str = r"(?i)'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";
const END_OF_WORD: &str = "</w>";

impl Tokenizer {
    /// CLIP's: `<start_of_text>` 49406 in front, `<end_of_text>` 49407 behind, padded with 0, cleaned by [`Canonicalize::Clip`].
    ///
    /// # Errors
    /// `Tokenizer` if the library refuses it.
    ///
    /// # Source
    /// open_clip 3.3.0 `SimpleTokenizer`. One difference: a caption that spells out a mark does not get its id.
    pub fn clip() -> Result<Tokenizer> {
        let mut text = String::new();
        flate2::read::GzDecoder::new(MERGES)
            .read_to_string(&mut text)
            .map_err(|source| DataError::Tokenizer { action: "unpack CLIP's merges", source: source.into() })?;
        let merges: Vec<(String, String)> =
            text.lines().filter_map(|line| line.split_once(' ')).map(|(a, b)| (a.to_string(), b.to_string())).collect();
        let bytes = bytes();
        let mut pieces: Vec<String> = bytes.iter().map(char::to_string).collect();
        pieces.extend(bytes.iter().map(|c| format!("{c}{END_OF_WORD}")));
        pieces.extend(merges.iter().map(|(a, b)| format!("{a}{b}")));
        pieces.extend(MARKS.map(str::to_string));
        let [start, end] = [pieces.len() as u32 - 2, pieces.len() as u32 - 1];
        let vocabulary = pieces.into_iter().zip(0..).collect::<Vec<(String, u32)>>();
        let model = BPE::builder()
            .vocab_and_merges(vocabulary.into_iter().collect::<tokenizers::models::bpe::Vocab>(), merges)
            .end_of_word_suffix(END_OF_WORD.to_string())
            .build()
            .map_err(failed("build CLIP's model"))?;
        let words = Split::new(SplitPattern::Regex(WORDS.to_string()), SplitDelimiterBehavior::Removed, true)
            .map_err(failed("build CLIP's words"))?;
        let mut inner = TokenizerBuilder::new()
            .with_model(model)
            .with_normalizer(Some(Sequence::new(Canonicalize::Clip.steps()?)))
            .with_pre_tokenizer(Some(PreTokenizers::new(vec![words.into(), ByteLevel::new(false, true, false).into()])))
            .with_post_processor(Some(ends(Some((MARKS[0], start)), (MARKS[1], end))?))
            .with_decoder(Some(ByteLevel::default()))
            .with_padding(Some(padding(0, "!".to_string())))
            .build()
            .map_err(failed("build CLIP's tokenizer"))?;
        inner.add_special_tokens(MARKS.map(|mark| AddedToken::from(mark, true))).map_err(failed("add CLIP's marks"))?;
        let json = inner.to_string(false).map_err(failed("write tokenizer.json"))?;
        Tokenizer::from_bytes(json.as_bytes())
    }
}

/// The characters that stand for bytes, in the order of their ids: printable ones for themselves, then the others.
fn bytes() -> Vec<char> {
    let printable = |b: &u8| matches!(b, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let others = (0..=255u8).filter(|b| !printable(b)).count() as u32;
    (0..=255u8).filter(printable).map(char::from).chain((256..256 + others).filter_map(char::from_u32)).collect()
}

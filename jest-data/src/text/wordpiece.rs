//! BERT's tokenizer from its `vocab.txt`.

use super::Tokenizer;
use super::tokenizer::{ends, failed, padding};
use crate::{DataError, Result};
use tokenizers::decoders::wordpiece::WordPiece as Decoder;
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::{AddedToken, TokenizerBuilder};

const MARKS: [&str; 5] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];

impl Tokenizer {
    /// WordPiece by a list of pieces, one a line, the line's number the id: `[CLS]` in front, `[SEP]` behind, padded with `[PAD]`.
    ///
    /// `lower` is for the uncased models: lower case, no accents.
    ///
    /// # Errors
    /// `Tokenizer` if a mark is missing or the library refuses the list.
    ///
    /// # Source
    /// transformers 5.23 `BertTokenizer`.
    pub fn wordpiece(vocab: &str, lower: bool) -> Result<Tokenizer> {
        let pieces: Vec<(String, u32)> = vocab.lines().map(|line| line.trim_end().to_string()).zip(0..).collect();
        let id = |mark: &str| {
            let missing = || DataError::Tokenizer {
                action: "read the word pieces",
                source: format!("no line is {mark}; give BERT's vocab.txt").into(),
            };
            pieces.iter().find(|(piece, _)| piece == mark).map(|(_, id)| *id).ok_or_else(missing)
        };
        let [pad, _, cls, sep] = [id(MARKS[0])?, id(MARKS[1])?, id(MARKS[2])?, id(MARKS[3])?];
        let model = WordPiece::builder()
            .vocab(pieces.clone().into_iter().collect::<std::collections::HashMap<_, _, _>>())
            .unk_token(MARKS[1].to_string())
            .build()
            .map_err(failed("build the word pieces"))?;
        let mut inner = TokenizerBuilder::new()
            .with_model(model)
            .with_normalizer(Some(BertNormalizer::new(true, true, None, lower)))
            .with_pre_tokenizer(Some(BertPreTokenizer))
            .with_post_processor(Some(ends(Some((MARKS[2], cls)), (MARKS[3], sep))?))
            .with_decoder(Some(Decoder::default()))
            .with_padding(Some(padding(pad, MARKS[0].to_string())))
            .build()
            .map_err(failed("build the tokenizer"))?;
        let known = MARKS.into_iter().filter(|mark| id(mark).is_ok());
        let marks: Vec<AddedToken> = known.map(|mark| AddedToken::from(mark, true)).collect();
        inner.add_special_tokens(marks).map_err(failed("add the marks"))?;
        let json = inner.to_string(false).map_err(failed("write tokenizer.json"))?;
        Tokenizer::from_bytes(json.as_bytes())
    }
}

//! From captions to token ids of one length.

mod canonicalize;
mod charsmap;
mod clean;
mod cleaning;
mod clip;
mod hidden;
mod sentencepiece;
mod tokenizer;
mod train;
mod wordpiece;

pub use canonicalize::Canonicalize;
pub use tokenizer::{Tokenizer, Tokens};
pub use train::train_tokenizer;

//! From captions to token ids of one length.

mod tokenizer;
mod train;

pub use tokenizer::{Canonicalize, Tokenizer, Tokens};
pub use train::train_tokenizer;

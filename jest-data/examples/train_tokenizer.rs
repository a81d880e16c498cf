//! Learns a tokenizer from the captions of a data set: `train_tokenizer SOURCES VOCAB_SIZE OUT.json`, SOURCES joined by `::`.

use jest_data::{DataError, LoaderConfig, Preprocess, Source, read_all, train_tokenizer};
use std::sync::Arc;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [sources, vocab_size, out] = arguments.as_slice() else {
        return Err("usage: train_tokenizer SOURCES VOCAB_SIZE OUT.json".into());
    };
    // Captions pass through the same rules as in training; a one-word tokenizer stands in until there is one.
    let stand_in = Arc::new(train_tokenizer(["a"], 259)?);
    let config = LoaderConfig::new(Source::parse_list(sources)?, Preprocess::siglip(1), stand_in, 1);
    let batches = read_all(&config, 1024)?.collect::<Result<Vec<_>, DataError>>()?;
    let captions = batches.iter().flat_map(|batch| &batch.captions);
    let tokenizer = train_tokenizer(captions, vocab_size.parse()?)?;
    std::fs::write(out, tokenizer.to_json())?;
    println!("{} ids, hash {}", tokenizer.vocab_size(), tokenizer.hash());
    Ok(())
}

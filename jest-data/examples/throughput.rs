//! Examples per second of the loader: `throughput SOURCES TOKENIZER [SIZE] [WORKERS]`.

use jest_data::{Loader, LoaderConfig, LoaderState, Preprocess, Source, Tokenizer};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

const SUPER_BATCH: usize = 512;
const ROUNDS: usize = 30;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [sources, tokenizer, rest @ ..] = arguments.as_slice() else {
        return Err("usage: throughput SOURCES TOKENIZER [SIZE] [WORKERS]".into());
    };
    let number = |i: usize, default| rest.get(i).map_or(Ok(default), |text| text.parse::<usize>());
    let tokenizer = Arc::new(Tokenizer::open(Path::new(tokenizer))?);
    let mut config = LoaderConfig::new(Source::parse_list(sources)?, Preprocess::siglip(number(0, 32)?), tokenizer, 16);
    config.workers = number(1, 2)?;
    for (name, cache_bytes) in [("decoding every epoch", 0), ("decoding the first epoch", 4 << 30)] {
        config.cache_bytes = cache_bytes;
        let mut loader = Loader::new(config.clone(), LoaderState::default())?;
        // With the cache, all that is measured comes out of it.
        while loader.state().epoch < 2 {
            loader.next_super_batch(SUPER_BATCH)?;
        }
        let start = Instant::now();
        for _ in 0..ROUNDS {
            loader.next_super_batch(SUPER_BATCH)?;
        }
        let rate = (ROUNDS * SUPER_BATCH) as f64 / start.elapsed().as_secs_f64();
        println!("{name}: {rate:.0} examples/s with {} workers; {}", config.workers, loader.skips());
    }
    Ok(())
}

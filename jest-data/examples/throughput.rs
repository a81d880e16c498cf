//! Examples per second of the loader, and its memory: `throughput SOURCES TOKENIZER [SIZE] [WORKERS] [EPOCHS]`.

use jest_data::{Loader, LoaderConfig, LoaderState, Preprocess, Source, Tokenizer};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

const SUPER_BATCH: usize = 512;

/// MB that the process holds, where the system says so.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()).unwrap_or(0) / 1000
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [sources, tokenizer, rest @ ..] = arguments.as_slice() else {
        return Err("usage: throughput SOURCES TOKENIZER [SIZE] [WORKERS] [EPOCHS]".into());
    };
    let number = |i: usize, default| rest.get(i).map_or(Ok(default), |text| text.parse::<usize>());
    let tokenizer = Arc::new(Tokenizer::open(Path::new(tokenizer))?);
    let mut config = LoaderConfig::new(Source::parse_list(sources)?, Preprocess::siglip(number(0, 32)?), tokenizer, 16);
    config.workers = number(1, 2)?;
    let epochs = number(2, 5)? as u64;
    for (name, cache_bytes) in [("decoding every epoch", 0), ("decoding the first epoch", 4 << 30)] {
        config.cache_bytes = cache_bytes;
        let mut loader = Loader::new(config.clone(), LoaderState::default())?;
        // From here on as much as may ever be is in flight, so memory should not rise.
        loader.next_super_batch(SUPER_BATCH)?;
        std::thread::sleep(Duration::from_secs(3));
        // With the cache, all that is measured comes out of it.
        while loader.state().epoch < 2 {
            loader.next_super_batch(SUPER_BATCH)?;
        }
        let (mut held, mut examples, mut sum) = (vec![resident()], 0, 0.0);
        let start = Instant::now();
        while loader.state().epoch < 2 + epochs {
            let batch = loader.next_super_batch(SUPER_BATCH)?;
            // As training does, pixels are normalised to f32.
            sum += batch.pixels().last().copied().unwrap_or(0.0);
            examples += batch.len();
            if loader.state().epoch as usize == 2 + held.len() {
                held.push(resident());
            }
        }
        let rate = examples as f64 / start.elapsed().as_secs_f64();
        println!("{name}: {rate:.0} examples/s with {} workers; {}", config.workers, loader.skips());
        let held: Vec<String> = held.iter().map(u64::to_string).collect();
        println!("  memory after epoch 2 and each that follows, MB: {} (last pixels sum to {sum})", held.join(" "));
    }
    Ok(())
}

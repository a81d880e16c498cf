//! Whether two sources give the same examples, and how fast: `same SOURCE SOURCE`. Credentials are taken from the environment.

use jest_data::{LoaderConfig, Preprocess, RemoteOptions, Source, SuperBatch, read_all, train_tokenizer};
use std::time::Instant;

fn read(spec: &str) -> Result<Vec<SuperBatch>, Box<dyn std::error::Error>> {
    let tokenizer = train_tokenizer(["a"], 300)?;
    let config = LoaderConfig::new(vec![Source::parse(spec)?], Preprocess::siglip(32), tokenizer.into(), 16);
    let start = Instant::now();
    let mut pass = read_all(&config, 256)?;
    let batches = pass.by_ref().collect::<Result<Vec<_>, _>>()?;
    println!("{spec}: {} in {:.2} s", pass.skips(), start.elapsed().as_secs_f64());
    Ok(batches)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [first, second] = arguments.as_slice() else { return Err("usage: same SOURCE SOURCE".into()) };
    RemoteOptions { settings: std::env::vars().collect(), ..RemoteOptions::default() }.install();
    if read(first)? != read(second)? {
        return Err("the examples differ".into());
    }
    println!("the same examples");
    Ok(())
}

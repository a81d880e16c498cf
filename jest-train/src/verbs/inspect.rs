//! `jest inspect`: what is in a checkpoint, a weight file or a shard.

use std::path::Path;

use jest_data::{LoaderConfig, Preprocess, Source};
use jest_model::TensorFile;

use crate::cli::InspectArgs;
use crate::run_state::RunState;
use crate::say::say;
use crate::{Result, checkpoint};

pub(super) fn inspect(args: &InspectArgs) -> Result<()> {
    let weights = args.path.join("model.safetensors");
    if weights.exists() {
        if RunState::is_in(&args.path) {
            checkpoint::verify(&args.path)?;
            let state = RunState::read(&args.path)?;
            say!(
                "run {} at step {}: {} examples trained, {} drawn; all files match their hashes",
                state.summary.name,
                state.progress.step,
                state.progress.examples_trained,
                state.progress.examples_drawn
            );
        }
        return tensors(&weights, args.limit);
    }
    if args.path.extension().is_some_and(|ending| ending == "safetensors") {
        return tensors(&args.path, args.limit);
    }
    examples(args)
}

fn tensors(path: &Path, limit: usize) -> Result<()> {
    let file = TensorFile::open(path)?;
    let names: Vec<String> = file.names().map(str::to_string).collect();
    let size = |name: &String| file.shape(name).map_or(0, |shape| shape.iter().product::<usize>());
    say!("{}: {} tensors, {} values", path.display(), names.len(), names.iter().map(size).sum::<usize>());
    for (key, value) in file.metadata() {
        say!("  {key} = {value}");
    }
    for name in names.iter().take(limit) {
        say!("  {name} {:?}", file.shape(name).unwrap_or_default());
    }
    more(names.len(), limit);
    Ok(())
}

fn examples(args: &InspectArgs) -> Result<()> {
    let sources = Source::parse_list(&args.path.display().to_string())?;
    let any = jest_data::train_tokenizer(["a"], 300)?;
    let config = LoaderConfig::new(sources, Preprocess::siglip(8), any.into(), 2);
    let mut reading = jest_data::read_all(&config, 256)?;
    let mut count = 0;
    for batch in reading.by_ref() {
        let batch = batch?;
        for i in 0..batch.len() {
            if count < args.limit {
                say!("  {} {} {:?}", batch.ids[i], batch.keys[i], batch.captions[i]);
            }
            count += 1;
        }
    }
    more(count, args.limit);
    say!("{count} examples; {}", reading.skips());
    Ok(())
}

fn more(count: usize, limit: usize) {
    if count > limit {
        say!("  and {} more; --limit shows them", count - limit);
    }
}

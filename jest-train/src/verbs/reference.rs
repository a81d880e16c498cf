//! `jest reference cache`: the embeddings of a data set by a reference, ahead of the runs that read them.

use std::path::{Path, PathBuf};

use jest_data::Source;

use super::open;
use crate::cli::ReferenceCacheArgs;
use crate::clock::SystemClock;
use crate::meter::Meter;
use crate::reference::Reference;
use crate::say::say;
use crate::{Result, TrainError};

/// Adds what the cache lacks; what is there is verified and kept.
pub(super) fn cache(args: &ReferenceCacheArgs) -> Result<()> {
    let device = open::open_device(&args.on.device, args.on.threads.unwrap_or(0), args.precision)?;
    let mut pass = device.pass();
    let (model, reads) = open::checkpoint(&mut pass, &args.checkpoint)?;
    let mut data = open::pairs(&args.pairs, &model, reads)?;
    let out = args.out.clone().map_or_else(|| beside(&data.sources), Ok)?;
    data.sources = args.share.of(data.sources)?;
    let mut reference = Reference::of(model).with_precision(args.rows.into());
    let clock = SystemClock::start();
    if data.sources.iter().any(|source| !source.shards().is_empty()) {
        reference.fill_cache(&mut pass, &out, &data, &mut Meter::new(&clock))?;
    }
    say!("{}: embeddings of {} examples", out.display(), reference.cached());
    Ok(())
}

/// `reference_cache` beside the folder that holds the first shard.
fn beside(sources: &[Source]) -> Result<PathBuf> {
    let shard = sources.iter().flat_map(Source::shards).next();
    let folder = shard.filter(|shard| shard.path.exists()).and_then(|shard| shard.path.canonicalize().ok());
    let place = folder.as_deref().and_then(Path::parent).and_then(Path::parent);
    place.map(|place| place.join("reference_cache")).ok_or(TrainError::NoPlaceBeside)
}

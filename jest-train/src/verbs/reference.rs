//! `jest reference cache`: the embeddings of a data set by a reference, ahead of the runs that read them.

use super::open;
use crate::Result;
use crate::cli::ReferenceCacheArgs;
use crate::clock::SystemClock;
use crate::meter::Meter;
use crate::reference::Reference;

/// Adds what the cache lacks; what is there is verified and kept.
pub(super) fn cache(args: &ReferenceCacheArgs) -> Result<()> {
    let device = open::device(&args.on)?;
    let mut pass = device.pass();
    let (model, reads) = open::checkpoint(&mut pass, &args.checkpoint)?;
    let mut data = open::pairs(&args.pairs, &model, reads)?;
    data.sources = args.share.of(data.sources)?;
    let mut reference = Reference::of(model).with_precision(args.precision.into());
    let clock = SystemClock::start();
    if data.sources.iter().any(|source| !source.shards().is_empty()) {
        reference.fill_cache(&mut pass, &args.out, &data, &mut Meter::new(&clock))?;
    }
    println!("{}: embeddings of {} examples", args.out.display(), reference.cached());
    Ok(())
}

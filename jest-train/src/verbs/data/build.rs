//! `jest data build`: tar shards from any source, the same bytes from the same samples.

use jest_data::{Limits, ShardSize, ShardWriter, SkipReport, Source, survey};

use crate::Result;
use crate::cli::DataBuildArgs;
use crate::say::say;

pub(super) fn build(args: &DataBuildArgs) -> Result<()> {
    let sources = Source::parse_list(&args.data)?;
    let size = ShardSize { samples: args.samples_per_shard.max(1), bytes: args.max_shard_mb.saturating_mul(1_000_000) };
    let mut writer = ShardWriter::create(&args.out, size)?;
    let mut skips = SkipReport::default();
    for source in &sources {
        survey(source, &Limits::default(), |sample| writer.add(&sample), |skip| skips.add(&skip))?;
    }
    let sizes = writer.finish()?;
    let (shards, samples) = (sizes.len(), sizes.values().sum::<u64>());
    say!("{}: {samples} samples in {shards} shards, {} left out", args.out.display(), skips.skipped());
    skips.counts().for_each(|(reason, count)| say!("  {reason} {count}"));
    skips.first().iter().for_each(|skip| say!("  {skip}"));
    if samples == 0 {
        let listed = sources.iter().map(|source| source.shards().len()).sum();
        return Err(jest_data::DataError::NoExamples { shards: listed, skips: skips.to_string() }.into());
    }
    Ok(())
}

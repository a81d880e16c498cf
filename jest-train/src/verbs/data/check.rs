//! `jest data check`: reads a data set as training does and says what it would leave out.

use std::collections::BTreeSet;

use jest_data::{LoaderConfig, Preprocess, Skip, Source};

use crate::Result;
use crate::cli::DataCheckArgs;
use crate::say::say;

pub(super) fn check(args: &DataCheckArgs) -> Result<()> {
    let sources = Source::parse_list(&args.data)?;
    let any = jest_data::train_tokenizer(["a"], 300)?;
    let mut config = LoaderConfig::new(sources, Preprocess::siglip(8), any.into(), 2);
    config.workers = args.workers;
    config.limits.max_skipped_share = args.max_skipped_share;
    // The verdict comes at the end, so that the list is whole.
    config.limits.skip_check_after = u64::MAX;
    let (limit, mut listed) = (args.limit, 0);
    let list = move |skip: &Skip| {
        listed += 1;
        if listed <= limit {
            say!("{}", line(skip));
        } else if listed == limit + 1 {
            say!("and more; --limit shows them");
        }
    };
    let mut reading = jest_data::read_all(&config, 256)?.tell(list);
    // The last batch carries the verdict; what was counted before it is told first.
    let verdict = reading.by_ref().find_map(std::result::Result::err);
    summary(&config.sources);
    say!("{} usable examples, {} faults", reading.skips().kept(), reading.skips().skipped());
    reading.skips().counts().for_each(|(reason, count)| say!("  {reason} {count}"));
    verdict.map_or(Ok(()), |error| Err(error.into()))
}

/// Reason, place and detail, parted by tabs.
fn line(skip: &Skip) -> String {
    let key = skip.key.as_deref().unwrap_or("-");
    let clean = |text: &str| text.replace(['\t', '\n', '\r'], " ");
    format!("{}\t{}/{}\t{}\t{}", skip.reason, skip.source, skip.shard, clean(key), clean(&skip.detail))
}

fn summary(sources: &[Source]) {
    for source in sources {
        let names: BTreeSet<&str> = source.shards().iter().map(|shard| shard.name.as_ref()).collect();
        say!("source {}: {} files or shards", source.name(), names.len());
        let (mut rows, mut failed) = (0, [0, 0]);
        for stats in source.shards().iter().filter_map(|shard| shard.stats()) {
            rows += stats.count;
            failed = [failed[0] + stats.failed_to_download, failed[1] + stats.failed_to_resize];
        }
        if rows > 0 {
            say!("  img2dataset: of {rows} rows {} were not fetched, {} not readable", failed[0], failed[1]);
        }
    }
}

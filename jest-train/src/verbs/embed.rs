//! `jest embed`: embeddings of a data set, in the format of the reference cache.

use jest_data::EmbeddingCache;
use jest_model::View;

use super::bench::now;
use super::open;
use crate::cli::EmbedArgs;
use crate::say::say;
use crate::{Result, embed};

/// Examples read at once.
const BLOCK: usize = 256;

pub(super) fn embed(args: &EmbedArgs) -> Result<()> {
    let device = open::device(&args.on)?;
    let mut pass = device.pass();
    let (model, reads) = open::checkpoint(&mut pass, &args.checkpoint)?;
    let data = open::pairs(&args.pairs, &model, reads)?;
    let key = embed::cache_key(&mut pass, &model, &data)?;
    let mut cache = EmbeddingCache::open(&args.out, &key)?;
    for batch in jest_data::read_all(&data, BLOCK)? {
        let batch = batch?;
        if batch.ids.iter().all(|id| cache.contains(id)) {
            continue;
        }
        let start = now();
        let [image, text] = embed::both(&mut pass, &model, &batch, &View::default())?;
        let (image, text) = (pass.read(&image)?, pass.read(&text)?);
        cache.add(&batch.ids, &image, &text, (now() - start).as_secs_f64())?;
    }
    cache.flush()?;
    say!("{}: embeddings of {} examples, {} wide", args.out.display(), cache.len(), key.dim);
    Ok(())
}

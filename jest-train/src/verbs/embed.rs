//! `jest embed`: embeddings of a data set, in the format of the reference cache.

use jest_data::EmbeddingCache;
use jest_model::View;

use super::open;
use crate::cli::EmbedArgs;
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
        let [image, text] = embed::both(&mut pass, &model, &batch, &View::default())?;
        cache.add(&batch.ids, &pass.read(&image)?, &pass.read(&text)?)?;
    }
    cache.flush()?;
    println!("{}: embeddings of {} examples, {} wide", args.out.display(), cache.len(), key.dim);
    Ok(())
}

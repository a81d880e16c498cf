//! The frozen reference model, and the cache of its embeddings.

use std::path::{Path, PathBuf};

use jest_data::{CacheKey, EmbeddingCache, LoaderConfig, Precision, Preprocess, SuperBatch, Tokenizer};
use jest_kernels::{Pass, Tensor};
use jest_model::{ModelConfig, TwoTowers, View};

use crate::config::Objective;
use crate::learnability::pair_losses;
use crate::lock::Turn;
use crate::meter::{Kind, Meter};
use crate::{Result, TrainError, embed};

/// Examples embedded between two writes to the cache's buffer.
const BLOCK: usize = 256;

/// A frozen scorer.
#[derive(Debug)]
pub struct Reference {
    model: TwoTowers,
    cache: Option<EmbeddingCache>,
    /// How rows are written that a cache lacks.
    precision: Precision,
}

impl Reference {
    /// Loads the model of a checkpoint or exported folder and holds it against the learner's data.
    ///
    /// # Errors
    /// `Model` when the folder holds no readable model; `Unfit` when image size, context length or tokenizer differ.
    pub fn load(pass: &mut Pass, folder: &Path, data: &LoaderConfig) -> Result<Self> {
        check(folder, data)?;
        Ok(Self::of(TwoTowers::load(pass, folder)?))
    }

    /// A model at hand, without a cache.
    pub fn of(model: TwoTowers) -> Self {
        Self { model, cache: None, precision: Precision::F32 }
    }

    /// The same reference; embeddings that it adds to a cache are written so.
    pub fn with_precision(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }

    /// Embeddings in its cache.
    pub fn cached(&self) -> usize {
        self.cache.as_ref().map_or(0, EmbeddingCache::len)
    }

    /// The frozen model.
    pub fn model(&self) -> &TwoTowers {
        &self.model
    }

    /// Looks embeddings up in the cache under `folder` from now on; those that it lacks are computed when asked for.
    ///
    /// # Errors
    /// `Data` when the cache is damaged.
    pub fn use_cache(&mut self, pass: &mut Pass, folder: &Path, data: &LoaderConfig) -> Result<()> {
        self.cache = Some(self.open_cache(pass, folder, data)?);
        Ok(())
    }

    fn open_cache(&self, pass: &mut Pass, folder: &Path, data: &LoaderConfig) -> Result<EmbeddingCache> {
        let key = embed::cache_key(pass, &self.model, data)?;
        let cache = EmbeddingCache::open(&cache_folder(folder, &key), &key)?.with_precision(self.precision);
        cache.claim(&data.sources)?;
        Ok(cache)
    }

    /// Embeds every example of the data that the cache under `folder` does not hold yet.
    ///
    /// The FLOPs of all of it are charged to `meter`, and its seconds, also of what an earlier run had computed.
    ///
    /// # Errors
    /// `Data` when no shard can be read or the cache is damaged.
    pub fn fill_cache(
        &mut self,
        pass: &mut Pass,
        folder: &Path,
        data: &LoaderConfig,
        meter: &mut Meter<'_>,
    ) -> Result<()> {
        let mut cache = self.open_cache(pass, folder, data)?;
        for batch in jest_data::read_all(data, BLOCK)? {
            let batch = batch?;
            self.charge(&batch.lengths, meter);
            meter.seconds.reference += cache.seconds(&batch.ids);
            self.embed_missing(pass, &batch, &mut cache, meter)?;
        }
        cache.flush()?;
        self.cache = Some(cache);
        Ok(())
    }

    /// [`Self::fill_cache`] by one run at a time: those that come later find what the first computed.
    ///
    /// # Errors
    /// As [`Self::fill_cache`]; `Storage` when the turn cannot be taken; a folder that cannot be written needs none.
    pub fn fill_cache_in_turn(
        &mut self,
        pass: &mut Pass,
        folder: &Path,
        data: &LoaderConfig,
        meter: &mut Meter<'_>,
    ) -> Result<()> {
        let key = embed::cache_key(pass, &self.model, data)?;
        let _turn = Turn::wait(&cache_folder(folder, &key))?;
        self.fill_cache(pass, folder, data, meter)
    }

    /// Losses of pairs alone: `[B]`, the diagonal of what the embeddings give.
    ///
    /// # Errors
    /// As [`Self::embeddings`].
    pub fn losses(
        &mut self,
        pass: &mut Pass,
        batch: &SuperBatch,
        objective: Objective,
        meter: &mut Meter<'_>,
    ) -> Result<Vec<f32>> {
        let embeddings = self.embeddings(pass, batch, meter)?;
        meter.spend(Kind::Reference, || pair_losses(pass, self.model.logit_parameters(), &embeddings, objective))
    }

    /// Embeddings of both towers for a super-batch: from the cache where it holds them, else computed now.
    ///
    /// # Shapes
    /// Two tensors [B, d].
    ///
    /// # Errors
    /// As the device or the cache reports.
    pub fn embeddings(&mut self, pass: &mut Pass, batch: &SuperBatch, meter: &mut Meter<'_>) -> Result<[Tensor; 2]> {
        let Some(mut cache) = self.cache.take() else {
            self.charge(&batch.lengths, meter);
            return meter.spend(Kind::Reference, || embed::both(pass, &self.model, batch, &View::default()));
        };
        let missing = self.embed_missing(pass, batch, &mut cache, meter);
        let d = self.model.config().embedding_dim();
        let found = meter.spend(Kind::Reference, || lookup(pass, batch, &cache, d));
        self.cache = Some(cache);
        self.charge(&missing?, meter);
        found
    }

    /// Writes what was added to the cache since the last time.
    ///
    /// # Errors
    /// `Data` when the disk refuses; the rows stay in memory.
    pub fn flush(&mut self) -> Result<()> {
        Ok(self.cache.as_mut().map_or(Ok(()), EmbeddingCache::flush)?)
    }

    /// Counts the embedding of captions of these lengths and their images.
    fn charge(&self, lengths: &[u32], meter: &mut Meter<'_>) {
        meter.flops.reference += embed::flops(&self.model, lengths, &View::default());
    }

    /// Adds what the cache lacks, and gives the lengths of those captions.
    fn embed_missing(
        &self,
        pass: &mut Pass,
        batch: &SuperBatch,
        cache: &mut EmbeddingCache,
        meter: &mut Meter<'_>,
    ) -> Result<Vec<u32>> {
        let missing: Vec<usize> = (0..batch.len()).filter(|i| !cache.contains(&batch.ids[*i])).collect();
        if missing.is_empty() {
            return Ok(Vec::new());
        }
        let (batch, before) = (batch.subset(&missing), meter.seconds.reference);
        let made: Result<_> = meter.spend(Kind::Reference, || {
            let [image, text] = embed::both(pass, &self.model, &batch, &View::default())?;
            Ok([pass.read(&image)?, pass.read(&text)?])
        });
        let [image, text] = made?;
        cache.add(&batch.ids, &image, &text, meter.seconds.reference - before)?;
        Ok(batch.lengths)
    }
}

/// Holds the folder of a reference against the learner's data without loading it.
///
/// # Errors
/// As [`Reference::load`].
pub fn check(folder: &Path, data: &LoaderConfig) -> Result<()> {
    let model = ModelConfig::open(folder)?;
    let file = folder.join("tokenizer.json");
    let tokenizer = if file.exists() { Some(Tokenizer::open(&file)?) } else { None };
    fit(folder, &model, tokenizer.as_ref(), Preprocess::open(folder)?, data)
}

/// Refuses a reference that does not read what the learner reads; without a tokenizer, the vocabulary's size must do, and without a
/// preprocessor its pictures are taken for the learner's.
///
/// # Errors
/// `Unfit`.
pub fn fit(
    path: &Path,
    model: &ModelConfig,
    tokenizer: Option<&Tokenizer>,
    pixels: Option<Preprocess>,
    data: &LoaderConfig,
) -> Result<()> {
    let pixels = pixels.unwrap_or(data.preprocess);
    let texts = match tokenizer {
        Some(own) => ("tokenizer", own.hash().to_string(), data.tokenizer.hash().to_string()),
        None => ("vocabulary size", model.text.vocab_size.to_string(), data.tokenizer.vocab_size().to_string()),
    };
    let size = |size: usize| size.to_string();
    for (what, reference, learner) in [
        ("image size", size(model.vision.image_size), size(data.preprocess.size)),
        ("text tokens", size(model.text.tokens), size(data.text_tokens)),
        ("resize_mode", format!("{:?}", pixels.resize_mode), format!("{:?}", data.preprocess.resize_mode)),
        ("interpolation", format!("{:?}", pixels.interpolation), format!("{:?}", data.preprocess.interpolation)),
        ("image_mean", format!("{:?}", pixels.mean), format!("{:?}", data.preprocess.mean)),
        ("image_std", format!("{:?}", pixels.std), format!("{:?}", data.preprocess.std)),
        texts,
    ] {
        if reference != learner {
            return Err(TrainError::Unfit { what, reference, learner, path: path.to_path_buf() });
        }
    }
    Ok(())
}

fn lookup(pass: &mut Pass, batch: &SuperBatch, cache: &EmbeddingCache, d: usize) -> Result<[Tensor; 2]> {
    let (mut images, mut texts) = (Vec::with_capacity(batch.len() * d), Vec::with_capacity(batch.len() * d));
    for id in &batch.ids {
        let (image, text) = cache.get(id).ok_or(TrainError::NotCached { id: id.to_string() })?;
        images.extend_from_slice(image);
        texts.extend_from_slice(text);
    }
    Ok([pass.upload(&images, &[batch.len(), d])?, pass.upload(&texts, &[batch.len(), d])?])
}

/// One folder a key, so that caches of several references live side by side.
fn cache_folder(folder: &Path, key: &CacheKey) -> PathBuf {
    let parts = [&key.model, &key.tokenizer, &key.preprocess];
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(part.as_bytes()).update(&[0]);
    }
    for number in [key.text_tokens, key.caption_bytes] {
        hasher.update(&(number as u64).to_le_bytes());
    }
    folder.join(&hasher.finalize().to_hex()[..16])
}

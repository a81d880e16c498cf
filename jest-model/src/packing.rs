//! Captions computed at their own length: padding that no output depends on is not computed.

use jest_kernels::ops::add;
use jest_kernels::ops::gather_tokens::{self, KeptTokens};
use jest_kernels::{Pass, Tensor};

use crate::config::{Family, ModelConfig, TextPadding, TextPool};
use crate::{Result, TwoTowers, View};

/// Lengths are rounded up to a multiple of it: buckets of few texts make small products.
const STEP: usize = 2;

/// Texts that are computed together, at one length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bucket {
    /// Their places in the batch, ascending.
    pub(crate) texts: Vec<u32>,
    /// Tokens of each.
    pub(crate) l: usize,
}

impl ModelConfig {
    /// Whether no token's output depends on the padding behind it: then texts can be computed without.
    ///
    /// A causal text is read at its end, before its padding; so is one whose attention does not see padding, or it is read
    /// at its start or by the mean of what is no padding. SigLIP as it was published attends to padding, and reads it.
    pub fn can_pack(&self) -> bool {
        let masked = self.text.padding == TextPadding::Masked && self.text.pool != TextPool::Last;
        masked || self.family == Family::Clip
    }
}

/// The texts of each length, rounded up but not beyond `l`, short ones first; all of them at `l` unless `packing`.
pub(crate) fn buckets(lengths: &[u32], l: usize, packing: bool) -> Vec<Bucket> {
    let tokens = |length: u32| if packing { (length as usize).next_multiple_of(STEP).min(l) } else { l };
    let mut by_length: Vec<Vec<u32>> = vec![Vec::new(); l + 1];
    for (place, length) in lengths.iter().enumerate() {
        by_length[tokens(*length)].push(place as u32);
    }
    let filled = by_length.into_iter().enumerate().filter(|(_, texts)| !texts.is_empty());
    filled.map(|(l, texts)| Bucket { texts, l }).collect()
}

/// Rows of buckets among all n rows, in the order of the batch.
#[derive(Debug)]
pub(crate) struct Scatter {
    kept: Vec<KeptTokens>,
}

impl Scatter {
    pub(crate) fn upload(pass: &mut Pass, buckets: &[Bucket], n: usize) -> Result<Self> {
        let kept = buckets.iter().map(|bucket| KeptTokens::upload(pass, &bucket.texts, 1, bucket.texts.len(), n));
        Ok(Self { kept: kept.collect::<std::result::Result<_, _>>()? })
    }

    /// parts: `[n_k, d]` of each bucket -> `[n, d]`
    pub(crate) fn join(&self, pass: &mut Pass, mut parts: Vec<Tensor>) -> Result<Tensor> {
        if parts.len() == 1 {
            return Ok(parts.remove(0));
        }
        let mut whole: Option<Tensor> = None;
        for (part, kept) in parts.iter().zip(&self.kept) {
            let spread = gather_tokens::backward(pass, part, kept)?;
            match &mut whole {
                // No row is in two buckets: zeros are added.
                Some(whole) => add::accumulate(pass, &spread, whole)?,
                None => whole = Some(spread),
            }
        }
        Ok(match whole {
            Some(whole) => whole,
            None => pass.zeros(&[0, 0])?,
        })
    }

    /// whole: `[n, d]` -> `[n_k, d]` of bucket k
    pub(crate) fn part(&self, pass: &mut Pass, whole: &Tensor, k: usize) -> Result<Tensor> {
        match self.kept.get(k) {
            Some(kept) if self.kept.len() > 1 => Ok(gather_tokens::forward(pass, whole, kept)?),
            _ => Ok(whole.clone()),
        }
    }
}

impl TwoTowers {
    /// Whether texts are computed without the padding that nothing depends on; of no effect where
    /// [`ModelConfig::can_pack`] says no.
    pub fn set_packing(&mut self, packing: bool) {
        self.text.packing = packing && self.config().can_pack();
    }

    /// How many of these texts are computed at which length: counts, each with the view at that length.
    ///
    /// # Shapes
    /// lengths: `[n]`; the counts add up to n.
    pub fn text_views(&self, lengths: &[u32], view: &View) -> Vec<(usize, View)> {
        let all = buckets(lengths, view.text_tokens(self.config()), self.text.packing);
        all.into_iter().map(|bucket| (bucket.texts.len(), View { text_tokens: Some(bucket.l), ..*view })).collect()
    }
}

#[cfg(test)]
mod tests {
    use jest_kernels::{Device, DeviceOptions, DeviceRequest};

    use super::*;
    use crate::param::Parameters;
    use crate::{Activation, Preset};

    /// Lengths with gaps, twice the longest, and one of a single token.
    const LENGTHS: [u32; 9] = [5, 16, 2, 9, 1, 16, 6, 5, 12];

    fn models() -> [ModelConfig; 4] {
        let mut masked = Preset::Mu.config();
        (masked.text.padding, masked.text.pool) = (TextPadding::Masked, TextPool::Eos);
        let mut clip = Preset::Mu.config().into_clip();
        clip.text.gelu = Activation::Erf;
        let mean = Preset::Mu.config().into_dual();
        let mut pooler = mean.clone();
        pooler.text.pool = TextPool::Pooler;
        [masked, clip, mean, pooler]
    }

    /// Embeddings, those without a backward, and every gradient of `sum z dz`.
    fn run(pass: &mut Pass, config: &ModelConfig, packing: bool, view: &View) -> Vec<(String, Vec<f32>)> {
        let mut model = TwoTowers::new(pass, config, 3).unwrap();
        model.set_packing(packing);
        assert_eq!(model.text_views(&LENGTHS, view).len() > 1, packing);
        let (n, l) = (LENGTHS.len(), config.text.tokens);
        // What stands behind a text's end differs from text to text: nothing may read it.
        let ids: Vec<u32> = (0..n * l).map(|at| (at * 37 % 500 + 2) as u32).collect();
        let (z, saved) = model.encode_texts(pass, &ids, &LENGTHS, view).unwrap();
        let only = model.embed_texts(pass, &ids, &LENGTHS, view).unwrap();
        let dz: Vec<f32> = (0..z.len()).map(|at| ((at * 29 % 31) as f32 - 15.0) / 15.0).collect();
        let dz = pass.upload(&dz, z.shape()).unwrap();
        model.backward_texts(pass, saved, &dz).unwrap();
        let mut all = vec![("z".into(), pass.read(&z).unwrap()), ("only".into(), pass.read(&only).unwrap())];
        model.text.visit(&mut |param| all.push((param.name().to_owned(), pass.read(&param.grad).unwrap())));
        all
    }

    #[test]
    fn packed_texts_are_the_padded_ones() {
        for request in [DeviceRequest::Cpu, DeviceRequest::Name("llvmpipe".into())] {
            let device = Device::open(&request, DeviceOptions { checked: true, ..Default::default() }).unwrap();
            let mut pass = device.pass();
            for config in models() {
                for view in [View::default(), View { text_tokens: Some(8), ..View::default() }] {
                    let (packed, padded) =
                        (run(&mut pass, &config, true, &view), run(&mut pass, &config, false, &view));
                    for ((name, packed), (_, padded)) in packed.iter().zip(&padded) {
                        let size = padded.iter().fold(1e-3f32, |size, x| size.max(x.abs()));
                        assert_eq!(packed.len(), padded.len(), "{name}");
                        for (i, (a, b)) in packed.iter().zip(padded).enumerate() {
                            assert!((a - b).abs() <= 1e-5 * size, "{name}[{i}]: {a} is not {b}, {view:?}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn texts_that_attend_to_padding_are_not_packed() {
        let mut pass = Device::open(&DeviceRequest::Cpu, DeviceOptions::default()).unwrap().pass();
        let mut model = TwoTowers::new(&mut pass, &Preset::Mu.config(), 0).unwrap();
        assert!(!model.config().can_pack());
        model.set_packing(true);
        let whole = View { text_tokens: Some(16), ..View::default() };
        assert_eq!(model.text_views(&LENGTHS, &View::default()), [(9, whole)]);
    }

    #[test]
    fn buckets_hold_every_text_once() {
        let all = buckets(&LENGTHS, 11, true);
        let sizes: Vec<(usize, usize)> = all.iter().map(|bucket| (bucket.l, bucket.texts.len())).collect();
        assert_eq!(sizes, [(2, 2), (6, 3), (10, 1), (11, 3)]);
        let mut places: Vec<u32> = all.into_iter().flat_map(|bucket| bucket.texts).collect();
        places.sort_unstable();
        assert!(places.into_iter().eq(0..9));
    }
}

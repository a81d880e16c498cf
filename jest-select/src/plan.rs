//! Sizes of a selection, as integers that divide.

use crate::InputError;

/// How a sub-batch of `b` is drawn from a super-batch of `B`: in `N` chunks of `c = b / N`, with a gain.
///
/// # Source
/// Paper §3.2: b = 32,768, B = 163,840, N = 16, c = 2,048. Truncating floats gives 2,047 there; integers do not.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BatchPlan {
    super_batch: usize,
    sub_batch: usize,
    chunks: usize,
    gain: f32,
}

impl BatchPlan {
    /// A plan to draw `sub_batch` of `super_batch` candidates in `chunks` equal chunks, with gain 1.
    ///
    /// # Errors
    /// A size of 0, `sub_batch > super_batch`, more candidates than `u32::MAX`, or `sub_batch` not divisible by
    /// `chunks`: the message names the nearest sizes that work.
    pub fn new(super_batch: usize, sub_batch: usize, chunks: usize) -> Result<Self, InputError> {
        for (what, size) in [("super-batch", super_batch), ("sub-batch", sub_batch), ("number of chunks", chunks)] {
            if size == 0 {
                return Err(InputError::Zero { what });
            }
        }
        if u32::try_from(super_batch).is_err() {
            return Err(InputError::SuperBatchTooLarge { super_batch: super_batch as f64 });
        }
        if sub_batch > super_batch {
            return Err(InputError::SubBatchTooLarge { super_batch, sub_batch });
        }
        if !sub_batch.is_multiple_of(chunks) {
            return Err(InputError::NotDivisible { super_batch, sub_batch, chunks });
        }
        Ok(Self { super_batch, sub_batch, chunks, gain: 1.0 })
    }

    /// The plan with `B = round(b / (1 - filter_ratio))`, so that no example is lost to a float's truncation.
    ///
    /// Where the quotient is no integer, [`filter_ratio`](Self::filter_ratio) gives the ratio in effect.
    ///
    /// # Errors
    /// A ratio outside `[0, 1)`, and those of [`new`](Self::new).
    pub fn from_filter_ratio(sub_batch: usize, filter_ratio: f64, chunks: usize) -> Result<Self, InputError> {
        if !(0.0..1.0).contains(&filter_ratio) {
            return Err(InputError::FilterRatio { filter_ratio });
        }
        let super_batch = (sub_batch as f64 / (1.0 - filter_ratio)).round();
        if super_batch > f64::from(u32::MAX) {
            return Err(InputError::SuperBatchTooLarge { super_batch });
        }
        Self::new(super_batch as usize, sub_batch, chunks)
    }

    /// The same plan with another factor on the scores at the draw: 0 draws uniformly, infinity takes the best.
    ///
    /// # Errors
    /// A gain that is negative or NaN.
    pub fn with_gain(self, gain: f32) -> Result<Self, InputError> {
        if gain >= 0.0 { Ok(Self { gain, ..self }) } else { Err(InputError::Gain { gain }) }
    }

    /// The same draw in a single chunk of `b`: nothing is conditioned on.
    pub(crate) fn in_one_chunk(self) -> Self {
        Self { chunks: 1, ..self }
    }

    /// The same draw one candidate at a time: each is conditioned on all before it.
    pub(crate) fn one_at_a_time(self) -> Self {
        Self { chunks: self.sub_batch, ..self }
    }

    /// The same plan with infinite gain.
    pub(crate) fn without_noise(self) -> Self {
        Self { gain: f32::INFINITY, ..self }
    }

    /// B, the number of candidates.
    pub fn super_batch(&self) -> usize {
        self.super_batch
    }

    /// b, the number of candidates selected.
    pub fn sub_batch(&self) -> usize {
        self.sub_batch
    }

    /// N, the number of chunks.
    pub fn chunks(&self) -> usize {
        self.chunks
    }

    /// `c = b / N`, the number of candidates drawn at a time.
    pub fn chunk_size(&self) -> usize {
        self.sub_batch / self.chunks
    }

    /// The factor on the scores at the draw.
    pub fn gain(&self) -> f32 {
        self.gain
    }

    /// `1 - b / B`, the share of candidates that is not selected.
    pub fn filter_ratio(&self) -> f64 {
        (self.super_batch - self.sub_batch) as f64 / self.super_batch as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_that_work() {
        let plan = BatchPlan::new(163_840, 32_768, 16).unwrap();
        assert_eq!((plan.chunk_size(), plan.chunks(), plan.gain()), (2_048, 16, 1.0));
        assert_eq!(plan.filter_ratio(), 0.8);
        assert_eq!(BatchPlan::new(4, 4, 1).unwrap().filter_ratio(), 0.0);
    }

    #[test]
    fn ratios_lose_no_example() {
        for (filter_ratio, super_batch) in [(0.0, 32_768), (0.5, 65_536), (0.8, 163_840), (0.9, 327_680)] {
            let plan = BatchPlan::from_filter_ratio(32_768, filter_ratio, 16).unwrap();
            assert_eq!(plan.super_batch(), super_batch);
            assert!((plan.filter_ratio() - filter_ratio).abs() < 1e-12);
        }
        assert_eq!(BatchPlan::from_filter_ratio(100, 0.33, 4).unwrap().super_batch(), 149);
    }

    #[test]
    fn sizes_that_do_not_work_are_named() {
        let check = |plan: Result<BatchPlan, InputError>, expected: &str| {
            assert_eq!(plan.unwrap_err().to_string(), expected);
        };
        check(BatchPlan::new(2500, 500, 16), "sub-batch 500 is not divisible by 16 chunks; nearest: 496 or 512");
        check(BatchPlan::new(20, 5, 16), "sub-batch 5 is not divisible by 16 chunks; nearest: 16");
        check(BatchPlan::new(500, 500, 16), "sub-batch 500 is not divisible by 16 chunks; nearest: 496");
        check(BatchPlan::new(10, 5, 16), "sub-batch 5 is not divisible by 16 chunks; use at most 5 chunks");
        check(BatchPlan::new(8, 16, 4), "sub-batch 16 is larger than super-batch 8; draw at least 16 candidates");
        check(BatchPlan::new(0, 16, 4), "super-batch is 0; it must be at least 1");
        check(BatchPlan::new(16, 0, 4), "sub-batch is 0; it must be at least 1");
        check(BatchPlan::new(16, 4, 0), "number of chunks is 0; it must be at least 1");
        for filter_ratio in [1.0, -0.1, f64::NAN] {
            let error = BatchPlan::from_filter_ratio(8, filter_ratio, 1).unwrap_err();
            assert!(matches!(error, InputError::FilterRatio { .. }), "{error}");
        }
        let error = BatchPlan::from_filter_ratio(8, 1.0 - 1e-12, 1).unwrap_err();
        assert!(matches!(error, InputError::SuperBatchTooLarge { .. }), "{error}");
    }

    #[test]
    fn gains() {
        let plan = BatchPlan::new(8, 4, 2).unwrap();
        for gain in [0.0, 1.0, 100.0, f32::INFINITY] {
            assert_eq!(plan.with_gain(gain).unwrap().gain(), gain);
        }
        for gain in [-1.0, f32::NAN, f32::NEG_INFINITY] {
            assert!(plan.with_gain(gain).is_err(), "{gain}");
        }
    }
}

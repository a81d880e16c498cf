//! Gumbel noise that is a function of (seed, step, chunk, candidate), whatever the device or the thread order.

use crate::Candidate;

/// Noise of a draw: independent standard Gumbel values, fresh for every chunk.
pub trait Noise {
    /// The noise that `candidate` gets in the draw of chunk number `chunk`. Finite.
    fn at(&self, chunk: usize, candidate: Candidate) -> f32;
}

/// Counter-based Gumbel noise: `-ln(-ln u)`, where `u` is a hash of (seed, step, chunk, candidate).
///
/// With `out(s, n)` the n-th output (from 0) of the SplitMix64 generator in state `s`, the hash is
/// `out(out(out(seed, step), chunk), candidate)`; its upper 52 bits, plus one half, are `u * 2^52`. Within a chunk no
/// two candidates share a hash. The values are frozen: a run that is resumed draws what it would have drawn.
///
/// # Source
/// SplitMix64: Steele, Lea, Flood, Fast splittable pseudorandom number generators (OOPSLA 2014).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gumbel {
    state: u64,
}

impl Gumbel {
    /// The noise of one training step. Two steps, and two seeds, have independent noise.
    pub fn new(seed: u64, step: u64) -> Self {
        Self { state: splitmix64(seed, step) }
    }
}

impl Noise for Gumbel {
    fn at(&self, chunk: usize, candidate: Candidate) -> f32 {
        let hash = splitmix64(splitmix64(self.state, chunk as u64), u64::from(u32::from(candidate)));
        // 52 bits and a half are exact in f64, so u is never 0 or 1 and both logarithms are finite.
        let u = ((hash >> 12) as f64 + 0.5) / (1u64 << 52) as f64;
        -(-u.ln()).ln() as f32
    }
}

/// Output number `n`, from 0, of the SplitMix64 generator whose state is `state`.
fn splitmix64(state: u64, n: u64) -> u64 {
    let mut z = state.wrapping_add(n.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_is_splitmix64() {
        // The first outputs of the published generator from state 1234567.
        let published = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431];
        for (n, expected) in published.into_iter().enumerate() {
            assert_eq!(splitmix64(1_234_567, n as u64), expected);
        }
    }

    #[test]
    fn values_are_frozen() {
        // Computed by a second implementation, in Python.
        for ((seed, step, chunk, candidate), expected) in [
            ((0, 0, 0, 0), -0.680_757_8_f32),
            ((0, 0, 0, 1), 3.529_359_7),
            ((0, 0, 1, 0), -0.526_909_94),
            ((0, 1, 0, 0), 0.374_090_4),
            ((1, 0, 0, 0), 1.005_158_8),
            ((42, 7, 15, 163_839), 1.442_429_7),
        ] {
            let value = Gumbel::new(seed, step).at(chunk, Candidate::new(candidate));
            assert!((value - expected).abs() <= 2.0 * f32::EPSILON * expected.abs(), "{value:?} is not {expected:?}");
        }
    }

    #[test]
    fn moments_are_gumbels() {
        let n = 200_000;
        let values = (0..n).map(|x| f64::from(Gumbel::new(3, 5).at((x % 16) as usize, Candidate::new(x / 16))));
        let (sum, squares) = values.fold((0.0, 0.0), |(sum, squares), v| (sum + v, squares + v * v));
        let mean = sum / f64::from(n);
        let variance = squares / f64::from(n) - mean * mean;
        // Euler's constant and pi^2 / 6, within four standard errors.
        assert!((mean - 0.577_216).abs() < 0.012, "mean {mean}");
        assert!((variance - 1.644_934).abs() < 0.035, "variance {variance}");
    }
}

//! Values of parameters before training, as big_vision draws them.
//!
//! Each part of a parameter has its own random stream, keyed by the seed and its name: values do not depend on the
//! order in which layers are made.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// How a tensor starts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Init {
    /// All elements alike.
    Constant(f32),
    /// Normal with this standard deviation.
    Normal(f64),
    /// Normal with this standard deviation, cut at two standard deviations and widened so that it keeps it.
    TruncatedNormal(f64),
    /// Uniform within `±sqrt(6 / (fan_in + fan_out))`.
    XavierUniform { fan_in: usize, fan_out: usize },
}

impl Init {
    /// Truncated normal with variance `1 / fan_in` (LeCun): the default of a dense layer and a convolution.
    pub fn lecun(fan_in: usize) -> Self {
        Init::TruncatedNormal((1.0 / fan_in as f64).sqrt())
    }

    /// Normal with variance `1 / width`: of embedding tables and positions.
    pub fn embedding(width: usize) -> Self {
        Init::Normal((1.0 / width as f64).sqrt())
    }
}

/// Standard deviation of a standard normal cut at ±2.
const CUT_STD: f64 = 0.879_625_661_034_239_8;

/// `len` values of part `index` of the parameter `name`.
pub(crate) fn values(init: Init, len: usize, seed: u64, name: &str, index: usize) -> Vec<f32> {
    let mut random = stream(seed, name, index);
    let mut draw = || match init {
        Init::Constant(value) => f64::from(value),
        Init::Normal(std) => std * normal(&mut random),
        Init::TruncatedNormal(std) => std / CUT_STD * truncated(&mut random),
        Init::XavierUniform { fan_in, fan_out } => {
            (6.0 / (fan_in + fan_out) as f64).sqrt() * (2.0 * uniform(&mut random) - 1.0)
        }
    };
    (0..len).map(|_| draw() as f32).collect()
}

/// Independent random numbers for each (seed, name, index).
pub(crate) fn stream(seed: u64, name: &str, index: usize) -> ChaCha8Rng {
    let mut key = blake3::Hasher::new();
    key.update(&seed.to_le_bytes()).update(&(index as u64).to_le_bytes()).update(name.as_bytes());
    ChaCha8Rng::from_seed(*key.finalize().as_bytes())
}

/// Uniform in [0, 1).
pub(crate) fn uniform(random: &mut ChaCha8Rng) -> f64 {
    (random.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

/// Standard normal (Box and Muller).
fn normal(random: &mut ChaCha8Rng) -> f64 {
    let radius = (-2.0 * (1.0 - uniform(random)).ln()).sqrt();
    radius * (std::f64::consts::TAU * uniform(random)).cos()
}

fn truncated(random: &mut ChaCha8Rng) -> f64 {
    loop {
        let value = normal(random);
        if value.abs() <= 2.0 {
            return value;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moments(init: Init) -> (f64, f64, f64) {
        let drawn = values(init, 200_000, 3, "weight", 0);
        let n = drawn.len() as f64;
        let mean = drawn.iter().map(|v| f64::from(*v)).sum::<f64>() / n;
        let variance = drawn.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / n;
        (mean, variance.sqrt(), drawn.iter().fold(0.0, |top, v| f64::from(v.abs()).max(top)))
    }

    #[test]
    fn distributions_have_their_moments() {
        for (init, std, largest) in [
            (Init::embedding(64), 0.125, 0.125 * 6.0),
            (Init::lecun(64), 0.125, 0.125 * 2.0 / CUT_STD),
            (Init::XavierUniform { fan_in: 10, fan_out: 14 }, 0.5 / 3f64.sqrt(), 0.5),
        ] {
            let (mean, found, top) = moments(init);
            assert!(mean.abs() < 0.01 * std * 2.0, "{init:?}: mean {mean}");
            assert!((found - std).abs() < 0.01 * std, "{init:?}: std {found}");
            assert!(top <= largest * 1.000_001 && top > 0.6 * largest, "{init:?}: largest {top}");
        }
        assert_eq!(values(Init::Constant(2.5), 2, 0, "bias", 0), [2.5, 2.5]);
    }

    #[test]
    fn streams_depend_on_seed_name_and_part() {
        let draw = |seed, name, index| values(Init::Normal(1.0), 4, seed, name, index);
        assert_eq!(draw(1, "a", 0), draw(1, "a", 0));
        for other in [draw(2, "a", 0), draw(1, "b", 0), draw(1, "a", 1)] {
            assert_ne!(draw(1, "a", 0), other);
        }
    }
}

//! Vector loops chosen at run time, and the elementary functions they use.
//!
//! The functions are straight-line arithmetic, so that the compiler turns a loop over them into vector code for
//! whatever instruction set [`simd_fn`] picks. No fused multiply-add is used: results are the same on every set.

/// Defines a function whose body is compiled for AVX-512, AVX2 and the baseline, and picks one at each call.
///
/// Loops belong inside the body; closures and functions called from it must be `#[inline(always)]` to share its
/// instruction set.
macro_rules! simd_fn {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        $(#[$meta])*
        #[expect(clippy::allow_attributes, reason = "not every body has many arguments")]
        #[allow(clippy::too_many_arguments)]
        $vis fn $name($($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            fn body($($arg: $ty),*) $(-> $ret)? $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
                fn avx512($($arg: $ty),*) $(-> $ret)? { body($($arg),*) }
                #[target_feature(enable = "avx2,fma")]
                fn avx2($($arg: $ty),*) $(-> $ret)? { body($($arg),*) }
                // SAFETY: each form runs only where its instruction set was found.
                match $crate::simd::level() {
                    2 => return unsafe { avx512($($arg),*) },
                    1 => return unsafe { avx2($($arg),*) },
                    _ => {}
                }
            }
            body($($arg),*)
        }
    };
}
pub(crate) use simd_fn;

/// 2 with AVX-512, 1 with AVX2, 0 otherwise.
#[cfg(target_arch = "x86_64")]
pub(crate) fn level() -> u8 {
    use std::is_x86_feature_detected as has;
    if has!("avx512f") && has!("avx512bw") && has!("avx512dq") && has!("avx512vl") && has!("avx2") && has!("fma") {
        2
    } else {
        u8::from(has!("avx2") && has!("fma"))
    }
}

/// Instruction sets in use, for `jest devices`.
pub(crate) fn features() -> Vec<&'static str> {
    #[cfg(target_arch = "x86_64")]
    {
        let mut found = Vec::new();
        if std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma") {
            found.push("avx2");
        }
        if std::is_x86_feature_detected!("avx512f") {
            found.push("avx512");
        }
        if std::is_x86_feature_detected!("avx512bf16") {
            found.push("avx512-bf16");
        }
        if crate::bf16::level() == crate::bf16::Level::Amx {
            found.push("amx-bf16");
        }
        found
    }
    #[cfg(not(target_arch = "x86_64"))]
    Vec::new()
}

/// Independent partial sums of a long sum, so that it runs in vectors; the order is fixed.
pub(crate) const LANES: usize = 16;

/// Sum of `f` over the elements of equally long rows, in a fixed order of `LANES` partial sums.
#[inline(always)]
pub(crate) fn sum<const K: usize>(rows: [&[f32]; K], f: impl Fn([f32; K]) -> f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let (whole, rest) = rows[0].as_chunks::<LANES>();
    // As long as the first by construction: no bounds check is left in the loops.
    let chunks = rows.map(|row| &row.as_chunks::<LANES>().0[..whole.len()]);
    let rests = rows.map(|row| &row[whole.len() * LANES..][..rest.len()]);
    for i in 0..whole.len() {
        for (lane, total) in lanes.iter_mut().enumerate() {
            *total += f(chunks.map(|chunk| chunk[i][lane]));
        }
    }
    for (lane, total) in lanes.iter_mut().enumerate().take(rest.len()) {
        *total += f(rests.map(|rest| rest[lane]));
    }
    fold(lanes, |a, b| a + b)
}

/// Sum of `f(value)` in the same order as [`sum`].
#[inline(always)]
pub(crate) fn sum_over(values: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    sum([values], |[value]| f(value))
}

/// Largest value, NaN left out: a sum over the same values keeps it.
#[inline(always)]
pub(crate) fn max_over(values: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (whole, rest) = values.as_chunks::<LANES>();
    for chunk in whole {
        for (top, value) in lanes.iter_mut().zip(chunk) {
            *top = if *value > *top { *value } else { *top };
        }
    }
    for (top, value) in lanes.iter_mut().zip(rest) {
        *top = if *value > *top { *value } else { *top };
    }
    fold(lanes, |a, b| if b > a { b } else { a })
}

#[inline(always)]
fn fold(mut lanes: [f32; LANES], combine: impl Fn(f32, f32) -> f32) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] = combine(lanes[i], lanes[i + width]);
        }
        width /= 2;
    }
    lanes[0]
}

/// `exp(x)` within 2 ulp between -87 and 88, clamped outside; NaN stays NaN.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // 1.5 * 2^23: adding it rounds to an integer.
    let x = if x < -87.3 { -87.3 } else { x };
    let x = if x > 88.3 { 88.3 } else { x };
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    // ln 2 in two parts, the first exact in few bits.
    let r = (x - n * 0.693_359_4) - n * -2.121_944_4e-4;
    let mut p = 1.987_569_1e-4;
    p = p * r + 1.398_199_9e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_5e-1;
    p = p * r + 0.5;
    let y = p * (r * r) + r + 1.0;
    let power = (shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127)) << 23;
    y * f32::from_bits(power)
}

/// `1 / (1 + exp(-x))`.
#[inline(always)]
pub(crate) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// `ln(1 + exp(x))`, with full relative precision for very negative x.
#[inline(always)]
pub(crate) fn softplus(x: f32) -> f32 {
    (if x < 0.0 { 0.0 } else { x }) + log1p_unit(exp(-x.abs()))
}

/// `ln(1 + u)` for u within [0, 1], with full relative precision: `2 atanh(u / (2 + u))`, whose argument is at most 1/3.
#[inline(always)]
pub(crate) fn log1p_unit(u: f32) -> f32 {
    let s = u / (2.0 + u);
    let q = s * s;
    let mut p = 1.0 / 15.0;
    p = p * q + 1.0 / 13.0;
    p = p * q + 1.0 / 11.0;
    p = p * q + 1.0 / 9.0;
    p = p * q + 1.0 / 7.0;
    p = p * q + 1.0 / 5.0;
    p = p * q + 1.0 / 3.0;
    2.0 * (s + s * q * p)
}

/// `erf(x)` within 2e-7 (Abramowitz and Stegun, 7.1.26), and the `exp(-x²)` that it is made of.
#[inline(always)]
pub(crate) fn erf_and_exp(x: f32) -> (f32, f32) {
    let a = x.abs();
    let t = 1.0 / (1.0 + 0.327_591_1 * a);
    let mut p = 1.061_405_4;
    p = p * t - 1.453_152_1;
    p = p * t + 1.421_413_8;
    p = p * t - 0.284_496_72;
    p = p * t + 0.254_829_6;
    let e = exp(-a * a);
    let y = 1.0 - p * t * e;
    (if x < 0.0 { -y } else { y }, e)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, f: impl Fn(f32) -> f32, exact: impl Fn(f64) -> f64, relative: f64, absolute: f64) {
        for i in -80_000..=80_000 {
            let x = i as f32 * 1e-3;
            let (got, want) = (f64::from(f(x)), exact(f64::from(x)));
            let error = (got - want).abs();
            assert!(error <= relative * want.abs() + absolute, "{name}({x}) = {got}, expected {want}");
        }
        assert!(f(f32::NAN).is_nan(), "{name} loses NaN");
    }

    #[test]
    fn functions_match_f64() {
        check("exp", exp, f64::exp, 2.5e-7, 0.0);
        check("sigmoid", sigmoid, |x| 1.0 / (1.0 + (-x).exp()), 4e-7, 0.0);
        check("softplus", softplus, |x| x.max(0.0) + (-x.abs()).exp().ln_1p(), 5e-7, 0.0);
    }

    #[test]
    fn erf_matches_known_values() {
        for (x, want) in [(0.0, 0.0), (0.5, 0.520_499_9), (1.0, 0.842_700_8), (-2.0, -0.995_322_3), (9.0, 1.0)] {
            let (got, e) = erf_and_exp(x);
            assert!((got - want as f32).abs() <= 2.5e-7, "erf({x}) = {got}");
            assert!((e - (-x * x).exp()).abs() <= 2.5e-7, "exp(-{x}²) = {e}");
        }
    }

    #[test]
    fn reductions_keep_nan_and_order() {
        for n in [1, 15, 16, 17, 100] {
            let values: Vec<f32> = (0..n).map(|i| (i as f32 * 0.7).sin()).collect();
            let want: f64 = values.iter().map(|v| f64::from(*v)).sum();
            assert!((f64::from(sum_over(&values, |value| value)) - want).abs() <= 1e-5);
            let weights: Vec<f32> = values.iter().map(|value| value + 1.0).collect();
            let products: Vec<f32> = values.iter().zip(&weights).map(|(a, b)| a * b).collect();
            assert_eq!(sum([&values, &weights], |[a, b]| a * b), sum_over(&products, |product| product));
            assert_eq!(max_over(&values), values.iter().copied().fold(f32::MIN, f32::max));
            let mut spoiled = values.clone();
            spoiled[n - 1] = f32::NAN;
            assert!(sum_over(&spoiled, |value| value).is_nan());
        }
    }
}

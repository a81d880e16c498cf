//! The values that f16 can hold, from their definition, in f64.

/// Largest finite f16.
const LARGEST: f64 = 65_504.0;

/// The f16 nearest to each x, ties to the even multiple of the unit in the last place; infinite when too large.
pub fn to_f16(x: &[f64]) -> Vec<f64> {
    x.iter().map(|x| round(*x)).collect()
}

fn round(x: f64) -> f64 {
    if !x.is_finite() || x == 0.0 {
        return x;
    }
    // 10 bits behind the leading one; below 2^-14 the unit stays that of the smallest normal number.
    let mut unit = 2.0f64.powi(-24);
    while unit * 2048.0 <= x.abs() {
        unit *= 2.0;
    }
    let rounded = (x / unit).round_ties_even() * unit;
    if rounded.abs() > LARGEST { f64::INFINITY.copysign(x) } else { rounded.copysign(x) }
}

/// The value that the bits of an f16 stand for.
pub fn to_f32(bits: u16) -> f64 {
    let (exponent, fraction) = (i32::from(bits >> 10 & 31), f64::from(bits & 1023));
    let magnitude = match exponent {
        0 => fraction * 2.0f64.powi(-24),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (1024.0 + fraction) * 2.0f64.powi(exponent - 25),
    };
    if bits >> 15 == 1 { -magnitude } else { magnitude }
}

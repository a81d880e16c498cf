//! GELU, one element after the other, in f64.

use super::Gelu;

/// `erf(x)` by its Maclaurin series where that converges fast, else by the continued fraction of erfc.
fn erf(x: f64) -> f64 {
    let a = x.abs();
    if a < 3.0 {
        let (mut term, mut total) = (a, a);
        for n in 1..100 {
            term *= -a * a / n as f64;
            total += term / (2 * n + 1) as f64;
        }
        return x.signum() * total * std::f64::consts::FRAC_2_SQRT_PI;
    }
    let tail = (1..60).rev().fold(a, |fraction, n| a + n as f64 / 2.0 / fraction);
    x.signum() * (1.0 - (-a * a).exp() / (tail * std::f64::consts::PI.sqrt()))
}

fn tanh_argument(x: f64) -> f64 {
    (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))
}

/// `y = gelu(x)`.
pub fn forward(kind: Gelu, x: &[f64]) -> Vec<f64> {
    let gelu = |x: f64| match kind {
        Gelu::Tanh => 0.5 * x * (1.0 + tanh_argument(x).tanh()),
        Gelu::Erf => 0.5 * x * (1.0 + erf(x / std::f64::consts::SQRT_2)),
        Gelu::Quick => x / (1.0 + (-1.702 * x).exp()),
    };
    x.iter().map(|x| gelu(*x)).collect()
}

/// `slope = gelu'(x)`.
pub fn slope(kind: Gelu, x: &[f64]) -> Vec<f64> {
    let derivative = |x: f64| match kind {
        Gelu::Tanh => {
            let t = tanh_argument(x).tanh();
            let rise = (2.0 / std::f64::consts::PI).sqrt() * (1.0 + 3.0 * 0.044715 * x * x);
            0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * rise
        }
        Gelu::Erf => {
            let density = (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt();
            0.5 * (1.0 + erf(x / std::f64::consts::SQRT_2)) + x * density
        }
        Gelu::Quick => {
            let gate = 1.0 / (1.0 + (-1.702 * x).exp());
            gate + 1.702 * x * gate * (1.0 - gate)
        }
    };
    x.iter().map(|x| derivative(*x)).collect()
}

/// `dx = slope * dy`.
pub fn backward(slope: &[f64], dy: &[f64]) -> Vec<f64> {
    slope.iter().zip(dy).map(|(slope, dy)| slope * dy).collect()
}

//! AdamW, one element after the other, in f64.

use super::AdamW;

/// A parameter and its running means.
#[derive(Clone, Debug)]
pub struct State {
    /// The parameter.
    pub parameter: Vec<f64>,
    /// Running mean of the gradient.
    pub mean: Vec<f64>,
    /// Running mean of its square.
    pub square: Vec<f64>,
}

/// One update; none when `norm` is not finite.
pub fn step(settings: &AdamW, state: &mut State, gradient: &[f64], norm: f64) {
    if !norm.is_finite() {
        return;
    }
    let [lr, beta1, beta2, eps, decay] =
        [settings.lr, settings.beta1, settings.beta2, settings.eps, settings.decay].map(f64::from);
    let t = settings.step as f64;
    let unscale = 1.0 / f64::from(settings.gradient_scale);
    let clip = settings.max_norm.map_or(1.0, |max| (f64::from(max) / (norm * unscale + 1e-6)).min(1.0));
    for (i, gradient) in gradient.iter().enumerate() {
        let g = gradient * unscale * clip;
        state.mean[i] = beta1 * state.mean[i] + (1.0 - beta1) * g;
        state.square[i] = beta2 * state.square[i] + (1.0 - beta2) * g * g;
        let mean = state.mean[i] / (1.0 - beta1.powf(t));
        let square = state.square[i] / (1.0 - beta2.powf(t));
        state.parameter[i] -= decay * state.parameter[i] + lr * mean / (square.sqrt() + eps);
        if let Some(max) = settings.max_value {
            state.parameter[i] = state.parameter[i].min(f64::from(max));
        }
    }
}

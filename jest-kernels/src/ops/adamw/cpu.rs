//! AdamW on the CPU: blocks in parallel, each in vectors.

use rayon::prelude::*;

use super::Parameters;
use crate::simd::simd_fn;

/// Elements per block of work.
const BLOCK: usize = 16_384;

pub(super) fn step(
    settings: &Parameters,
    parameter: &mut [f32],
    gradient: &[f32],
    (mean, square): (&mut [f32], &mut [f32]),
    norm: f32,
) {
    if !norm.is_finite() {
        return;
    }
    let ratio = settings.max_norm / (norm * settings.unscale + 1e-6);
    let scale = settings.unscale * if ratio < 1.0 { ratio } else { 1.0 };
    let moments = mean.par_chunks_mut(BLOCK).zip(square.par_chunks_mut(BLOCK));
    let blocks = parameter.par_chunks_mut(BLOCK).zip(gradient.par_chunks(BLOCK)).zip(moments);
    blocks.for_each(|((parameter, gradient), (mean, square))| {
        block(settings, parameter, gradient, mean, square, scale);
    });
}

simd_fn! {
    fn block(s: &Parameters, p: &mut [f32], gradient: &[f32], mean: &mut [f32], square: &mut [f32], scale: f32) {
        let n = p.len();
        let (gradient, mean, square) = (&gradient[..n], &mut mean[..n], &mut square[..n]);
        for i in 0..n {
            let g = gradient[i] * scale;
            mean[i] = s.beta1 * mean[i] + (1.0 - s.beta1) * g;
            square[i] = s.beta2 * square[i] + (1.0 - s.beta2) * (g * g);
            let value = s.keep * p[i] - s.step_size * mean[i] / (square[i].sqrt() * s.correction + s.eps);
            p[i] = if value > s.max_value { s.max_value } else { value };
        }
    }
}

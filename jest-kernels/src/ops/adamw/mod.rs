//! AdamW with clipping by the global norm: the only operation that changes parameters.

mod cpu;
pub mod oracle;

use crate::catalog::{Kernel, Sent, Variant, parameters};
use crate::profile::Work;
use crate::rows::Bound;
use crate::{Grid, KernelError, Pass, Result, Tensor};

const OP: &str = "adamw";
const WG: usize = 64;
/// Stands for "no limit" where a kernel must not see infinity.
const NO_LIMIT: f32 = 1.0e30;

static STEP: Kernel = Kernel {
    name: "adamw/step",
    entry: "step",
    parts: &[include_str!("adamw.wgsl")],
    constants: &[("WG", WG as u32)],
    parameters: Parameters::FIELDS,
};

pub(crate) fn variants() -> Vec<Variant> {
    vec![STEP.default_variant()]
}

/// Settings of one update of one parameter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    /// Learning rate at this step.
    pub lr: f32,
    /// Decay of the running mean.
    pub beta1: f32,
    /// Decay of the running mean of squares.
    pub beta2: f32,
    /// Added to the root of the running mean of squares.
    pub eps: f32,
    /// Share of the parameter taken away at this step: torch's `lr * weight_decay`.
    pub decay: f32,
    /// Number of this update, from 1.
    pub step: u64,
    /// The gradients and their norm are this many times what they should be: a power of two, so that taking it back is
    /// exact.
    pub gradient_scale: f32,
    /// Gradients are scaled so that their global norm is at most this; `None` leaves them.
    pub max_norm: Option<f32>,
    /// Upper bound of the parameter after the update; `None` leaves it.
    pub max_value: Option<f32>,
}

parameters! {
    /// The settings as the kernels read them.
    struct Parameters {
        n: u32,
        step_size: f32,
        beta1: f32,
        beta2: f32,
        eps: f32,
        keep: f32,
        correction: f32,
        unscale: f32,
        max_norm: f32,
        max_value: f32,
    }
}

impl AdamW {
    fn parameters(&self, n: usize) -> Parameters {
        let power = |beta: f32| 1.0 - f64::from(beta).powf(self.step as f64);
        Parameters {
            n: n as u32,
            step_size: (f64::from(self.lr) / power(self.beta1)) as f32,
            beta1: self.beta1,
            beta2: self.beta2,
            eps: self.eps,
            keep: 1.0 - self.decay,
            correction: (1.0 / power(self.beta2).sqrt()) as f32,
            unscale: 1.0 / self.gradient_scale,
            max_norm: self.max_norm.unwrap_or(NO_LIMIT).min(NO_LIMIT),
            max_value: self.max_value.unwrap_or(NO_LIMIT).min(NO_LIMIT),
        }
    }
}

/// One update in place: `g = gradient / s * min(1, max_norm / (norm / s + 1e-6))`, `m = beta1 m + (1 - beta1) g`,
/// `v = beta2 v + (1 - beta2) g²`, `p = (1 - decay) p - lr m̂ / (sqrt(v̂) + eps)`; s is the gradients' scale.
///
/// Does nothing at all when `norm` is not finite; the caller learns of that from the norm.
///
/// # Shapes
/// parameter, gradient, mean, square alike; norm: `[1]`, from [`super::global_norm`].
///
/// # Errors
/// `Shape` when they differ; `Size` when `step` is 0.
///
/// # Source
/// Loshchilov and Hutter, arXiv 1711.05101; clipping as torch's `clip_grad_norm_`.
pub fn step(
    pass: &mut Pass,
    settings: &AdamW,
    parameter: &mut Tensor,
    gradient: &Tensor,
    [mean, square]: [&mut Tensor; 2],
    norm: &Tensor,
) -> Result<()> {
    let operands = [("parameter", &*parameter), ("gradient", gradient), ("mean", &*mean), ("square", &*square)];
    pass.admit(OP, &operands)?;
    pass.admit(OP, &[("norm", norm)])?;
    for (what, tensor) in operands {
        tensor.expect_f32(OP, what, parameter.shape())?;
    }
    norm.expect_f32(OP, "norm", &[1])?;
    if settings.step == 0 {
        return Err(KernelError::Size { op: OP, what: "step", got: 0, rule: "at least 1".to_string() });
    }
    let len = parameter.len();
    let parameters = settings.parameters(len);
    if let Some(cpu) = pass.cpu() {
        let moments = (mean.f32_mut(), square.f32_mut());
        let work = Work::words("adamw", 7 * gradient.len());
        cpu.run(work, || cpu::step(&parameters, parameter.f32_mut(), gradient.f32(), moments, norm.f32()[0]));
        return Ok(());
    }
    for tensor in [&mut *parameter, &mut *mean, &mut *square] {
        tensor.gpu_unique(pass)?;
    }
    let [parameter, gradient, mean, square] =
        [&*parameter, gradient, &*mean, &*square].map(|tensor| Bound::Rows(tensor, 1));
    let bound = [parameter, gradient, mean, square, Bound::Whole(norm)];
    pass.dispatch_rows(&STEP.default_variant(), len, &bound, 16.0 * len as f64, |elements| {
        let n = elements.len();
        (Parameters { n: n as u32, ..parameters }, Grid::rows(n.div_ceil(WG)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;

    fn settings() -> AdamW {
        let (lr, beta1, beta2, eps) = (1e-3, 0.9, 0.95, 1e-8);
        AdamW { lr, beta1, beta2, eps, decay: 1e-7, step: 3, gradient_scale: 1.0, max_norm: Some(1.0), max_value: None }
    }

    fn check(settings: &AdamW, n: usize, norm: f32) {
        let [p, g, m] = [1, 2, 3].map(|seed| random(n, seed));
        let v: Vec<f32> = random(n, 4).iter().map(|v| v * v).collect();
        let mut want = oracle::State { parameter: wide(&p), mean: wide(&m), square: wide(&v) };
        oracle::step(settings, &mut want, &wide(&g), f64::from(norm));
        on_each_device(|pass| {
            let mut upload = |values: &[f32]| pass.upload(values, &[n]).unwrap();
            let (mut p, g, mut m, mut v) = (upload(&p), upload(&g), upload(&m), upload(&v));
            let norm = pass.upload(&[norm], &[1]).unwrap();
            step(pass, settings, &mut p, &g, [&mut m, &mut v], &norm).unwrap();
            // About a dozen roundings of values below one; the update itself is below lr * 50.
            assert_within("parameter", &checked_read(pass, "parameter", &p), &want.parameter, |_| 16.0 * EPS);
            assert_within("mean", &checked_read(pass, "mean", &m), &want.mean, |_| 8.0 * EPS);
            assert_within("square", &checked_read(pass, "square", &v), &want.square, |_| 8.0 * EPS);
        });
    }

    #[test]
    fn matches_oracle() {
        for n in [1, 63, 65, 4099] {
            check(&settings(), n, 0.3);
            check(&settings(), n, 17.0);
            check(&AdamW { gradient_scale: 8.0, ..settings() }, n, 17.0);
            check(&AdamW { gradient_scale: 64.0, ..settings() }, n, 17.0);
            check(&AdamW { step: 1, max_norm: None, decay: 0.1, max_value: Some(0.5), ..settings() }, n, 17.0);
        }
    }

    #[test]
    fn nothing_changes_when_the_norm_is_not_finite() {
        for norm in [f32::NAN, f32::INFINITY] {
            on_each_device(|pass| {
                let values = random(100, 1);
                let mut upload = || pass.upload(&values, &[100]).unwrap();
                let (mut p, g, mut m, mut v) = (upload(), upload(), upload(), upload());
                let norm = pass.upload(&[norm], &[1]).unwrap();
                step(pass, &settings(), &mut p, &g, [&mut m, &mut v], &norm).unwrap();
                for tensor in [&p, &m, &v] {
                    assert_eq!(pass.read(tensor).unwrap(), values);
                }
            });
        }
    }

    #[test]
    fn five_steps_match_torch() {
        let bytes = include_bytes!("../../../../fixtures/adamw.safetensors");
        let file = safetensors::SafeTensors::deserialize(bytes).unwrap();
        let values = |name: &str| bytemuck::pod_collect_to_vec::<u8, f32>(file.tensor(name).unwrap().data());
        on_each_device(|pass| {
            let start = values("param0");
            let shape = [start.len()];
            let mut p = pass.upload(&start, &shape).unwrap();
            let (mut m, mut v) = (pass.zeros(&shape).unwrap(), pass.zeros(&shape).unwrap());
            for k in 1..=5 {
                let g = pass.upload(&values(&format!("grad{k}")), &shape).unwrap();
                let norm = crate::ops::global_norm::forward(pass, &[&g]).unwrap();
                let norm_want = f64::from(values(&format!("norm{k}"))[0]);
                assert_within("norm", &pass.read(&norm).unwrap(), &[norm_want], |_| 1e-6 * norm_want);
                let settings = AdamW { step: k, ..settings() };
                step(pass, &settings, &mut p, &g, [&mut m, &mut v], &norm).unwrap();
                let want = wide(&values(&format!("param{k}")));
                assert_within("parameter", &pass.read(&p).unwrap(), &want, |_| 1e-6 * largest(&want));
            }
        });
    }

    #[test]
    fn step_zero_is_refused() {
        on_each_device(|pass| {
            let mut t = [0; 4].map(|_| pass.zeros(&[1]).unwrap());
            let norm = pass.zeros(&[1]).unwrap();
            let [p, g, m, v] = &mut t;
            assert!(step(pass, &AdamW { step: 0, ..settings() }, p, g, [m, v], &norm).is_err());
        });
    }
}

// g = gradient * unscale * min(1, max_norm / (norm * unscale + 1e-6)); m = beta1 m + (1 - beta1) g; v = beta2 v + (1 - beta2) g g;
// p = keep p - step_size m / (sqrt(v) * correction + eps), at most max_value.
// step_size = lr / (1 - beta1^t), correction = 1 / sqrt(1 - beta2^t). One invocation an element.

struct Parameters {
    n: u32,
    step_size: f32,
    beta1: f32,
    beta2: f32,
    eps: f32,
    keep: f32,
    correction: f32,
    unscale: f32, // A power of two.
    max_norm: f32,
    max_value: f32,
}
var<immediate> p: Parameters;

@group(0) @binding(0) var<storage, read_write> parameter: array<f32>;
@group(0) @binding(1) var<storage, read> gradient: array<f32>;
@group(0) @binding(2) var<storage, read_write> mean: array<f32>;
@group(0) @binding(3) var<storage, read_write> square: array<f32>;
@group(0) @binding(4) var<storage, read> norm: array<f32>;

@compute @workgroup_size(WG)
fn step(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.y * groups.x + group.x) * WG + lane;
    // All exponent bits set: infinite or NaN. WGSL may assume that comparisons never see either.
    let finite = (bitcast<u32>(norm[0]) & 0x7f800000u) != 0x7f800000u;
    if i >= p.n || !finite { return; }
    let g = gradient[i] * (p.unscale * min(1.0, p.max_norm / (norm[0] * p.unscale + 1e-6)));
    let m = p.beta1 * mean[i] + (1.0 - p.beta1) * g;
    let v = p.beta2 * square[i] + (1.0 - p.beta2) * (g * g);
    mean[i] = m;
    square[i] = v;
    let value = p.keep * parameter[i] - p.step_size * m / (sqrt(v) * p.correction + p.eps);
    // By comparison, as min() may turn NaN into the bound.
    parameter[i] = select(value, p.max_value, value > p.max_value);
}

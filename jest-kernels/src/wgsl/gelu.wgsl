// GELU by kind: 0 = tanh form, 1 = exact by erf, 2 = quick (x * sigmoid(1.702 x)). GELU is a header constant.

// tanh form as x * sigmoid(2u), u = sqrt(2 / pi) * (x + 0.044715 x^3); the clamp keeps exp in range.
fn gelu_gate(x: f32) -> f32 {
    let u = select(1.5957691216 * (x + 0.044715 * x * x * x), 1.702 * x, GELU == 2u);
    return 1.0 / (1.0 + exp(-clamp(u, -80.0, 80.0)));
}

// (gelu(x), gelu'(x))
fn gelu_with_slope(x: f32) -> vec2<f32> {
    if GELU == 1u {
        // erf(x / sqrt(2)) by Abramowitz and Stegun, 7.1.26: within 2e-7. Its exp is the normal density's too.
        let a = min(abs(x) * 0.7071067812, 9.0);
        let t = 1.0 / (1.0 + 0.3275911 * a);
        let poly = ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t;
        let e = exp(-a * a);
        let gate = 0.5 * (1.0 + sign(x) * (1.0 - poly * e));
        return vec2(x * gate, gate + 0.3989422804 * x * e);
    }
    let gate = gelu_gate(x);
    let y = x * gate;
    let rise = select(1.5957691216 * (1.0 + 0.134145 * x * x), 1.702, GELU == 2u);
    return vec2(y, gate + y * (1.0 - gate) * rise);
}

fn gelu(x: f32) -> f32 {
    return gelu_with_slope(x).x;
}

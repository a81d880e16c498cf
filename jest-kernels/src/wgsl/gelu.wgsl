// GELU by kind: 0 = tanh form, 1 = exact by erf, 2 = quick (x * sigmoid(1.702 x)). GELU is a header constant.

// tanh form as x * sigmoid(2u), u = sqrt(2 / pi) * (x + 0.044715 x^3); the clamp keeps exp in range.
fn gelu_gate(x: f32) -> f32 {
    let u = select(1.5957691216 * (x + 0.044715 * x * x * x), 1.702 * x, GELU == 2u);
    return 1.0 / (1.0 + exp(-clamp(u, -80.0, 80.0)));
}

// Abramowitz and Stegun, 7.1.26: within 2e-7.
fn gelu_erf(x: f32) -> f32 {
    let a = min(abs(x), 9.0);
    let t = 1.0 / (1.0 + 0.3275911 * a);
    let poly = ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t;
    return sign(x) * (1.0 - poly * exp(-a * a));
}

fn gelu(x: f32) -> f32 {
    if GELU == 1u { return 0.5 * x * (1.0 + gelu_erf(x * 0.7071067812)); }
    return x * gelu_gate(x);
}

fn gelu_derivative(x: f32) -> f32 {
    if GELU == 1u {
        let density = 0.3989422804 * exp(-min(0.5 * x * x, 80.0));
        return 0.5 * (1.0 + gelu_erf(x * 0.7071067812)) + x * density;
    }
    let gate = gelu_gate(x);
    let slope = select(1.5957691216 * (1.0 + 0.134145 * x * x), 1.702, GELU == 2u);
    return gate + x * gate * (1.0 - gate) * slope;
}

// ln(1 + exp(x)) and its kin with full relative precision at both ends: WGSL has no log1p, and 1 + 1e-8 == 1.

// ln(1 + u) = 2 atanh(u / (2 + u)) for u in [0, 1]; the argument is at most 1/3.
fn log1p_unit(u: f32) -> f32 {
    let s = u / (2.0 + u);
    let q = s * s;
    var poly = 1.0 / 15.0;
    poly = poly * q + 1.0 / 13.0;
    poly = poly * q + 1.0 / 11.0;
    poly = poly * q + 1.0 / 9.0;
    poly = poly * q + 1.0 / 7.0;
    poly = poly * q + 1.0 / 5.0;
    poly = poly * q + 1.0 / 3.0;
    return 2.0 * (s + s * q * poly);
}

fn softplus(x: f32) -> f32 {
    return max(x, 0.0) + log1p_unit(exp(-abs(x)));
}

// exp stays in range for every x; the sign chooses the form without cancellation.
fn sigmoid(x: f32) -> f32 {
    let u = exp(-abs(x));
    return select(u, 1.0, x > 0.0) / (1.0 + u);
}

// exp(x) within 2 ulp, clamped to [-87.3, 88.3]. WGSL's own exp may be off by 3 + 2|x| ulp, which a logit scale would
// hand on to every logit.
fn exp_exact(x: f32) -> f32 {
    // By comparisons, as clamp() may turn NaN into a bound.
    let above = select(x, -87.3, x < -87.3);
    let clamped = select(above, 88.3, above > 88.3);
    let n = round(clamped * 1.4426950409);
    // ln 2 in two parts, the first exact in few bits.
    let r = (clamped - n * 0.693359375) - n * -2.12194440e-4;
    var poly = 1.9875691500e-4;
    poly = poly * r + 1.3981999507e-3;
    poly = poly * r + 8.3334519073e-3;
    poly = poly * r + 4.1665795894e-2;
    poly = poly * r + 1.6666665459e-1;
    poly = poly * r + 5.0000001201e-1;
    return ldexp(poly * (r * r) + r + 1.0, i32(n));
}

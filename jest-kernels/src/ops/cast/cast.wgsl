// f32 to f16 and back, in integer arithmetic: the built-in pack2x16float leaves rounding, overflow and NaN to the
// driver, and f16 is an optional feature. One invocation a word, which holds two halves, the first in the low bits.
//
// to_f16: from n floats to words(n); rounds to nearest, ties to even; too large becomes infinite.
// to_f32: from words(n) to n floats, exact.

struct Parameters {
    n: u32,
}
var<immediate> p: Parameters;

@group(0) @binding(0) var<storage, read> x: array<u32>;
@group(0) @binding(1) var<storage, read_write> y: array<u32>;

// `value >> shift`, to nearest, ties to even.
fn round_shift(value: u32, shift: u32) -> u32 {
    let kept = value >> shift;
    let lost = value & ((1u << shift) - 1u);
    let tie = 1u << (shift - 1u);
    return kept + u32(lost > tie || (lost == tie && (kept & 1u) == 1u));
}

fn half_of(bits: u32) -> u32 {
    let sign = (bits >> 16u) & 0x8000u;
    let a = bits & 0x7fffffffu;
    if a > 0x7f800000u { return sign | 0x7e00u | ((a >> 13u) & 0x3ffu); } // NaN, made quiet
    if a >= 0x477ff000u { return sign | 0x7c00u; } // 65520 and more
    if a <= 0x33000000u { return sign; } // 2^-25 is a tie to 0.
    // A carry out of the fraction moves on into the exponent, as it should.
    if a >= 0x38800000u { return sign | round_shift(a - 0x38000000u, 13u); }
    // Subnormal: whole multiples of 2^-24.
    return sign | round_shift((a & 0x7fffffu) | 0x800000u, 126u - (a >> 23u));
}

fn float_of(half: u32) -> u32 {
    let sign = (half & 0x8000u) << 16u;
    let exponent = (half >> 10u) & 31u;
    let fraction = half & 0x3ffu;
    if exponent == 31u {
        return sign | 0x7f800000u | (fraction << 13u) | select(0u, 0x400000u, fraction > 0u);
    }
    if exponent == 0u { return sign | bitcast<u32>(f32(fraction) * 5.9604644775390625e-8); } // times 2^-24
    return sign | ((exponent + 112u) << 23u) | (fraction << 13u);
}

@compute @workgroup_size(WG)
fn to_f16(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let word = (group.y * groups.x + group.x) * WG + lane;
    if word * 2u >= p.n { return; }
    var packed = half_of(x[word * 2u]);
    if word * 2u + 1u < p.n { packed |= half_of(x[word * 2u + 1u]) << 16u; }
    y[word] = packed;
}

@compute @workgroup_size(WG)
fn to_f32(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let word = (group.y * groups.x + group.x) * WG + lane;
    if word * 2u >= p.n { return; }
    y[word * 2u] = float_of(x[word] & 0xffffu);
    if word * 2u + 1u < p.n { y[word * 2u + 1u] = float_of(x[word] >> 16u); }
}

// Operands as f32, read one by one or in fours.

@group(0) @binding(0) var<storage, read> lhs: array<f32>;
@group(0) @binding(1) var<storage, read> rhs: array<f32>;
@group(0) @binding(0) var<storage, read> lhs_fours: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> rhs_fours: array<vec4<f32>>;

fn lhs_at(i: u32) -> f32 { return lhs[i]; }
fn rhs_at(i: u32) -> f32 { return rhs[i]; }
fn lhs_four(i: u32) -> vec4<f32> { return lhs_fours[i]; }
fn rhs_four(i: u32) -> vec4<f32> { return rhs_fours[i]; }

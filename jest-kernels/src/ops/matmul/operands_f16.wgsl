// Operands as f16, two to a word with the first in the low bits: no adapter needs a feature to read them.

@group(0) @binding(0) var<storage, read> lhs: array<u32>;
@group(0) @binding(1) var<storage, read> rhs: array<u32>;
@group(0) @binding(0) var<storage, read> lhs_fours: array<vec2<u32>>;
@group(0) @binding(1) var<storage, read> rhs_fours: array<vec2<u32>>;

fn one_of(word: u32, i: u32) -> f32 { return unpack2x16float(word)[i % 2u]; }
fn four_of(words: vec2<u32>) -> vec4<f32> { return vec4(unpack2x16float(words.x), unpack2x16float(words.y)); }

fn lhs_at(i: u32) -> f32 { return one_of(lhs[i / 2u], i); }
fn rhs_at(i: u32) -> f32 { return one_of(rhs[i / 2u], i); }
fn lhs_four(i: u32) -> vec4<f32> { return four_of(lhs_fours[i]); }
fn rhs_four(i: u32) -> vec4<f32> { return four_of(rhs_fours[i]); }

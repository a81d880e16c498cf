// What the backward kernels by matrix units share. With weights w = exp(scale * q . kᵀ - lse) and dw = dy . vᵀ, the
// gradient of a score is scale * ds, ds = w * (dw - delta); the scale follows in f32, as ds is rounded to f16.

@group(0) @binding(3) var<storage, read> dy: array<vec4<f16>>;
@group(0) @binding(4) var<storage, read> lse: array<f32>; // [n, heads, q_len]
@group(0) @binding(5) var<storage, read> delta: array<f32>; // [n, heads, q_len]
@group(0) @binding(6) var<storage, read_write> out: array<f32>; // dq, or dk and dv, by out_stride and the offsets

fn load_dy(b: Block, row: u32, four: u32) -> vec4<f16> {
    if row >= p.q_len || four * 4u >= p.head_dim { return vec4<f16>(); }
    return dy[((b.example * p.q_len + row) * p.heads + b.head) * p.head_dim / 4u + four];
}

fn load(b: Block, operand: u32, row: u32, four: u32) -> vec4<f16> {
    if operand == QUERIES { return load_q(b, row, four); }
    if operand == UPSTREAM { return load_dy(b, row, four); }
    return load_kv(b, select(p.k_offset, p.v_offset, operand == VALUES), row, four);
}

// Where lse and delta of a query lie; of the last for those beyond.
fn statistics_at(b: Block, query: u32) -> u32 {
    return (b.example * p.heads + b.head) * p.q_len + min(query, p.q_len - 1u);
}

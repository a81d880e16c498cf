// Tiles of attention in f32, for adapters without matrix units.

@group(0) @binding(0) var<storage, read> q: array<f32>;
@group(0) @binding(1) var<storage, read> kv: array<f32>;

const DEPTH = 16u;
const PITCH = 33u; // One more than SIDE: neighbouring invocations write different banks.

var<workgroup> left: array<f32, DEPTH * PITCH>; // [depth][row]
var<workgroup> right: array<f32, DEPTH * PITCH>; // [depth][col]
var<workgroup> weights: array<f32, SIDE * PITCH>; // [summed row][own row]
var<workgroup> strip: array<f32, SIDE * SIDE>; // [summed row][col]

// Keys of the tile at key0 that four queries see: what follows is never multiplied, so its NaN stays there.
fn limits(b: Block, query: u32, key0: u32) -> vec4<u32> {
    let end = select(vec4(b.keys), min(vec4(b.keys), vec4(query) + vec4(1u, 2u, 3u, 4u)), p.causal == 1u);
    return max(end, vec4(key0)) - key0;
}

fn load_q(b: Block, row: u32, col: u32) -> f32 {
    if row >= p.q_len || col >= p.head_dim { return 0.0; }
    return q[(b.example * p.q_rows + row) * p.q_stride + p.q_offset + b.head * p.head_dim + col];
}

fn load_kv(b: Block, offset: u32, row: u32, col: u32) -> f32 {
    if row >= b.keys || col >= p.head_dim { return 0.0; }
    return kv[(b.example * p.k_len + row) * p.kv_stride + offset + b.head * p.head_dim + col];
}

// tile [4, 4] += left . right over the step of depth at d0.
fn multiply(lane: u32, d0: u32, tile: ptr<function, array<f32, 16>>) {
    for (var depth = 0u; depth < min(DEPTH, p.head_dim - d0); depth++) {
        for (var i = 0u; i < 4u; i++) {
            let a = left[depth * PITCH + lane / 8u * 4u + i];
            for (var j = 0u; j < 4u; j++) {
                (*tile)[i * 4u + j] += a * right[depth * PITCH + lane % 8u * 4u + j];
            }
        }
    }
}

// Own 4 x 4 elements of q . kᵀ, unscaled: rows are queries from query0, columns keys from key0; unspecified where
// there is no such query or key.
fn scores(b: Block, query0: u32, key0: u32, lane: u32) -> array<f32, 16> {
    var tile: array<f32, 16>;
    for (var d0 = 0u; d0 < p.head_dim; d0 += DEPTH) {
        // Orders the reads of the last step before the operands are overwritten.
        workgroupBarrier();
        for (var i = lane; i < DEPTH * min(SIDE, p.q_len - query0); i += WG) {
            left[i % DEPTH * PITCH + i / DEPTH] = load_q(b, query0 + i / DEPTH, d0 + i % DEPTH);
        }
        for (var i = lane; i < DEPTH * min(SIDE, p.k_len - key0); i += WG) {
            right[i % DEPTH * PITCH + i / DEPTH] = load_kv(b, p.k_offset, key0 + i / DEPTH, d0 + i % DEPTH);
        }
        // Orders the writes of the operands before their use.
        workgroupBarrier();
        multiply(lane, d0, &tile);
    }
    return tile;
}

// Own 4 rows x 4 columns of one strip of 32 columns: sums += weights . strip over the first `count` summed rows, of
// which own row i takes ends[i].
fn accumulate(lane: u32, index: u32, count: u32, ends: vec4<u32>, sums: ptr<function, array<f32, 16 * STRIPS>>) {
    for (var s = 0u; s < min(SIDE, count); s++) {
        for (var i = 0u; i < 4u; i++) {
            if s < ends[i] {
                let a = weights[s * PITCH + lane / 8u * 4u + i];
                for (var j = 0u; j < 4u; j++) {
                    (*sums)[index * 16u + i * 4u + j] += a * strip[s * SIDE + lane % 8u * 4u + j];
                }
            }
        }
    }
}

// Attention of one head: y = softmax(scale * q . kᵀ) . v over tiles of SIDE queries and SIDE keys; no [q_len, k_len]
// matrix is stored. Shared by the forward and the backward kernels.
//
// Row r of example e: queries q[(e * q_rows + r) * q_stride + q_offset + head * head_dim ..], q_rows = 0 when all
// examples share the queries; keys and values kv[(e * k_len + r) * kv_stride + k_offset (v_offset) + ..].
// WG = 64 invocations form an 8 x 8 grid over a tile, 4 x 4 elements each.

struct Parameters {
    n: u32,
    heads: u32,
    head_dim: u32,
    q_len: u32,
    k_len: u32,
    q_rows: u32,
    q_stride: u32,
    q_offset: u32,
    kv_stride: u32,
    k_offset: u32,
    v_offset: u32,
    causal: u32,
    has_lengths: u32,
    out_stride: u32,
    out_offset: u32, // of dq, or of dk
    out_second: u32, // of dv
    scale: f32,
    first: u32, // Block of the dispatch's first workgroup.
}
var<immediate> p: Parameters;

@group(0) @binding(0) var<storage, read> q: array<f32>;
@group(0) @binding(1) var<storage, read> kv: array<f32>;
@group(0) @binding(2) var<storage, read> lengths: array<u32>;

const SIDE = 32u;
const DEPTH = 16u;
const PITCH = 33u; // One more than SIDE: neighbouring invocations write different banks.

var<workgroup> left: array<f32, DEPTH * PITCH>; // [depth][row]
var<workgroup> right: array<f32, DEPTH * PITCH>; // [depth][col]
var<workgroup> weights: array<f32, SIDE * PITCH>; // [summed row][own row]
var<workgroup> strip: array<f32, SIDE * SIDE>; // [summed row][col]

// What one workgroup works on: rows first .. first + SIDE of one head of one example, of which `keys` keys count.
struct Block {
    example: u32,
    head: u32,
    first: u32,
    keys: u32,
}

fn locate(index: u32, len: u32) -> Block {
    let tiles = (len + SIDE - 1u) / SIDE;
    let pair = index / tiles;
    let example = pair / p.heads;
    var keys = p.k_len;
    if p.has_lengths == 1u && example < p.n { keys = clamp(lengths[example], 1u, p.k_len); }
    return Block(example, pair % p.heads, index % tiles * SIDE, keys);
}

fn visible(b: Block, query: u32, key: u32) -> bool {
    return query < p.q_len && key < b.keys && (p.causal == 0u || key <= query);
}

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

// Attention of one head: y = softmax(scale * q . kᵀ) . v over tiles of SIDE queries and SIDE keys; no [q_len, k_len]
// matrix is stored. What all of its kernels share: sizes, and what one workgroup works on.
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

@group(0) @binding(2) var<storage, read> lengths: array<u32>;

const SIDE = 32u;

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

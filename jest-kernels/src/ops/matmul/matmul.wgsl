// y [z, m, n] = a . b over k, each operand plain or transposed in memory: a [z, m, k] or (TA) [z, k, m];
// b [z, k, n] or (TB) [z, n, k]. Parts in front say how operands are stored and what becomes of a sum.
//
// One workgroup computes a tile of BM x BN, one invocation TM x TN of it, BK of k at a time through workgroup memory.

struct Parameters {
    m: u32,
    n: u32,
    k: u32,
    first: u32, // Depths first .. last of k are summed by this dispatch.
    last: u32,
    layer: u32, // Of z, the first that this dispatch computes.
}
var<immediate> p: Parameters;

const WG = (BM / TM) * (BN / TN);

var<workgroup> tile_a: array<f32, BM * BK>; // [BK][BM]
var<workgroup> tile_b: array<f32, BK * BN>; // [BK][BN]

fn load_a(base: u32, row: u32, depth: u32) -> f32 {
    if row >= p.m || depth >= p.last { return 0.0; }
    return lhs_at(base + select(row * p.k + depth, depth * p.m + row, TA == 1u));
}

fn load_b(base: u32, depth: u32, col: u32) -> f32 {
    if col >= p.n || depth >= p.last { return 0.0; }
    return rhs_at(base + select(depth * p.n + col, col * p.k + depth, TB == 1u));
}

@compute @workgroup_size(WG)
fn product(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let tiles_n = (p.n + BN - 1u) / BN;
    let tile = group.y * groups.x + group.x;
    let row0 = tile / tiles_n * BM;
    let col0 = tile % tiles_n * BN;
    if row0 >= p.m { return; } // Uniform in the workgroup.
    let layer = p.layer + group.z;
    let base_a = layer * p.m * p.k;
    let base_b = layer * p.k * p.n;
    let own_row = lane / (BN / TN) * TM;
    let own_col = lane % (BN / TN) * TN;

    var sums: array<f32, TM * TN>;
    for (var k0 = p.first; k0 < p.last; k0 += BK) {
        // Orders the reads of the last step before the tiles are overwritten.
        workgroupBarrier();
        // Neighbouring invocations read neighbouring words: along k, or along m (n) where that axis is contiguous.
        for (var i = lane; i < BM * BK; i += WG) {
            let row = select(i / BK, i % BM, TA == 1u);
            let depth = select(i % BK, i / BM, TA == 1u);
            tile_a[depth * BM + row] = load_a(base_a, row0 + row, k0 + depth);
        }
        for (var i = lane; i < BN * BK; i += WG) {
            let col = select(i % BN, i / BK, TB == 1u);
            let depth = select(i / BN, i % BK, TB == 1u);
            tile_b[depth * BN + col] = load_b(base_b, k0 + depth, col0 + col);
        }
        // Orders the writes of the tiles before their use.
        workgroupBarrier();
        for (var depth = 0u; depth < BK; depth++) {
            for (var i = 0u; i < TM; i++) {
                let left = tile_a[depth * BM + own_row + i];
                for (var j = 0u; j < TN; j++) {
                    sums[i * TN + j] += left * tile_b[depth * BN + own_col + j];
                }
            }
        }
    }
    for (var i = 0u; i < TM; i++) {
        let row = row0 + own_row + i;
        for (var j = 0u; j < TN; j++) {
            let col = col0 + own_col + j;
            if row < p.m && col < p.n { store((layer * p.m + row) * p.n + col, col, sums[i * TN + j]); }
        }
    }
}

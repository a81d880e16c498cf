// y [z, m, n] = a . b over k without workgroup memory or barriers: a [z, m, k] or (TA) [z, k, m]; b [z, k, n] with n a
// multiple of 4. Parts in front say how operands are stored and what becomes of a sum.
//
// One invocation computes 32 rows of TN columns in registers, four columns a vector; the 8 invocations of a workgroup are
// one subgroup and lie side by side along the columns. Each reads another row of a, and the subgroup hands them round.
// A loop over eight rows is as long as llvmpipe unrolls; in a longer one the sums would lie in memory, at a quarter of
// the speed.

struct Parameters {
    m: u32,
    n: u32,
    k: u32,
    first: u32, // Depths first .. last of k are summed by this dispatch.
    last: u32,
    layer: u32, // Of z, the first that this dispatch computes.
}
var<immediate> p: Parameters;

const OCTET = 8u; // Rows that a subgroup of 8 or more hands round.
const ROWS = 4u * OCTET;
const QUADS = TN / 4u;

fn add_rows(sums: ptr<function, array<vec4<f32>, OCTET * QUADS>>, own: f32, b: array<vec4<f32>, QUADS>) {
    for (var i = 0u; i < OCTET; i++) {
        let a = subgroupShuffle(own, i);
        for (var j = 0u; j < QUADS; j++) { (*sums)[i * QUADS + j] += a * b[j]; }
    }
}

fn store_rows(sums: ptr<function, array<vec4<f32>, OCTET * QUADS>>, layer: u32, row0: u32, quad0: u32) {
    for (var i = 0u; i < OCTET; i++) {
        let row = row0 + i;
        for (var j = 0u; j < QUADS; j++) {
            let col = (quad0 + j) * 4u;
            if row >= p.m || col >= p.n { continue; }
            let at = (layer * p.m + row) * p.n + col;
            for (var c = 0u; c < 4u; c++) { store(at + c, col + c, (*sums)[i * QUADS + j][c]); }
        }
    }
}

@compute @workgroup_size(OCTET)
fn product(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
    @builtin(subgroup_invocation_id) place: u32,
) {
    let layer = p.layer + group.z;
    let tiles_m = (p.m + ROWS - 1u) / ROWS;
    let tile = group.y * groups.x + group.x;
    // Rows first: neighbouring workgroups share their columns of b.
    let row0 = tile % tiles_m * ROWS;
    let quad0 = (tile / tiles_m * OCTET + lane) * QUADS;
    let quads = p.n / 4u;
    let base_b = layer * p.k * quads;

    // Rows and columns beyond the edge read the last ones, and are not stored: every lane is there to hand on its rows.
    var rows: array<u32, 4>;
    let step = select(1u, p.m, TA == 1u);
    for (var i = 0u; i < 4u; i++) {
        let row = min(row0 + i * OCTET + place, p.m - 1u);
        rows[i] = layer * p.m * p.k + select(row * p.k, row, TA == 1u);
    }
    var columns: array<u32, QUADS>;
    for (var j = 0u; j < QUADS; j++) { columns[j] = base_b + min(quad0 + j, quads - 1u); }

    var sums0: array<vec4<f32>, OCTET * QUADS>;
    var sums1: array<vec4<f32>, OCTET * QUADS>;
    var sums2: array<vec4<f32>, OCTET * QUADS>;
    var sums3: array<vec4<f32>, OCTET * QUADS>;
    for (var depth = p.first; depth < p.last; depth++) {
        var b: array<vec4<f32>, QUADS>;
        for (var j = 0u; j < QUADS; j++) { b[j] = rhs_four(columns[j] + depth * quads); }
        add_rows(&sums0, lhs_at(rows[0] + depth * step), b);
        add_rows(&sums1, lhs_at(rows[1] + depth * step), b);
        add_rows(&sums2, lhs_at(rows[2] + depth * step), b);
        add_rows(&sums3, lhs_at(rows[3] + depth * step), b);
    }
    store_rows(&sums0, layer, row0, quad0);
    store_rows(&sums1, layer, row0 + OCTET, quad0);
    store_rows(&sums2, layer, row0 + 2u * OCTET, quad0);
    store_rows(&sums3, layer, row0 + 3u * OCTET, quad0);
}

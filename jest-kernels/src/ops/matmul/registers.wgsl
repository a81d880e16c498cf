// y [z, m, n] = a . b over k without workgroup memory or barriers: a [z, m, k] or (TA) [z, k, m]; b [z, k, n] with n a
// multiple of 4. A store part in front decides what becomes of a sum.
//
// One invocation computes TM rows of TN columns in registers, four columns a vector; the invocations of a workgroup lie
// side by side along the columns, so that all of them read the same element of a.

struct Parameters {
    m: u32,
    n: u32,
    k: u32,
    first: u32, // Depths first .. last of k are summed by this dispatch.
    last: u32,
    layer: u32, // Of z, the first that this dispatch computes.
}
var<immediate> p: Parameters;

@group(0) @binding(0) var<storage, read> lhs: array<f32>;
@group(0) @binding(1) var<storage, read> rhs: array<vec4<f32>>;

const QUADS = TN / 4u;

@compute @workgroup_size(WG)
fn product(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let layer = p.layer + group.z;
    let tiles_m = (p.m + TM - 1u) / TM;
    let tile = group.y * groups.x + group.x;
    // Rows first: neighbouring workgroups share their columns of b.
    let row0 = tile % tiles_m * TM;
    let quad0 = (tile / tiles_m * WG + lane) * QUADS;
    if quad0 * 4u >= p.n { return; }
    let quads = p.n / 4u;
    let base_b = layer * p.k * quads;

    // Rows and columns beyond the edge read the last ones, and are not stored.
    var rows: array<u32, TM>;
    let step = select(1u, p.m, TA == 1u);
    for (var i = 0u; i < TM; i++) {
        let row = min(row0 + i, p.m - 1u);
        rows[i] = layer * p.m * p.k + select(row * p.k, row, TA == 1u);
    }
    var columns: array<u32, QUADS>;
    for (var j = 0u; j < QUADS; j++) { columns[j] = base_b + min(quad0 + j, quads - 1u); }

    var sums: array<vec4<f32>, TM * QUADS>;
    for (var depth = p.first; depth < p.last; depth++) {
        var b: array<vec4<f32>, QUADS>;
        for (var j = 0u; j < QUADS; j++) { b[j] = rhs[columns[j] + depth * quads]; }
        for (var i = 0u; i < TM; i++) {
            let a = lhs[rows[i] + depth * step];
            for (var j = 0u; j < QUADS; j++) { sums[i * QUADS + j] += a * b[j]; }
        }
    }
    for (var i = 0u; i < TM; i++) {
        let row = row0 + i;
        for (var j = 0u; j < QUADS; j++) {
            let col = (quad0 + j) * 4u;
            if row >= p.m || col >= p.n { continue; }
            let at = (layer * p.m + row) * p.n + col;
            for (var lane = 0u; lane < 4u; lane++) { store(at + lane, col + lane, sums[i * QUADS + j][lane]); }
        }
    }
}

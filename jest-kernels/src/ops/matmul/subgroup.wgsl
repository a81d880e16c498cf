// y [z, m, n] = a . b over k without workgroup memory or barriers: a [z, m, k] or (TA) [z, k, m]; b [z, k, n] with n a
// multiple of 4. Parts in front say how operands are stored and what becomes of a sum.
//
// One invocation computes TM rows of four columns. Each lane of a subgroup reads another depth of a, and the subgroup
// passes them round: any size of subgroup that divides WG, sums in the order of depths whatever it is.

struct Parameters {
    m: u32,
    n: u32,
    k: u32,
    first: u32, // Depths first .. last of k are summed by this dispatch.
    last: u32,
    layer: u32, // Of z, the first that this dispatch computes.
}
var<immediate> p: Parameters;

@compute @workgroup_size(WG)
fn product(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
    @builtin(subgroup_size) width: u32,
    @builtin(subgroup_invocation_id) place: u32,
) {
    let layer = p.layer + group.z;
    let quads = p.n / 4u;
    let tiles_n = (quads + WG - 1u) / WG;
    let tile = group.y * groups.x + group.x;
    let row0 = tile / tiles_n * TM;
    if row0 >= p.m { return; } // Uniform in the workgroup: every lane is there to hand on what it read.
    // Columns beyond the edge read the last ones, and are not stored.
    let own = tile % tiles_n * WG + lane;
    let column = layer * p.k * quads + min(own, quads - 1u);
    let step = select(1u, p.m, TA == 1u);

    var sums: array<vec4<f32>, TM>;
    for (var k0 = p.first; k0 < p.last; k0 += width) {
        let depths = min(width, p.last - k0);
        // The lanes beyond the last depth read it once more; nobody asks for theirs.
        let depth = min(k0 + place, p.last - 1u);
        var left: array<f32, TM>;
        for (var i = 0u; i < TM; i++) {
            let row = min(row0 + i, p.m - 1u);
            left[i] = lhs_at(layer * p.m * p.k + select(row * p.k, row, TA == 1u) + depth * step);
        }
        for (var d = 0u; d < depths; d++) {
            let right = rhs_four(column + (k0 + d) * quads);
            for (var i = 0u; i < TM; i++) { sums[i] += subgroupShuffle(left[i], d) * right; }
        }
    }
    if own >= quads { return; }
    for (var i = 0u; i < TM; i++) {
        let row = row0 + i;
        if row >= p.m { break; }
        for (var c = 0u; c < 4u; c++) {
            store((layer * p.m + row) * p.n + own * 4u + c, own * 4u + c, sums[i][c]);
        }
    }
}

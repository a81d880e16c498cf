// norm = sqrt(sum of g * g), in two steps so that the order of summation is fixed.
//
// squares: one workgroup sums BLOCK elements of one tensor into partial[offset + group].
// finish:  one workgroup adds all n partial sums and takes the root.

struct Parameters {
    n: u32,
    offset: u32,
}
var<immediate> p: Parameters;

@group(0) @binding(0) var<storage, read> values: array<f32>;
@group(0) @binding(1) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(WG)
fn squares(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let block = group.y * groups.x + group.x;
    let first = block * BLOCK;
    if first >= p.n { return; } // Uniform in the workgroup.
    var total = 0.0;
    for (var i = first + lane; i < min(first + BLOCK, p.n); i += WG) { total += values[i] * values[i]; }
    let sum = reduce_sum(lane, total);
    if lane == 0u { out[p.offset + block] = sum; }
}

@compute @workgroup_size(WG)
fn finish(@builtin(local_invocation_index) lane: u32) {
    var total = 0.0;
    for (var i = lane; i < p.n; i += WG) { total += values[i]; }
    let sum = reduce_sum(lane, total);
    if lane == 0u { out[p.offset] = sqrt(sum); }
}

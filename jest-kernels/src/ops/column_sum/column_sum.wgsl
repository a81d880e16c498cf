// out[j] += sum over i of x[i, j], in two steps so that the order of summation is fixed.
//
// parts:  one workgroup for 64 columns (z) of one part of the rows: partial [parts, cols].
// finish: one invocation a column adds the parts in order.

struct Parameters {
    rows: u32,
    cols: u32,
    stride: u32,
    offset: u32,
    rows_per_part: u32,
}
var<immediate> p: Parameters;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(WG)
fn parts(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let part = group.y * groups.x + group.x;
    let col = group.z * WG + lane;
    let first = part * p.rows_per_part;
    if first >= p.rows || col >= p.cols { return; }
    var total = 0.0;
    for (var row = first; row < min(first + p.rows_per_part, p.rows); row++) {
        total += x[row * p.stride + p.offset + col];
    }
    out[part * p.cols + col] = total;
}

@compute @workgroup_size(WG)
fn finish(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let col = (group.y * groups.x + group.x) * WG + lane;
    if col >= p.cols { return; }
    var total = out[col];
    for (var row = 0u; row < p.rows; row++) { total += x[row * p.stride + p.offset + col]; }
    out[col] = total;
}

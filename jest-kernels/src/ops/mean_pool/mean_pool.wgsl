// The mean of the first lengths[i] rows of each example i, and back; one invocation an element of what is written.
//
// forward:  x [n * l, cols] -> y [n, cols].
// backward: dy [n, cols] -> dx [n * l, cols], 0 in rows that do not count.

struct Parameters {
    n: u32,
    cols: u32,
    length: u32,
}
var<immediate> p: Parameters;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> lengths: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(WG)
fn forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.y * groups.x + group.x) * WG + lane;
    if i >= p.n { return; }
    let example = i / p.cols;
    let count = lengths[example];
    var total = 0.0;
    var at = example * p.length * p.cols + i % p.cols;
    for (var row = 0u; row < count; row++) {
        total += x[at];
        at += p.cols;
    }
    y[i] = total / f32(count);
}

@compute @workgroup_size(WG)
fn backward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.y * groups.x + group.x) * WG + lane;
    if i >= p.n { return; }
    let row = i / p.cols;
    let example = row / p.length;
    let count = lengths[example];
    var value = 0.0;
    if row % p.length < count { value = x[example * p.cols + i % p.cols] / f32(count); }
    y[i] = value;
}

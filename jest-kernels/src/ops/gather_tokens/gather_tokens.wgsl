// y[i * k + j] = x[i * l + indices[i, j]] over rows of length cols, and back; one invocation an element.
//
// forward:  from [n * l, cols] to [n * k, cols].
// backward: from [n * k, cols] to [n * l, cols]; inverse [n * l] holds the slot of a kept token plus 1, 0 if dropped.

struct Parameters {
    n: u32,
    cols: u32,
    kept: u32,
    length: u32,
}
var<immediate> p: Parameters;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> indices: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(WG)
fn forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.y * groups.x + group.x) * WG + lane;
    if i >= p.n { return; }
    let row = i / p.cols;
    y[i] = x[(row / p.kept * p.length + indices[row]) * p.cols + i % p.cols];
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
    let slot = indices[row];
    var value = 0.0;
    if slot > 0u { value = x[(row / p.length * p.kept + slot - 1u) * p.cols + i % p.cols]; }
    y[i] = value;
}

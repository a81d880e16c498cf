// Sums of arrays, one invocation an element.
//
// forward:       y = a + b.
// accumulate:    out += x.
// forward_rows:  y = x + table, where the table [period] repeats under x [n].
// backward_rows: dtable[j] += sum over i of dy[i * period + j], in the order of i, for elements first to n of dy.

struct Parameters {
    n: u32,
    period: u32,
    first: u32,
}
var<immediate> p: Parameters;

@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read> b: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@group(0) @binding(1) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(WG)
fn forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.y * groups.x + group.x) * WG + lane;
    if i < p.n { y[i] = a[i] + b[i]; }
}

@compute @workgroup_size(WG)
fn accumulate(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.y * groups.x + group.x) * WG + lane;
    if i < p.n { out[i] += a[i]; }
}

@compute @workgroup_size(WG)
fn forward_rows(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.y * groups.x + group.x) * WG + lane;
    if i < p.n { y[i] = a[i] + b[i % p.period]; }
}

@compute @workgroup_size(WG)
fn backward_rows(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let j = (group.y * groups.x + group.x) * WG + lane;
    if j >= p.period { return; }
    var total = out[j];
    for (var i = p.first + j; i < p.n; i += p.period) { total += a[i]; }
    out[j] = total;
}

// delta [n, heads, q_len] = sum over the head's columns of dy * y, both [n * q_len, heads * head_dim]; one invocation
// an element.

struct Parameters {
    n: u32,
    heads: u32,
    head_dim: u32,
    q_len: u32,
}
var<immediate> p: Parameters;

@group(0) @binding(0) var<storage, read> y: array<f32>;
@group(0) @binding(1) var<storage, read> dy: array<f32>;
@group(0) @binding(2) var<storage, read_write> delta: array<f32>;

@compute @workgroup_size(WG)
fn delta_rows(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = (group.y * groups.x + group.x) * WG + lane;
    if index >= p.n * p.q_len * p.heads { return; }
    // Heads vary fastest, so that neighbouring invocations read neighbouring columns.
    let head = index % p.heads;
    let row = index / p.heads;
    var total = 0.0;
    for (var i = index * p.head_dim; i < (index + 1u) * p.head_dim; i++) { total += y[i] * dy[i]; }
    delta[(row / p.q_len * p.heads + head) * p.q_len + row % p.q_len] = total;
}

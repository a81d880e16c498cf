// x *= factor, one invocation an element.

struct Parameters {
    n: u32,
    factor: f32,
}
var<immediate> p: Parameters;

@group(0) @binding(0) var<storage, read_write> x: array<f32>;

@compute @workgroup_size(WG)
fn scale(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.y * groups.x + group.x) * WG + lane;
    if i < p.n { x[i] *= p.factor; }
}

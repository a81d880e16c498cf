// y[goal + i] = x[source + i] for i < len: whole rows from one matrix into another.

struct Parameters {
    source: u32,
    goal: u32,
    len: u32,
}
var<immediate> p: Parameters;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(WG)
fn rows(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.y * groups.x + group.x) * WG + lane;
    if i >= p.len { return; }
    y[p.goal + i] = x[p.source + i];
}

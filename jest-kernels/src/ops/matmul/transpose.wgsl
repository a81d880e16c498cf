// out [n, m] = x [m, n] transposed; one workgroup a block of 16 x 16 elements, read by rows and written by rows.

struct Parameters {
    m: u32,
    n: u32,
    k: u32,
    first: u32,
    last: u32,
    layer: u32,
}
var<immediate> p: Parameters;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> out: array<f32>;

const SIDE = 16u;
const PITCH = 17u; // One more than SIDE: neighbouring invocations read different banks.

var<workgroup> block: array<f32, SIDE * PITCH>;

@compute @workgroup_size(WG)
fn transpose(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let blocks = (p.n + SIDE - 1u) / SIDE;
    let index = group.y * groups.x + group.x;
    let row0 = index / blocks * SIDE;
    let col0 = index % blocks * SIDE;
    if row0 >= p.m { return; } // Uniform in the workgroup.
    for (var i = lane; i < SIDE * SIDE; i += WG) {
        let row = row0 + i / SIDE;
        let col = col0 + i % SIDE;
        if row < p.m && col < p.n { block[i / SIDE * PITCH + i % SIDE] = x[row * p.n + col]; }
    }
    // Orders the writes of the block before its reads.
    workgroupBarrier();
    for (var i = lane; i < SIDE * SIDE; i += WG) {
        let row = row0 + i % SIDE;
        let col = col0 + i / SIDE;
        if row < p.m && col < p.n { out[col * p.m + row] = block[i % SIDE * PITCH + i / SIDE]; }
    }
}

// patches [n * grid * grid, channels * patch * patch] of images [n, channels, side, side], one invocation an element.
// Rows go left to right, then down, then through the images; columns are (channel, y, x), x fastest.

struct Parameters {
    n: u32,
    channels: u32,
    side: u32,
    patch_size: u32,
}
var<immediate> p: Parameters;

@group(0) @binding(0) var<storage, read> images: array<f32>;
@group(0) @binding(1) var<storage, read_write> patches: array<f32>;

@compute @workgroup_size(WG)
fn patchify(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.y * groups.x + group.x) * WG + lane;
    if i >= p.n { return; }
    let grid = p.side / p.patch_size;
    let area = p.patch_size * p.patch_size;
    let row = i / (p.channels * area);
    let col = i % (p.channels * area);
    let channel = (row / (grid * grid)) * p.channels + col / area;
    let y = (row / grid % grid) * p.patch_size + col % area / p.patch_size;
    let x = (row % grid) * p.patch_size + col % p.patch_size;
    patches[i] = images[(channel * p.side + y) * p.side + x];
}

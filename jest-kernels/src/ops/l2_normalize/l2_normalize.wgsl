// z = x / max(|x|, EPS) over rows of x [rows, cols], one workgroup a row.
//
// forward:  saves the norm |x| of each row.
// backward: dx = (dz - z (z . dz)) / |x|; of a row shorter than EPS, dx = dz / EPS.

struct Parameters {
    rows: u32,
    cols: u32,
    eps: f32,
}
var<immediate> p: Parameters;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> z: array<f32>;
@group(0) @binding(2) var<storage, read_write> norms: array<f32>;

@group(0) @binding(0) var<storage, read> z_in: array<f32>;
@group(0) @binding(1) var<storage, read> norms_in: array<f32>;
@group(0) @binding(2) var<storage, read> dz: array<f32>;
@group(0) @binding(3) var<storage, read_write> dx: array<f32>;

@compute @workgroup_size(WG)
fn forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group.y * groups.x + group.x;
    if row >= p.rows { return; } // Uniform in the workgroup: no barrier is left waiting.
    let start = row * p.cols;
    var squares = 0.0;
    for (var j = lane; j < p.cols; j += WG) { squares += x[start + j] * x[start + j]; }
    let norm = sqrt(reduce_sum(lane, squares));
    if lane == 0u { norms[row] = norm; }
    // A NaN compares false and stays.
    let length = select(norm, p.eps, norm < p.eps);
    for (var j = lane; j < p.cols; j += WG) { z[start + j] = x[start + j] / length; }
}

@compute @workgroup_size(WG)
fn backward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group.y * groups.x + group.x;
    if row >= p.rows { return; }
    let start = row * p.cols;
    var products = 0.0;
    for (var j = lane; j < p.cols; j += WG) { products += z_in[start + j] * dz[start + j]; }
    let total = reduce_sum(lane, products);
    let norm = norms_in[row];
    let short = norm < p.eps;
    let along = select(total, 0.0, short);
    let length = select(norm, p.eps, short);
    for (var j = lane; j < p.cols; j += WG) {
        dx[start + j] = (dz[start + j] - z_in[start + j] * along) / length;
    }
}

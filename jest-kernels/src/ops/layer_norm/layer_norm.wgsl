// y = (x - mean) * rstd * gamma + beta over rows of x [rows, cols]; rstd = 1 / sqrt(variance + eps).
//
// forward:        one workgroup a row; saves mean and rstd.
// backward:       one workgroup a row; with xhat = (x - mean) * rstd and g = dy * gamma
//                 dx = rstd * (g - mean(g) - xhat * mean(g * xhat)).
// gradient_parts: one workgroup for 64 columns (z) of one part of the rows; partial [parts, 2 * cols] holds
//                 sum(dy * xhat) and sum(dy) over that part.

struct Parameters {
    rows: u32,
    cols: u32,
    rows_per_part: u32,
    eps: f32,
}
var<immediate> p: Parameters;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> gamma: array<f32>;
@group(0) @binding(2) var<storage, read> beta: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
@group(0) @binding(4) var<storage, read_write> stats_out: array<vec2<f32>>;

@group(0) @binding(2) var<storage, read> dy: array<f32>;
@group(0) @binding(3) var<storage, read> stats: array<vec2<f32>>;
@group(0) @binding(4) var<storage, read_write> dx: array<f32>;

@group(0) @binding(1) var<storage, read> part_dy: array<f32>;
@group(0) @binding(2) var<storage, read> part_stats: array<vec2<f32>>;
@group(0) @binding(3) var<storage, read_write> partial: array<f32>;

@compute @workgroup_size(WG)
fn forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group.y * groups.x + group.x;
    if row >= p.rows { return; } // Uniform in the workgroup: no barrier is left waiting.
    let start = row * p.cols;
    var total = 0.0;
    for (var j = lane; j < p.cols; j += WG) { total += x[start + j]; }
    let mean = reduce_sum(lane, total) / f32(p.cols);
    var squares = 0.0;
    for (var j = lane; j < p.cols; j += WG) {
        let centred = x[start + j] - mean;
        squares += centred * centred;
    }
    let rstd = 1.0 / sqrt(reduce_sum(lane, squares) / f32(p.cols) + p.eps);
    if lane == 0u { stats_out[row] = vec2(mean, rstd); }
    for (var j = lane; j < p.cols; j += WG) {
        y[start + j] = (x[start + j] - mean) * rstd * gamma[j] + beta[j];
    }
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
    let mean = stats[row].x;
    let rstd = stats[row].y;
    var total_g = 0.0;
    var total_gx = 0.0;
    for (var j = lane; j < p.cols; j += WG) {
        let g = dy[start + j] * gamma[j];
        total_g += g;
        total_gx += g * (x[start + j] - mean) * rstd;
    }
    let mean_g = reduce_sum(lane, total_g) / f32(p.cols);
    let mean_gx = reduce_sum(lane, total_gx) / f32(p.cols);
    for (var j = lane; j < p.cols; j += WG) {
        let xhat = (x[start + j] - mean) * rstd;
        dx[start + j] = rstd * (dy[start + j] * gamma[j] - mean_g - xhat * mean_gx);
    }
}

@compute @workgroup_size(WG)
fn gradient_parts(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let part = group.y * groups.x + group.x;
    let col = group.z * WG + lane;
    let first = part * p.rows_per_part;
    if first >= p.rows || col >= p.cols { return; }
    var dgamma = 0.0;
    var dbeta = 0.0;
    for (var row = first; row < min(first + p.rows_per_part, p.rows); row++) {
        let dy_value = part_dy[row * p.cols + col];
        dgamma += dy_value * (x[row * p.cols + col] - part_stats[row].x) * part_stats[row].y;
        dbeta += dy_value;
    }
    partial[part * 2u * p.cols + col] = dgamma;
    partial[part * 2u * p.cols + p.cols + col] = dbeta;
}

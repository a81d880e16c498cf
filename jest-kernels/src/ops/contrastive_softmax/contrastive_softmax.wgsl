// Two-sided softmax over L = t * product, t = exp(log_scale): loss = (1/2n) sum over i of lse(row i) + lse(column i)
// - 2 L[i, i]; G = (p_row + p_col) / 2 - [i = j]. A log-sum-exp is kept as (max, sum): lse = max + ln(sum).
//
// row_sums: one workgroup a row of the stripe product [rows, n]; by_row[row] = (max, sum, L[row, row]).
// col_sums: one invocation a column; merges the stripe into by_col[col] = (max, sum).
// gradient: one workgroup a row; sums[row] = sum of G * L, and product becomes G * t / n.
// finish:   one workgroup adds up all rows in a fixed order.

struct Parameters {
    rows: u32,
    n: u32,
    first: u32, // The stripe's first row.
}
var<immediate> p: Parameters;

@group(0) @binding(0) var<storage, read> product: array<f32>;
@group(0) @binding(0) var<storage, read_write> gradients: array<f32>;
@group(0) @binding(1) var<storage, read> log_scale: array<f32>;
@group(0) @binding(2) var<storage, read_write> by_row_out: array<f32>;
@group(0) @binding(2) var<storage, read_write> by_col_out: array<vec2<f32>>;
@group(0) @binding(2) var<storage, read> by_row: array<f32>;
@group(0) @binding(3) var<storage, read> by_col: array<vec2<f32>>;
@group(0) @binding(4) var<storage, read_write> sums_out: array<f32>;

@group(0) @binding(0) var<storage, read> sums: array<f32>;
@group(0) @binding(1) var<storage, read_write> loss: array<f32>;
@group(0) @binding(4) var<storage, read_write> dlog_scale: array<f32>;

const LOWEST = -3e38;

@compute @workgroup_size(WG)
fn row_sums(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group.y * groups.x + group.x;
    if row >= p.rows { return; } // Uniform in the workgroup: no barrier is left waiting.
    let scale = exp_exact(log_scale[0]);
    var top = LOWEST;
    for (var j = lane; j < p.n; j += WG) { top = max(top, scale * product[row * p.n + j]); }
    let row_max = reduce_max(lane, top);
    var total = 0.0;
    for (var j = lane; j < p.n; j += WG) { total += exp(scale * product[row * p.n + j] - row_max); }
    let row_sum = reduce_sum(lane, total);
    if lane == 0u {
        let at = (p.first + row) * 3u;
        by_row_out[at] = row_max;
        by_row_out[at + 1u] = row_sum;
        by_row_out[at + 2u] = scale * product[row * p.n + p.first + row];
    }
}

@compute @workgroup_size(WG)
fn col_sums(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let col = (group.y * groups.x + group.x) * WG + lane;
    if col >= p.n { return; }
    let scale = exp_exact(log_scale[0]);
    // The first stripe finds nothing to merge with, and the buffer unwritten.
    var before = vec2(LOWEST, 0.0);
    if p.first > 0u { before = by_col_out[col]; }
    var top = before.x;
    for (var row = 0u; row < p.rows; row++) { top = max(top, scale * product[row * p.n + col]); }
    var total = before.y * exp(before.x - top);
    for (var row = 0u; row < p.rows; row++) { total += exp(scale * product[row * p.n + col] - top); }
    by_col_out[col] = vec2(top, total);
}

@compute @workgroup_size(WG)
fn gradient(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group.y * groups.x + group.x;
    if row >= p.rows { return; }
    let scale = exp_exact(log_scale[0]);
    let weight = scale / f32(p.n);
    let row_max = by_row[(p.first + row) * 3u];
    let row_sum = by_row[(p.first + row) * 3u + 1u];
    var total = 0.0;
    for (var j = lane; j < p.n; j += WG) {
        let logit = scale * gradients[row * p.n + j];
        let col = by_col[j];
        let both = 0.5 * (exp(logit - row_max) / row_sum + exp(logit - col.x) / col.y);
        let g = both - select(0.0, 1.0, j == p.first + row);
        total += g * logit;
        gradients[row * p.n + j] = weight * g;
    }
    let row_total = reduce_sum(lane, total);
    if lane == 0u { sums_out[p.first + row] = row_total; }
}

@compute @workgroup_size(WG)
fn finish(@builtin(local_invocation_index) lane: u32) {
    var total_loss = 0.0;
    var total = 0.0;
    for (var row = lane; row < p.n; row += WG) {
        let own = by_row[row * 3u + 2u];
        // The distance to the maximum first: where a pair's own logit is the largest it is exactly 0.
        total_loss += (by_row[row * 3u] - own) + log(by_row[row * 3u + 1u]);
        total_loss += (by_col[row].x - own) + log(by_col[row].y);
        total += sums[row];
    }
    let all_losses = reduce_sum(lane, total_loss);
    let all = reduce_sum(lane, total);
    if lane == 0u {
        loss[0] = all_losses / (2.0 * f32(p.n));
        dlog_scale[0] += all / f32(p.n);
    }
}

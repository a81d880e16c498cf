// Distillation over L = t * product, t = exp(log_scale), of a student and a teacher with softmaxes q and p over rows and
// over columns: loss = -(weight / 2n) sum of p_row log q_row + p_col log q_col; G = ((q_row - p_row) + (q_col - p_col)) / 2.
// A log-sum-exp is (max, sum): lse = max + ln(sum). The student's n of them come first, then the teacher's.
//
// gradient: one workgroup a row of the stripe; sums[row] = sums of -(p_row log q_row + p_col log q_col) and of G * L;
//           the student's product becomes weight * G * t / n.
// finish:   one workgroup adds up all rows in a fixed order.

struct Parameters {
    rows: u32,
    n: u32,
    first: u32, // The stripe's first row.
    weight: f32,
}
var<immediate> p: Parameters;

@group(0) @binding(0) var<storage, read_write> gradients: array<f32>;
@group(0) @binding(1) var<storage, read> teacher: array<f32>;
@group(0) @binding(2) var<storage, read> log_scales: array<f32>; // [2]: student, teacher.
@group(0) @binding(3) var<storage, read> by_row: array<f32>; // [2 * n, 3]: max, sum, own logit.
@group(0) @binding(4) var<storage, read> by_col: array<vec2<f32>>; // [2 * n]
@group(0) @binding(5) var<storage, read_write> sums_out: array<vec2<f32>>; // [n]

@group(0) @binding(0) var<storage, read> sums: array<vec2<f32>>;
@group(0) @binding(1) var<storage, read_write> loss: array<f32>;
@group(0) @binding(2) var<storage, read_write> dlog_scale: array<f32>;

@compute @workgroup_size(WG)
fn gradient(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group.y * groups.x + group.x;
    if row >= p.rows { return; } // Uniform in the workgroup: no barrier is left waiting.
    let scale = exp_exact(log_scales[0]);
    let teacher_scale = exp_exact(log_scales[1]);
    let factor = p.weight * scale / f32(p.n);
    let own = (p.first + row) * 3u;
    let theirs = own + p.n * 3u;
    let row_max = by_row[own];
    let row_log = log(by_row[own + 1u]);
    var losses = 0.0;
    var total = 0.0;
    for (var j = lane; j < p.n; j += WG) {
        let at = row * p.n + j;
        let logit = scale * gradients[at];
        let other = teacher_scale * teacher[at];
        let q = by_col[j];
        let t = by_col[p.n + j];
        let p_row = exp(other - by_row[theirs]) / by_row[theirs + 1u];
        let p_col = exp(other - t.x) / t.y;
        let q_row = exp(logit - row_max) / by_row[own + 1u];
        let q_col = exp(logit - q.x) / q.y;
        // The distance to the maximum first: where a logit is the largest it is exactly 0.
        losses += p_row * ((row_max - logit) + row_log) + p_col * ((q.x - logit) + log(q.y));
        let g = 0.5 * ((q_row - p_row) + (q_col - p_col));
        total += g * logit;
        gradients[at] = factor * g;
    }
    let row_losses = reduce_sum(lane, losses);
    let row_total = reduce_sum(lane, total);
    if lane == 0u { sums_out[p.first + row] = vec2(row_losses, row_total); }
}

@compute @workgroup_size(WG)
fn finish(@builtin(local_invocation_index) lane: u32) {
    var total_loss = 0.0;
    var total = 0.0;
    for (var row = lane; row < p.n; row += WG) {
        total_loss += sums[row].x;
        total += sums[row].y;
    }
    let all_losses = reduce_sum(lane, total_loss);
    let all = reduce_sum(lane, total);
    if lane == 0u {
        loss[0] = p.weight * all_losses / (2.0 * f32(p.n));
        dlog_scale[0] += p.weight * all / f32(p.n);
    }
}

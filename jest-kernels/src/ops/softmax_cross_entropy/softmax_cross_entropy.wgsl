// loss = (1/n) sum over rows of ln(sum exp(x)) - x[label]; dx = (softmax(x) - [j = label]) / n.
//
// losses:   one workgroup a row of logits [rows, cols]; by_row[row] = the row's loss.
// gradient: the same, and dlogits.
// finish:   one workgroup adds up all rows in a fixed order.

struct Parameters {
    rows: u32,
    cols: u32,
    n: u32, // Rows of all dispatches.
}
var<immediate> p: Parameters;

@group(0) @binding(0) var<storage, read> logits: array<f32>;
@group(0) @binding(1) var<storage, read> labels: array<u32>;
@group(0) @binding(2) var<storage, read_write> by_row_out: array<f32>;
@group(0) @binding(3) var<storage, read_write> dlogits: array<f32>;

@group(0) @binding(0) var<storage, read> by_row: array<f32>;
@group(0) @binding(1) var<storage, read_write> loss: array<f32>;

// (max, sum) of the row at `start`: the sum of its exponentials is sum * exp(max). One pass over memory.
fn row_sum(lane: u32, start: u32) -> vec2<f32> {
    var top = -3e38;
    var total = 0.0;
    for (var j = lane; j < p.cols; j += WG) {
        let x = logits[start + j];
        let above = max(top, x);
        total = total * exp(top - above) + exp(x - above);
        top = above;
    }
    let row_max = reduce_max(lane, top);
    return vec2(row_max, reduce_sum(lane, total * exp(top - row_max)));
}

fn row_loss(row: u32, side: vec2<f32>) -> f32 {
    // The distance to the maximum first: where the label's logit is the largest it is exactly 0.
    return (side.x - logits[row * p.cols + labels[row]]) + log(side.y);
}

@compute @workgroup_size(WG)
fn losses(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group.y * groups.x + group.x;
    if row >= p.rows { return; } // Uniform in the workgroup: no barrier is left waiting.
    let side = row_sum(lane, row * p.cols);
    if lane == 0u { by_row_out[row] = row_loss(row, side); }
}

@compute @workgroup_size(WG)
fn gradient(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group.y * groups.x + group.x;
    if row >= p.rows { return; }
    let start = row * p.cols;
    let side = row_sum(lane, start);
    if lane == 0u { by_row_out[row] = row_loss(row, side); }
    for (var j = lane; j < p.cols; j += WG) {
        let own = select(0.0, 1.0, j == labels[row]);
        dlogits[start + j] = (exp(logits[start + j] - side.x) / side.y - own) / f32(p.n);
    }
}

@compute @workgroup_size(WG)
fn finish(@builtin(local_invocation_index) lane: u32) {
    var total = 0.0;
    for (var row = lane; row < p.n; row += WG) { total += by_row[row]; }
    let all = reduce_sum(lane, total);
    if lane == 0u { loss[0] = all / f32(p.n); }
}

// loss = (1/n) sum over i, j of softplus(-z L), L = t * product[i, j] + bias, t = exp(log_scale), z = 1 where i = j,
// else -1; G = sigmoid(L) - [i = j].
//
// losses:   one workgroup a row of the stripe product [rows, n]; sums[row] = (loss, 0, 0).
// gradient: the same; sums[row] = (loss, G, G * product) over the row, and product becomes G * t / n.
// finish:   one workgroup adds up sums [n, 3] in a fixed order.

struct Parameters {
    rows: u32,
    n: u32,
    first: u32, // The stripe's first row.
}
var<immediate> p: Parameters;

@group(0) @binding(0) var<storage, read> product: array<f32>;
@group(0) @binding(0) var<storage, read_write> gradients: array<f32>;
@group(0) @binding(1) var<storage, read> log_scale: array<f32>;
@group(0) @binding(2) var<storage, read> bias: array<f32>;
@group(0) @binding(3) var<storage, read_write> sums_out: array<f32>;

@group(0) @binding(0) var<storage, read> sums: array<f32>;
@group(0) @binding(2) var<storage, read_write> loss: array<f32>;
@group(0) @binding(3) var<storage, read_write> dlog_scale: array<f32>;
@group(0) @binding(4) var<storage, read_write> dbias: array<f32>;

@compute @workgroup_size(WG)
fn losses(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group.y * groups.x + group.x;
    if row >= p.rows { return; } // Uniform in the workgroup: no barrier is left waiting.
    let scale = exp_exact(log_scale[0]);
    var total = 0.0;
    for (var j = lane; j < p.n; j += WG) {
        let logit = scale * product[row * p.n + j] + bias[0];
        total += softplus(select(logit, -logit, j == p.first + row));
    }
    let row_loss = reduce_sum(lane, total);
    if lane < 3u { sums_out[(p.first + row) * 3u + lane] = select(0.0, row_loss, lane == 0u); }
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
    var total = vec3(0.0);
    for (var j = lane; j < p.n; j += WG) {
        let value = gradients[row * p.n + j];
        let logit = scale * value + bias[0];
        // On the diagonal softplus(-L) and sigmoid(L) - 1 = -sigmoid(-L), without cancellation.
        let side = select(1.0, -1.0, j == p.first + row);
        let g = side * sigmoid(side * logit);
        total += vec3(softplus(side * logit), g, g * value);
        gradients[row * p.n + j] = weight * g;
    }
    let row_loss = reduce_sum(lane, total.x);
    let row_g = reduce_sum(lane, total.y);
    let row_g_product = reduce_sum(lane, total.z);
    if lane == 0u {
        let at = (p.first + row) * 3u;
        sums_out[at] = row_loss;
        sums_out[at + 1u] = row_g;
        sums_out[at + 2u] = row_g_product;
    }
}

@compute @workgroup_size(WG)
fn finish(@builtin(local_invocation_index) lane: u32) {
    var total = vec3(0.0);
    for (var row = lane; row < p.n; row += WG) {
        total += vec3(sums[row * 3u], sums[row * 3u + 1u], sums[row * 3u + 2u]);
    }
    let all_loss = reduce_sum(lane, total.x);
    let all_g = reduce_sum(lane, total.y);
    let all_g_product = reduce_sum(lane, total.z);
    if lane == 0u {
        loss[0] = all_loss / f32(p.n);
        dlog_scale[0] += exp_exact(log_scale[0]) * all_g_product / f32(p.n);
        dbias[0] += all_g / f32(p.n);
    }
}

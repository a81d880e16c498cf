// Conditional scores of joint selection; L_xk = exp(log_scale) * image_x . text_k + bias. No B x chunk matrix is stored.
//
// diagonal: one workgroup a candidate; conditional += weight * softplus(-L_xx).
// partial:  one workgroup a tile of ROWS open candidates; a layer z is one direction (even: image_x with text_k, odd: text_x
//           with image_k) and one part of the chunk; sums[z, x] = sum of softplus over that part. Each invocation has
//           TM x TN products of a tile of ROWS x COLS, and adds up its own columns of all tiles in order.
// finish:   one invocation an open candidate; conditional += weight * sum over layers of sums[z, x], in order.

struct Parameters {
    rows: u32, // Candidates, all of them or the open ones.
    d: u32,
    chunk: u32,
    part: u32, // Members of the chunk in a layer: a multiple of COLS.
    layers: u32,
    weight: f32,
    first: u32, // Layer of the dispatch's first workgroups.
}
var<immediate> p: Parameters;

@group(0) @binding(0) var<storage, read> image: array<f32>;
@group(0) @binding(1) var<storage, read> text: array<f32>;
@group(0) @binding(2) var<storage, read> log_scale: array<f32>;
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read_write> sums_out: array<f32>;
@group(0) @binding(5) var<storage, read> members: array<u32>;
@group(0) @binding(6) var<storage, read> open: array<u32>;

@group(0) @binding(4) var<storage, read_write> conditional_diagonal: array<f32>;

@group(0) @binding(0) var<storage, read> sums: array<f32>;
@group(0) @binding(1) var<storage, read_write> conditional: array<f32>;
@group(0) @binding(2) var<storage, read> open_places: array<u32>;

const BK = 16u; // Depth of a step.
const TM = 4u;
const TN = 4u;
const ACROSS = COLS / TN; // Invocations along a row of the tile; WG = ACROSS * ROWS / TM.

var<workgroup> tile_x: array<f32, ROWS * BK>; // [BK][ROWS]
var<workgroup> tile_k: array<f32, COLS * BK>; // [BK][COLS]
var<workgroup> row_sums: array<f32, ROWS * ACROSS>;

fn load_x(swapped: bool, x: u32, depth: u32) -> f32 {
    if x >= p.rows || depth >= p.d { return 0.0; }
    let at = open[x] * p.d + depth;
    if swapped { return text[at]; }
    return image[at];
}

fn load_k(swapped: bool, k: u32, depth: u32) -> f32 {
    if k >= p.chunk || depth >= p.d { return 0.0; }
    let at = members[k] * p.d + depth;
    if swapped { return image[at]; }
    return text[at];
}

@compute @workgroup_size(WG)
fn partial(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let x0 = (group.y * groups.x + group.x) * ROWS;
    if x0 >= p.rows { return; } // Uniform in the workgroup: no barrier is left waiting.
    let layer = p.first + group.z;
    let swapped = layer % 2u == 1u;
    let first = layer / 2u * p.part;
    let end = min(first + p.part, p.chunk);
    let scale = exp_exact(log_scale[0]);
    let own_x = lane / ACROSS * TM;
    let own_k = lane % ACROSS * TN;
    var totals: array<f32, TM>;
    for (var k0 = first; k0 < end; k0 += COLS) {
        var products: array<f32, TM * TN>;
        for (var depth0 = 0u; depth0 < p.d; depth0 += BK) {
            // Orders the reads of the last step before the tiles are overwritten.
            workgroupBarrier();
            for (var i = lane; i < ROWS * BK; i += WG) {
                tile_x[i % BK * ROWS + i / BK] = load_x(swapped, x0 + i / BK, depth0 + i % BK);
            }
            for (var i = lane; i < COLS * BK; i += WG) {
                tile_k[i % BK * COLS + i / BK] = load_k(swapped, k0 + i / BK, depth0 + i % BK);
            }
            // Orders the writes of the tiles before their use.
            workgroupBarrier();
            for (var depth = 0u; depth < BK; depth++) {
                for (var i = 0u; i < TM; i++) {
                    let left = tile_x[depth * ROWS + own_x + i];
                    for (var j = 0u; j < TN; j++) {
                        products[i * TN + j] += left * tile_k[depth * COLS + own_k + j];
                    }
                }
            }
        }
        for (var i = 0u; i < TM; i++) {
            for (var j = 0u; j < TN; j++) {
                let loss = softplus(scale * products[i * TN + j] + bias[0]);
                // The last tile may reach over the end of the part.
                totals[i] += select(0.0, loss, k0 + own_k + j < end);
            }
        }
    }
    for (var i = 0u; i < TM; i++) { row_sums[(own_x + i) * ACROSS + lane % ACROSS] = totals[i]; }
    // Orders the writes of all columns before one invocation adds up a row.
    workgroupBarrier();
    if lane < ROWS && x0 + lane < p.rows {
        var total = 0.0;
        for (var i = 0u; i < ACROSS; i++) { total += row_sums[lane * ACROSS + i]; }
        sums_out[layer * p.rows + x0 + lane] = total;
    }
}

@compute @workgroup_size(WG)
fn finish(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let x = (group.y * groups.x + group.x) * WG + lane;
    if x >= p.rows { return; }
    var total = 0.0;
    for (var layer = 0u; layer < p.layers; layer++) { total += sums[layer * p.rows + x]; }
    conditional[open_places[x]] += p.weight * total;
}

@compute @workgroup_size(WG)
fn diagonal(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let x = group.y * groups.x + group.x;
    if x >= p.rows { return; }
    var total = 0.0;
    for (var k = lane; k < p.d; k += WG) { total += image[x * p.d + k] * text[x * p.d + k]; }
    let dot = reduce_sum(lane, total);
    if lane == 0u {
        let logit = exp_exact(log_scale[0]) * dot + bias[0];
        conditional_diagonal[x] += p.weight * softplus(-logit);
    }
}

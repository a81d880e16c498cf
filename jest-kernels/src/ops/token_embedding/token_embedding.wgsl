// y[r] = table[ids[r]] + posemb[r mod l] over rows r of length cols, and the gradient by the table as a sum over the
// positions that hold an id, in ascending order. These positions are cut into pieces, so that an id that fills half
// of all positions (padding) is summed by many workgroups.
//
// forward: one invocation an element.
// pieces:  one workgroup for 64 columns (z) of one piece (first, end, target): adds dy over order[first..end] to row
//          `target` of dtable when that is below vocab, else writes it to row `target - vocab` of partial.
// finish:  one workgroup for 64 columns (z) of one (first, end, id): dtable[id] += partial[first..end], in order.

struct Parameters {
    rows: u32,
    cols: u32,
    length: u32,
    vocab: u32,
}
var<immediate> p: Parameters;

@group(0) @binding(0) var<storage, read> ids: array<u32>;
@group(0) @binding(1) var<storage, read> table: array<f32>;
@group(0) @binding(2) var<storage, read> posemb: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

@group(0) @binding(0) var<storage, read> pieces_in: array<u32>;
@group(0) @binding(1) var<storage, read> order: array<u32>;
@group(0) @binding(2) var<storage, read> dy: array<f32>;
@group(0) @binding(3) var<storage, read_write> dtable: array<f32>;
@group(0) @binding(4) var<storage, read_write> partial: array<f32>;

@group(0) @binding(1) var<storage, read> partial_in: array<f32>;
@group(0) @binding(2) var<storage, read_write> dtable_out: array<f32>;

@compute @workgroup_size(WG)
fn forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.y * groups.x + group.x) * WG + lane;
    if i >= p.rows * p.cols { return; }
    let row = i / p.cols;
    let col = i % p.cols;
    y[i] = table[ids[row] * p.cols + col] + posemb[row % p.length * p.cols + col];
}

@compute @workgroup_size(WG)
fn pieces(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let piece = group.y * groups.x + group.x;
    let col = group.z * WG + lane;
    if piece >= p.rows || col >= p.cols { return; }
    let end = pieces_in[piece * 3u + 1u];
    let target_row = pieces_in[piece * 3u + 2u];
    let direct = target_row < p.vocab;
    var total = 0.0;
    if direct { total = dtable[target_row * p.cols + col]; }
    for (var k = pieces_in[piece * 3u]; k < end; k++) { total += dy[order[k] * p.cols + col]; }
    if direct {
        dtable[target_row * p.cols + col] = total;
    } else {
        partial[(target_row - p.vocab) * p.cols + col] = total;
    }
}

@compute @workgroup_size(WG)
fn finish(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let split = group.y * groups.x + group.x;
    let col = group.z * WG + lane;
    if split >= p.rows || col >= p.cols { return; }
    let end = pieces_in[split * 3u + 1u];
    let id = pieces_in[split * 3u + 2u];
    var total = dtable_out[id * p.cols + col];
    for (var k = pieces_in[split * 3u]; k < end; k++) { total += partial_in[k * p.cols + col]; }
    dtable_out[id * p.cols + col] = total;
}

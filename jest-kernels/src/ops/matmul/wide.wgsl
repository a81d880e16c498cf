// y [z, m, n] = a . b over k, each operand plain or transposed in memory as in matmul.wgsl, its contiguous axis a multiple
// of 4. Parts in front say how operands are stored and what becomes of a sum.
//
// One workgroup computes SIDE x SIDE, one invocation 8 x 8 of it, 16 rows and 16 columns apart: neighbours read
// neighbouring words. Tiles are double: the next BK of k arrive while these are summed, so that one barrier a step does.

struct Parameters {
    m: u32,
    n: u32,
    k: u32,
    first: u32, // Depths first .. last of k are summed by this dispatch.
    last: u32,
    layer: u32, // Of z, the first that this dispatch computes.
}
var<immediate> p: Parameters;

const WG = 256u;
const SIDE = 128u;
const BK = 8u;
const TILE = SIDE * BK;
const STEP = 16u; // Between the rows, and between the columns, of an invocation.
const OWN = SIDE / STEP;

var<workgroup> tile_a: array<f32, 2 * TILE>; // [2][BK][SIDE]
var<workgroup> tile_b: array<f32, 2 * TILE>;

// Where an invocation's four elements of a tile lie: (place along SIDE, place along BK). They go on along SIDE where the
// side is contiguous in memory, along k elsewhere, and are all inside of the matrix or all outside.
fn own(lane: u32, side_contiguous: bool) -> vec2<u32> {
    return select(vec2(lane / 2u, lane % 2u * 4u), vec2(lane % 32u * 4u, lane / 32u), side_contiguous);
}

fn load_a(base: u32, at: vec2<u32>) -> vec4<f32> {
    if at.x >= p.m || at.y >= p.last { return vec4(0.0); }
    return lhs_four((base + select(at.x * p.k + at.y, at.y * p.m + at.x, TA == 1u)) / 4u);
}

fn load_b(base: u32, at: vec2<u32>) -> vec4<f32> {
    if at.x >= p.n || at.y >= p.last { return vec4(0.0); }
    return rhs_four((base + select(at.y * p.n + at.x, at.x * p.k + at.y, TB == 1u)) / 4u);
}

fn store_a(buffer: u32, at: vec2<u32>, four: vec4<f32>) {
    let first = buffer * TILE + at.y * SIDE + at.x;
    let stride = select(SIDE, 1u, TA == 1u);
    tile_a[first] = four.x;
    tile_a[first + stride] = four.y;
    tile_a[first + 2u * stride] = four.z;
    tile_a[first + 3u * stride] = four.w;
}

fn store_b(buffer: u32, at: vec2<u32>, four: vec4<f32>) {
    let first = buffer * TILE + at.y * SIDE + at.x;
    let stride = select(1u, SIDE, TB == 1u);
    tile_b[first] = four.x;
    tile_b[first + stride] = four.y;
    tile_b[first + 2u * stride] = four.z;
    tile_b[first + 3u * stride] = four.w;
}

@compute @workgroup_size(WG)
fn product(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let tiles_n = (p.n + SIDE - 1u) / SIDE;
    let tile = group.y * groups.x + group.x;
    let row0 = tile / tiles_n * SIDE;
    let col0 = tile % tiles_n * SIDE;
    if row0 >= p.m { return; } // Uniform in the workgroup.
    let layer = p.layer + group.z;
    let base_a = layer * p.m * p.k;
    let base_b = layer * p.k * p.n;
    let at_a = own(lane, TA == 1u);
    let at_b = own(lane, TB == 0u);
    let own_row = lane / STEP;
    let own_col = lane % STEP;

    var sums: array<f32, OWN * OWN>;
    store_a(0u, at_a, load_a(base_a, at_a + vec2(row0, p.first)));
    store_b(0u, at_b, load_b(base_b, at_b + vec2(col0, p.first)));
    var buffer = 0u;
    for (var k0 = p.first; k0 < p.last; k0 += BK) {
        // Orders the writes of this buffer before its reads, and the reads of the other before its next writes.
        workgroupBarrier();
        let next_a = load_a(base_a, at_a + vec2(row0, k0 + BK));
        let next_b = load_b(base_b, at_b + vec2(col0, k0 + BK));
        for (var depth = 0u; depth < BK; depth++) {
            let at = buffer * TILE + depth * SIDE;
            var right: array<f32, OWN>;
            for (var j = 0u; j < OWN; j++) { right[j] = tile_b[at + own_col + j * STEP]; }
            for (var i = 0u; i < OWN; i++) {
                let left = tile_a[at + own_row + i * STEP];
                for (var j = 0u; j < OWN; j++) { sums[i * OWN + j] += left * right[j]; }
            }
        }
        buffer = 1u - buffer;
        store_a(buffer, at_a, next_a);
        store_b(buffer, at_b, next_b);
    }
    for (var i = 0u; i < OWN; i++) {
        let row = row0 + own_row + i * STEP;
        for (var j = 0u; j < OWN; j++) {
            let col = col0 + own_col + j * STEP;
            if row < p.m && col < p.n { store((layer * p.m + row) * p.n + col, col, sums[i * OWN + j]); }
        }
    }
}

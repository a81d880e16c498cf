// y [z, m, n] = a . b over k by matrix units: operands in f16, each plain or transposed in memory as in matmul.wgsl, its
// contiguous axis a multiple of 4 * TOGETHER; products and sums in f32. Parts in front say what becomes of a sum, and how a
// subgroup of 32 multiplies 16 x 16 by 16 x 16.
//
// One workgroup of four subgroups computes SIDE x SIDE, each subgroup OWN x OWN blocks of it. Tiles keep the order that
// their operand has in memory; elements beyond an edge are zero. The next BK of k arrive while these are multiplied; with
// two BUFFERS of tiles one barrier a step does.

struct Parameters {
    m: u32,
    n: u32,
    k: u32,
    first: u32, // Depths first .. last of k are summed by this dispatch.
    last: u32,
    layer: u32, // Of z, the first that this dispatch computes.
}
var<immediate> p: Parameters;

@group(0) @binding(0) var<storage, read> lhs: array<vec4<f16>>;
@group(0) @binding(1) var<storage, read> rhs: array<vec4<f16>>;

const WG = 128u;
const BLOCK = 16u; // Side of what a unit multiplies.
const SIDE = 2u * OWN * BLOCK;
const FOURS = SIDE * BK / 4u / WG; // Elements that an invocation brings of each tile, in fours.
const WIDE = 4u * TOGETHER;
// Pitches of a tile in fours, a little more than its width, so that its rows begin in different banks.
const ALONG_DEPTH = BK / 4u + 2u; // [SIDE][BK]
const ALONG_SIDE = SIDE / 4u + 2u; // [BK][SIDE]
const TILE = SIDE * ALONG_DEPTH;
const AREA = 4u * BLOCK * BLOCK; // One block of sums a subgroup.

var<workgroup> tile_a: array<vec4<f16>, BUFFERS * TILE>;
var<workgroup> tile_b: array<vec4<f16>, BUFFERS * TILE>;
var<workgroup> scratch: array<f32, BUFFERS * AREA>;

// Where the first of TOGETHER fours of an invocation lies in a tile: (place along SIDE, place along BK); they go on along
// the contiguous axis.
fn place(together: u32, side_contiguous: bool) -> vec2<u32> {
    return select(
        vec2(together / (BK / WIDE), together % (BK / WIDE) * WIDE),
        vec2(together % (SIDE / WIDE) * WIDE, together / (SIDE / WIDE)),
        side_contiguous,
    );
}

// The same as an index of a tile.
fn index(at: vec2<u32>, side_contiguous: bool) -> u32 {
    return select(at.x * ALONG_DEPTH + at.y / 4u, at.y * ALONG_SIDE + at.x / 4u, side_contiguous);
}

// The four of number `i` from a place on, where TOGETHER of them are all inside of the matrix or all outside; so written
// that a compiler sees that they can be read at once.
fn load_a(base: u32, at: vec2<u32>, i: u32) -> vec4<f16> {
    if at.x >= p.m || at.y >= p.last { return vec4<f16>(); }
    return lhs[(base + select(at.x * p.k + at.y, at.y * p.m + at.x, TA == 1u)) / WIDE * TOGETHER + i];
}

fn load_b(base: u32, at: vec2<u32>, i: u32) -> vec4<f16> {
    if at.x >= p.n || at.y >= p.last { return vec4<f16>(); }
    return rhs[(base + select(at.y * p.n + at.x, at.x * p.k + at.y, TB == 1u)) / WIDE * TOGETHER + i];
}

fn block_a(at: u32) -> Left {
    if TA == 1u { return load_left_columns(at, ALONG_SIDE); }
    return load_left(at, ALONG_DEPTH);
}

fn block_b(at: u32) -> Right {
    if TB == 1u { return load_right_columns(at, ALONG_DEPTH); }
    return load_right(at, ALONG_SIDE);
}

// One block of sums of each subgroup, from scratch to where it belongs in the tile that begins at `origin`.
fn store_blocks(block: u32, lane: u32, layer: u32, origin: vec2<u32>, area: u32) {
    let source = lane / 32u;
    let row = origin.x + source / 2u * OWN * BLOCK + block / OWN * BLOCK;
    let col = origin.y + source % 2u * OWN * BLOCK + block % OWN * BLOCK + lane % BLOCK;
    for (var i = lane % 32u / BLOCK; i < BLOCK; i += 2u) {
        if row + i < p.m && col < p.n {
            let sum = scratch[area + source * BLOCK * BLOCK + i * BLOCK + lane % BLOCK];
            store((layer * p.m + row + i) * p.n + col, col, sum);
        }
    }
}

// Every invocation of the workgroup must call it; `unit` is its subgroup's number.
fn work(group: vec3<u32>, groups: vec3<u32>, lane: u32, unit: u32) {
    let tiles_n = (p.n + SIDE - 1u) / SIDE;
    let tile = group.y * groups.x + group.x;
    let row0 = tile / tiles_n * SIDE;
    let col0 = tile % tiles_n * SIDE;
    if row0 >= p.m { return; } // Uniform in the workgroup.
    let layer = p.layer + group.z;
    let base_a = layer * p.m * p.k;
    let base_b = layer * p.k * p.n;
    let unit_row = unit / 2u * OWN * BLOCK;
    let unit_col = unit % 2u * OWN * BLOCK;

    var sums: array<Sums, OWN * OWN>;
    var next_a: array<vec4<f16>, FOURS>;
    var next_b: array<vec4<f16>, FOURS>;
    for (var i = 0u; i < FOURS; i++) {
        let together = i / TOGETHER * WG + lane;
        next_a[i] = load_a(base_a, place(together, TA == 1u) + vec2(row0, p.first), i % TOGETHER);
        next_b[i] = load_b(base_b, place(together, TB == 0u) + vec2(col0, p.first), i % TOGETHER);
    }
    var buffer = 0u;
    for (var k0 = p.first; k0 < p.last; k0 += BK) {
        // Orders the reads of the last step before the tiles are overwritten. With two, the barrier between has.
        if BUFFERS == 1u { workgroupBarrier(); }
        for (var i = 0u; i < FOURS; i++) {
            let together = i / TOGETHER * WG + lane;
            tile_a[buffer + index(place(together, TA == 1u), TA == 1u) + i % TOGETHER] = next_a[i];
            tile_b[buffer + index(place(together, TB == 0u), TB == 0u) + i % TOGETHER] = next_b[i];
        }
        // Orders the writes of the tiles before their use.
        workgroupBarrier();
        for (var i = 0u; i < FOURS; i++) {
            let together = i / TOGETHER * WG + lane;
            next_a[i] = load_a(base_a, place(together, TA == 1u) + vec2(row0, k0 + BK), i % TOGETHER);
            next_b[i] = load_b(base_b, place(together, TB == 0u) + vec2(col0, k0 + BK), i % TOGETHER);
        }
        for (var depth = 0u; depth < BK; depth += BLOCK) {
            var left: array<Left, OWN>;
            for (var i = 0u; i < OWN; i++) {
                left[i] = block_a(buffer + index(vec2(unit_row + i * BLOCK, depth), TA == 1u));
            }
            for (var j = 0u; j < OWN; j++) {
                let right = block_b(buffer + index(vec2(unit_col + j * BLOCK, depth), TB == 0u));
                for (var i = 0u; i < OWN; i++) { sums[i * OWN + j] = multiply_add(left[i], right, sums[i * OWN + j]); }
            }
        }
        if BUFFERS == 2u { buffer = TILE - buffer; }
    }
    for (var block = 0u; block < OWN * OWN; block++) {
        let area = block % BUFFERS * AREA;
        store_sums(sums[block], area + unit * BLOCK * BLOCK, BLOCK);
        // Orders the writes of the blocks before their reads, and of two areas the reads of one before its next writes.
        workgroupBarrier();
        store_blocks(block, lane, layer, vec2(row0, col0), area);
        // Orders the reads of these blocks before the writes of the next.
        if BUFFERS == 1u { workgroupBarrier(); }
    }
}

// Attention by matrix units: operands in f16, head_dim a multiple of 4; products, sums and softmax in f32. What the
// forward and the backward kernels share.
//
// A workgroup of two subgroups has SIDE own rows, 16 a subgroup, whose operands stay in the units, and visits the other
// rows, SIDE a step. Rows are padded with zeros to STRIPS times 32 columns. A unit's elements cannot be looked at, so
// products of rows go through scratch, where each invocation takes 4 x 4 of them. Loops over a unit's blocks end at
// min(count, sixteen), which is the count, as no head has more.
//
// Keys that no own query sees are zero. A key that only the later of them see (causal) is made zero where it is not
// finite, as a weight of 0 does not hide NaN from a sum, and the results of those that see it are made NaN at the end.

@group(0) @binding(0) var<storage, read> q: array<vec4<f16>>;
@group(0) @binding(1) var<storage, read> kv: array<vec4<f16>>;

const BLOCK = 16u; // Side of what a unit multiplies.
const BLOCKS = 2u * STRIPS; // Of a row.
const FOURS = 8u * STRIPS; // Elements of a row, in fours.
// Pitches, a little more than the width, so that rows begin in different banks.
const PITCH_LEFT = 10u;
const PITCH_RIGHT = FOURS + 2u;
const PITCH = 36u;

// Operands, of `load`.
const QUERIES = 0u;
const KEYS = 1u;
const VALUES = 2u;
const UPSTREAM = 3u;

var<workgroup> tile_a: array<vec4<f16>, SIDE * PITCH_LEFT>; // [own row][column of a strip, or other row]
var<workgroup> tile_b: array<vec4<f16>, SIDE * PITCH_RIGHT>; // [other row][column]
var<workgroup> scratch: array<f32, SIDE * PITCH>; // [own row][other row, or column of a strip]
var<workgroup> spoiled: atomic<u32>; // The first key that is not finite.

fn load_q(b: Block, row: u32, four: u32) -> vec4<f16> {
    if row >= p.q_len || four * 4u >= p.head_dim { return vec4<f16>(); }
    return q[((b.example * p.q_rows + row) * p.q_stride + p.q_offset + b.head * p.head_dim) / 4u + four];
}

fn load_kv(b: Block, offset: u32, row: u32, four: u32) -> vec4<f16> {
    if row >= b.keys || four * 4u >= p.head_dim { return vec4<f16>(); }
    return kv[((b.example * p.k_len + row) * p.kv_stride + offset + b.head * p.head_dim) / 4u + four];
}

// Rows from `first` on into tile_b. Those to be `summed` with weights are made finite where a mask may hide them.
fn bring(b: Block, operand: u32, first: u32, lane: u32, summed: bool) {
    for (var i = lane; i < SIDE * FOURS; i += WG) {
        let row = first + i / FOURS;
        var four = load(b, operand, row, i % FOURS);
        if summed && p.causal == 1u {
            let exponents = bitcast<vec4<u32>>(vec4<f32>(four)) & vec4(0x7f800000u);
            if any(exponents == vec4(0x7f800000u)) {
                atomicMin(&spoiled, row);
                four = vec4<f16>();
            }
        }
        tile_b[i / FOURS * PITCH_RIGHT + i % FOURS] = four;
    }
}

// Own rows, as left operands of a unit.
fn hold(b: Block, operand: u32, lane: u32, unit: u32) -> array<Left, BLOCKS> {
    var own: array<Left, BLOCKS>;
    if lane == 0u { atomicStore(&spoiled, 0x3fffffu); }
    for (var strip = 0u; strip < min(STRIPS, sixteen); strip++) {
        // Orders the reads of the last strip before it is overwritten.
        workgroupBarrier();
        for (var i = lane; i < SIDE * 8u; i += WG) {
            tile_a[i / 8u * PITCH_LEFT + i % 8u] = load(b, operand, b.first + i / 8u, strip * 8u + i % 8u);
        }
        // Orders the writes of the strip before their use.
        workgroupBarrier();
        let at = unit * BLOCK * PITCH_LEFT;
        for (var i = 0u; i < 2u; i++) { own[strip * 2u + i] = load_left(at + i * BLOCK / 4u, PITCH_LEFT); }
    }
    return own;
}

// scratch = own . tile_bᵀ
fn multiply_rows(own: ptr<function, array<Left, BLOCKS>>, unit: u32) {
    for (var j = 0u; j < 2u; j++) {
        var sums: Sums;
        for (var i = 0u; i < min(BLOCKS, sixteen); i++) {
            let right = load_right_columns(j * BLOCK * PITCH_RIGHT + i * BLOCK / 4u, PITCH_RIGHT);
            sums = multiply_add((*own)[i], right, sums);
        }
        store_sums(sums, unit * BLOCK * PITCH + j * BLOCK, PITCH);
    }
}

// sums += tile_a . tile_b
fn accumulate(sums: ptr<function, array<Sums, BLOCKS>>, unit: u32) {
    for (var j = 0u; j < 2u; j++) {
        let left = load_left(unit * BLOCK * PITCH_LEFT + j * BLOCK / 4u, PITCH_LEFT);
        for (var i = 0u; i < min(BLOCKS, sixteen); i++) {
            let right = load_right(j * BLOCK * PITCH_RIGHT + i * BLOCK / 4u, PITCH_RIGHT);
            (*sums)[i] = multiply_add(left, right, (*sums)[i]);
        }
    }
}

// Row i of own 4 x 4 elements of scratch.
fn take(lane: u32, i: u32) -> vec4<f32> {
    let at = (lane / 8u * 4u + i) * PITCH + lane % 8u * 4u;
    return vec4(scratch[at], scratch[at + 1u], scratch[at + 2u], scratch[at + 3u]);
}

// Row i of own 4 x 4 weights of the next sum; what f16 cannot hold is infinite, whatever the adapter makes of it.
fn give(lane: u32, i: u32, row: vec4<f32>) {
    let held = select(row, row * 3e38, abs(row) >= vec4(65520.0));
    tile_a[(lane / 8u * 4u + i) * PITCH_LEFT + lane % 8u] = vec4<f16>(held);
}

fn visible_four(b: Block, query: vec4<u32>, key: vec4<u32>) -> vec4<bool> {
    return (query < vec4(p.q_len)) & (key < vec4(b.keys)) & (vec4(p.causal == 0u) | (key <= query));
}

// Own rows of an output: factor times the sums.
fn write(b: Block, len: u32, offset: u32, lane: u32, unit: u32, sums: ptr<function, array<Sums, BLOCKS>>, factor: f32) {
    let first_spoiled = atomicLoad(&spoiled);
    for (var strip = 0u; strip < min(STRIPS, sixteen); strip++) {
        // Orders the reads of the last strip before it is overwritten.
        workgroupBarrier();
        for (var j = 0u; j < 2u; j++) {
            store_sums((*sums)[strip * 2u + j], unit * BLOCK * PITCH + j * BLOCK, PITCH);
        }
        // Orders the writes of the strip before their reads.
        workgroupBarrier();
        for (var i = 0u; i < 4u; i++) {
            let row = b.first + lane / 8u * 4u + i;
            let four = take(lane, i) * factor;
            for (var j = 0u; j < 4u; j++) {
                let col = strip * SIDE + lane % 8u * 4u + j;
                let at = (b.example * len + row) * p.out_stride + offset + b.head * p.head_dim + col;
                if row < len && col < p.head_dim {
                    out[at] = select(four[j], bitcast<f32>(0x7fc00000u | first_spoiled), row >= first_spoiled);
                }
            }
        }
    }
}

// Stands in for matrix_unit.wgsl in tests, on adapters without matrix units: 32 neighbouring invocations are a unit, a
// matrix is the place of its first element in a tile, and an invocation holds eight sums, half a row.

struct Sums { own: array<f32, 8> }
alias Left = u32;
alias Right = u32;

var<private> own_lane: u32;

fn load_left(at: u32) -> Left { return at; }
fn load_right(at: u32) -> Right { return at; }

// Elements i of a row or column and d of the depth, from the first element's place on.
fn left_at(at: u32, i: u32, d: u32) -> f32 {
    if TA == 1u { return f32(tile_a[at + d * ALONG_SIDE + i / 4u][i % 4u]); }
    return f32(tile_a[at + i * ALONG_DEPTH + d / 4u][d % 4u]);
}

fn right_at(at: u32, i: u32, d: u32) -> f32 {
    if TB == 1u { return f32(tile_b[at + i * ALONG_DEPTH + d / 4u][d % 4u]); }
    return f32(tile_b[at + d * ALONG_SIDE + i / 4u][i % 4u]);
}

fn multiply_add(left: Left, right: Right, sums: Sums) -> Sums {
    var result = sums;
    // Always 16; as the compiler cannot know, it does not write out the thousands of rounds that surround this.
    for (var d = 0u; d < min(16u, p.last); d++) {
        let a = left_at(left, own_lane / 2u, d);
        for (var c = 0u; c < 8u; c++) { result.own[c] += a * right_at(right, own_lane % 2u * 8u + c, d); }
    }
    return result;
}

fn store_sums(sums: Sums, at: u32, pitch: u32) {
    var own = sums.own;
    for (var c = 0u; c < 8u; c++) { scratch[at + own_lane / 2u * pitch + own_lane % 2u * 8u + c] = own[c]; }
}

@compute @workgroup_size(WG)
fn product(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    own_lane = lane % 32u;
    multiply(group, groups, lane, lane / 32u);
}

// Stands in for matrix_unit.wgsl in tests, on adapters without matrix units: 32 neighbouring invocations are a unit. Of a
// product 16 x 16 an invocation holds the left operand's row and half a row of sums; a right operand is where it lies.

struct Left { row: array<f32, 16> }
struct Right { at: u32, pitch: u32, by_columns: bool }
struct Sums { own: array<f32, 8> }

var<private> own_lane: u32;
// Always 16; as the compiler cannot know, it does not write out the thousands of rounds of the loops that count to it.
var<private> sixteen: u32;

fn load_left(at: u32, pitch: u32) -> Left {
    var left: Left;
    for (var d = 0u; d < sixteen; d++) { left.row[d] = f32(tile_a[at + own_lane / 2u * pitch + d / 4u][d % 4u]); }
    return left;
}

fn load_left_columns(at: u32, pitch: u32) -> Left {
    var left: Left;
    let i = own_lane / 2u;
    for (var d = 0u; d < sixteen; d++) { left.row[d] = f32(tile_a[at + d * pitch + i / 4u][i % 4u]); }
    return left;
}

fn load_right(at: u32, pitch: u32) -> Right { return Right(at, pitch, false); }
fn load_right_columns(at: u32, pitch: u32) -> Right { return Right(at, pitch, true); }

// Element d of the depth of column i.
fn right_at(right: Right, d: u32, i: u32) -> f32 {
    if right.by_columns { return f32(tile_b[right.at + i * right.pitch + d / 4u][d % 4u]); }
    return f32(tile_b[right.at + d * right.pitch + i / 4u][i % 4u]);
}

fn multiply_add(left: Left, right: Right, sums: Sums) -> Sums {
    var result = sums;
    var row = left.row;
    for (var d = 0u; d < sixteen; d++) {
        for (var c = 0u; c < 8u; c++) { result.own[c] += row[d] * right_at(right, d, own_lane % 2u * 8u + c); }
    }
    return result;
}

fn store_sums(sums: Sums, at: u32, pitch: u32) {
    var own = sums.own;
    for (var c = 0u; c < 8u; c++) { scratch[at + own_lane / 2u * pitch + own_lane % 2u * 8u + c] = own[c]; }
}

@compute @workgroup_size(WG)
fn on_units(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    own_lane = lane % 32u;
    sixteen = min(16u, 16u * groups.x);
    work(group, groups, lane, lane / 32u);
}

// A subgroup's matrix unit: cooperative matrices of 16 x 16, operands in f16, sums in f32.
//
// Parts in front declare WG, three arrays of workgroup memory, tile_a of left operands and tile_b of right ones in fours,
// scratch of sums, and `work`, which every invocation runs with the number of its subgroup.

const sixteen = 16u; // An emulated unit hides it from its compiler.

alias Left = coop_mat16x16<f16, A>;
alias Right = coop_mat16x16<f16, B>;
alias Sums = coop_mat16x16<f32, C>;

// The matrix whose first element is at `at`, with rows contiguous in the tile, or columns. Functions of their own, as naga
// takes an argument for something in which invocations may differ.
fn load_left(at: u32, pitch: u32) -> Left { return coopLoadT<Left>(&tile_a[at], pitch); }
fn load_left_columns(at: u32, pitch: u32) -> Left { return coopLoad<Left>(&tile_a[at], pitch); }
fn load_right(at: u32, pitch: u32) -> Right { return coopLoadT<Right>(&tile_b[at], pitch); }
fn load_right_columns(at: u32, pitch: u32) -> Right { return coopLoad<Right>(&tile_b[at], pitch); }

fn multiply_add(left: Left, right: Right, sums: Sums) -> Sums {
    return coopMultiplyAdd(left, right, sums);
}

// The pitch is an argument: naga 30 cannot write a store whose pitch is a constant of the module.
fn store_sums(sums: Sums, at: u32, pitch: u32) {
    coopStoreT(sums, &scratch[at], pitch);
}

@compute @workgroup_size(WG)
fn on_units(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
    @builtin(subgroup_id) unit: u32,
) {
    work(group, groups, lane, unit);
}

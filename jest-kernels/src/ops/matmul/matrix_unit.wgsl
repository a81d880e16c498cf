// A subgroup's matrix unit: cooperative matrices of 16 x 16.

alias Left = coop_mat16x16<f16, A>;
alias Right = coop_mat16x16<f16, B>;
alias Sums = coop_mat16x16<f32, C>;

// Without T the columns of a matrix are contiguous in memory, with T its rows.
fn load_left(at: u32) -> Left {
    if TA == 1u { return coopLoad<Left>(&tile_a[at], ALONG_SIDE); }
    return coopLoadT<Left>(&tile_a[at], ALONG_DEPTH);
}

fn load_right(at: u32) -> Right {
    if TB == 1u { return coopLoad<Right>(&tile_b[at], ALONG_DEPTH); }
    return coopLoadT<Right>(&tile_b[at], ALONG_SIDE);
}

fn multiply_add(left: Left, right: Right, sums: Sums) -> Sums {
    return coopMultiplyAdd(left, right, sums);
}

// The pitch is an argument: naga 30 cannot write a store whose pitch is a constant of the module.
fn store_sums(sums: Sums, at: u32, pitch: u32) {
    coopStoreT(sums, &scratch[at], pitch);
}

@compute @workgroup_size(WG)
fn product(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
    @builtin(subgroup_id) unit: u32,
) {
    multiply(group, groups, lane, unit);
}

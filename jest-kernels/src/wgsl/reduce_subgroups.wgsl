// In place of reduce.wgsl where there are subgroups, of whatever size and however invocations are dealt out to them: a
// tree whose shape is the adapter's, the same at every call, with two barriers in place of one a level.

var<workgroup> reduce_lanes: array<f32, WG>;

// Every invocation of the workgroup must call it, and gets the sum.
fn reduce_sum(lane: u32, value: f32) -> f32 {
    let own = subgroupAdd(value);
    let place = subgroupExclusiveAdd(1u);
    let width = subgroupAdd(1u);
    // Orders the reads of an earlier call before the writes of this one.
    workgroupBarrier();
    reduce_lanes[lane] = select(0.0, own, place == 0u);
    // Orders the writes of all subgroups before the reads of each.
    workgroupBarrier();
    var total = 0.0;
    for (var i = place; i < WG; i += width) { total += reduce_lanes[i]; }
    return subgroupAdd(total);
}

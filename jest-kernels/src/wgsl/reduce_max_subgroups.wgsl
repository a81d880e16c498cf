// In place of reduce_max.wgsl where there are subgroups; needs reduce_subgroups.wgsl in front. NaN may be lost: the sum
// that follows must keep it.

// Every invocation of the workgroup must call it, and gets the maximum.
fn reduce_max(lane: u32, value: f32) -> f32 {
    let own = subgroupMax(value);
    let place = subgroupExclusiveAdd(1u);
    let width = subgroupAdd(1u);
    // Orders the reads of an earlier call before the writes of this one.
    workgroupBarrier();
    reduce_lanes[lane] = own;
    // Orders the writes of all subgroups before the reads of each.
    workgroupBarrier();
    var top = reduce_lanes[place];
    for (var i = place; i < WG; i += width) { top = max(top, reduce_lanes[i]); }
    return subgroupMax(top);
}

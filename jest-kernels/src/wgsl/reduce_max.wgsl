// Largest value of a workgroup; needs reduce.wgsl in front. NaN may be lost: the sum that follows must keep it.

// Every invocation of the workgroup must call it, and gets the maximum.
fn reduce_max(lane: u32, value: f32) -> f32 {
    // Orders the reads of an earlier call before the writes of this one.
    workgroupBarrier();
    reduce_lanes[lane] = value;
    for (var width = WG / 2u; width > 0u; width /= 2u) {
        // Orders the writes of the wider level before the reads of this one.
        workgroupBarrier();
        if lane < width {
            reduce_lanes[lane] = max(reduce_lanes[lane], reduce_lanes[lane + width]);
        }
    }
    workgroupBarrier();
    return reduce_lanes[0];
}

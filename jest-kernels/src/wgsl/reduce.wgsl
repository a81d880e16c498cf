// Sum over a workgroup of WG invocations (a power of two), as a tree of fixed shape: same inputs, same bits.

var<workgroup> reduce_lanes: array<f32, WG>;

// Every invocation of the workgroup must call it, and gets the sum.
fn reduce_sum(lane: u32, value: f32) -> f32 {
    // Orders the reads of an earlier call before the writes of this one.
    workgroupBarrier();
    reduce_lanes[lane] = value;
    for (var width = WG / 2u; width > 0u; width /= 2u) {
        // Orders the writes of the wider level before the reads of this one.
        workgroupBarrier();
        if lane < width {
            reduce_lanes[lane] += reduce_lanes[lane + width];
        }
    }
    workgroupBarrier();
    return reduce_lanes[0];
}

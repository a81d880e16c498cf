// One workgroup SIDE queries of one head: dq = scale * ds . k, a loop over keys.

fn work(group: vec3<u32>, groups: vec3<u32>, lane: u32, unit: u32) {
    let b = locate(p.first + group.y * groups.x + group.x, p.q_len);
    if b.example >= p.n { return; } // Uniform in the workgroup.
    let first = b.first + lane / 8u * 4u;
    let column = lane % 8u * 4u;
    var own_q = hold(b, QUERIES, lane, unit);
    var own_dy = hold(b, UPSTREAM, lane, unit);
    var own_lse: vec4<f32>;
    var own_delta: vec4<f32>;
    for (var i = 0u; i < 4u; i++) {
        own_lse[i] = lse[statistics_at(b, first + i)];
        own_delta[i] = delta[statistics_at(b, first + i)];
    }
    var dq: array<Sums, BLOCKS>;
    let end = select(b.keys, min(b.keys, b.first + SIDE), p.causal == 1u);
    for (var key0 = 0u; key0 < end; key0 += SIDE) {
        // Orders the reads of keys and gradients of scores before they are overwritten.
        workgroupBarrier();
        bring(b, KEYS, key0, lane, false);
        // Orders the writes of the keys before their use.
        workgroupBarrier();
        multiply_rows(&own_q, unit);
        // Orders the writes of scratch before their reads, and the reads of the keys before they are overwritten.
        workgroupBarrier();
        var w: array<vec4<f32>, 4>;
        for (var i = 0u; i < 4u; i++) { w[i] = exp(take(lane, i) * p.scale - own_lse[i]); }
        bring(b, VALUES, key0, lane, false);
        // Orders the writes of the values before their use, and the reads of scratch before it is overwritten.
        workgroupBarrier();
        multiply_rows(&own_dy, unit);
        // Orders the writes of scratch before their reads, and the reads of the values before they are overwritten.
        workgroupBarrier();
        for (var i = 0u; i < 4u; i++) {
            let seen = visible_four(b, vec4(first + i), key0 + column + vec4(0u, 1u, 2u, 3u));
            give(lane, i, select(vec4(0.0), w[i] * (take(lane, i) - own_delta[i]), seen));
        }
        bring(b, KEYS, key0, lane, true);
        // Orders the writes of keys and gradients of scores before their use.
        workgroupBarrier();
        accumulate(&dq, unit);
    }
    write(b, p.q_len, p.out_offset, lane, unit, &dq, p.scale);
}

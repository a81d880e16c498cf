// One workgroup SIDE keys of one head: dk = scale * dsᵀ . q and dv = wᵀ . dy, a loop over queries.

fn work(group: vec3<u32>, groups: vec3<u32>, lane: u32, unit: u32) {
    let b = locate(p.first + group.y * groups.x + group.x, p.k_len);
    if b.example >= p.n { return; } // Uniform in the workgroup.
    let first = b.first + lane / 8u * 4u;
    let column = lane % 8u * 4u;
    var own_k = hold(b, KEYS, lane, unit);
    var own_v = hold(b, VALUES, lane, unit);
    var dk: array<Sums, BLOCKS>;
    var dv: array<Sums, BLOCKS>;
    // A block of keys at or beyond the example's length has gradient 0.
    let end = select(p.q_len, 0u, b.first >= b.keys);
    for (var query0 = select(0u, b.first, p.causal == 1u); query0 < end; query0 += SIDE) {
        let queries = query0 + column + vec4(0u, 1u, 2u, 3u);
        var their_lse: vec4<f32>;
        var their_delta: vec4<f32>;
        for (var j = 0u; j < 4u; j++) {
            their_lse[j] = lse[statistics_at(b, queries[j])];
            their_delta[j] = delta[statistics_at(b, queries[j])];
        }
        // Orders the reads of queries and gradients of scores before they are overwritten.
        workgroupBarrier();
        bring(b, QUERIES, query0, lane, false);
        // Orders the writes of the queries before their use.
        workgroupBarrier();
        multiply_rows(&own_k, unit);
        // Orders the writes of scratch before their reads, and the reads of the queries before they are overwritten.
        workgroupBarrier();
        var w: array<vec4<f32>, 4>;
        for (var i = 0u; i < 4u; i++) {
            let seen = visible_four(b, queries, vec4(first + i));
            w[i] = select(vec4(0.0), exp(take(lane, i) * p.scale - their_lse), seen);
            give(lane, i, w[i]);
        }
        bring(b, UPSTREAM, query0, lane, false);
        // Orders the writes of weights and dy before their use, and the reads of scratch before it is overwritten.
        workgroupBarrier();
        accumulate(&dv, unit);
        multiply_rows(&own_v, unit);
        // Orders the writes of scratch before their reads, and the reads of weights and dy before they are overwritten.
        workgroupBarrier();
        for (var i = 0u; i < 4u; i++) {
            let seen = visible_four(b, queries, vec4(first + i));
            give(lane, i, select(vec4(0.0), w[i] * (take(lane, i) - their_delta), seen));
        }
        bring(b, QUERIES, query0, lane, false);
        // Orders the writes of queries and gradients of scores before their use.
        workgroupBarrier();
        accumulate(&dk, unit);
    }
    write(b, p.k_len, p.out_offset, lane, unit, &dk, p.scale);
    write(b, p.k_len, p.out_second, lane, unit, &dv, 1.0);
}

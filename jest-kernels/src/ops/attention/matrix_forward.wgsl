// One workgroup a block of SIDE queries of one head: first the logarithm of each row's sum of exponentials, lse
// [n, heads, q_len], then y [n * q_len, heads * head_dim] with weights exp(scale * q . kᵀ - lse). A second product of
// queries and keys costs less than rescaling sums that lie in the units.

@group(0) @binding(3) var<storage, read_write> out: array<f32>; // y
@group(0) @binding(4) var<storage, read_write> lse_out: array<f32>;

fn load(b: Block, operand: u32, row: u32, four: u32) -> vec4<f16> {
    if operand == QUERIES { return load_q(b, row, four); }
    return load_kv(b, select(p.k_offset, p.v_offset, operand == VALUES), row, four);
}

// Of the four own queries. Each invocation keeps maximum and sum of the columns that it sees; eight of them make a row.
fn log_sums(b: Block, own: ptr<function, array<Left, BLOCKS>>, lane: u32, unit: u32, end: u32) -> vec4<f32> {
    let first = lane / 8u * 4u;
    let column = lane % 8u * 4u;
    var top = vec4(-3e38);
    var total = vec4(0.0);
    for (var key0 = 0u; key0 < end; key0 += SIDE) {
        bring(b, KEYS, key0, lane, false);
        // Orders the writes of the keys before their use, and the reads of scratch before it is overwritten.
        workgroupBarrier();
        multiply_rows(own, unit);
        // Orders the writes of scratch before their reads, and the reads of the keys before they are overwritten.
        workgroupBarrier();
        for (var i = 0u; i < 4u; i++) {
            let seen = visible_four(b, vec4(b.first + first + i), key0 + column + vec4(0u, 1u, 2u, 3u));
            let s = select(vec4(-3e38), take(lane, i) * p.scale, seen);
            let largest = max(top[i], max(max(s.x, s.y), max(s.z, s.w)));
            let each = select(vec4(0.0), exp(s - largest), seen);
            total[i] = total[i] * exp(top[i] - largest) + each.x + each.y + each.z + each.w;
            top[i] = largest;
        }
    }
    // Orders the reads of scratch before it is overwritten.
    workgroupBarrier();
    for (var i = 0u; i < 4u; i++) {
        scratch[(first + i) * 16u + lane % 8u] = top[i];
        scratch[(first + i) * 16u + 8u + lane % 8u] = total[i];
    }
    // Orders the writes before their reads.
    workgroupBarrier();
    var lse: vec4<f32>;
    for (var i = 0u; i < 4u; i++) {
        let at = (first + i) * 16u;
        var largest = scratch[at];
        for (var part = 1u; part < 8u; part++) { largest = max(largest, scratch[at + part]); }
        var sum = 0.0;
        for (var part = 0u; part < 8u; part++) { sum += scratch[at + 8u + part] * exp(scratch[at + part] - largest); }
        lse[i] = largest + log(sum);
    }
    return lse;
}

fn work(group: vec3<u32>, groups: vec3<u32>, lane: u32, unit: u32) {
    let b = locate(p.first + group.y * groups.x + group.x, p.q_len);
    if b.example >= p.n { return; } // Uniform in the workgroup.
    let first = b.first + lane / 8u * 4u;
    let column = lane % 8u * 4u;
    let end = select(b.keys, min(b.keys, b.first + SIDE), p.causal == 1u);
    var own = hold(b, QUERIES, lane, unit);
    let lse = log_sums(b, &own, lane, unit, end);
    var sums: array<Sums, BLOCKS>;
    for (var key0 = 0u; key0 < end; key0 += SIDE) {
        // Orders the reads of values and weights, and of scratch, before they are overwritten.
        workgroupBarrier();
        bring(b, KEYS, key0, lane, false);
        // Orders the writes of the keys before their use.
        workgroupBarrier();
        multiply_rows(&own, unit);
        // Orders the writes of scratch before their reads, and the reads of the keys before they are overwritten.
        workgroupBarrier();
        for (var i = 0u; i < 4u; i++) {
            let seen = visible_four(b, vec4(first + i), key0 + column + vec4(0u, 1u, 2u, 3u));
            give(lane, i, select(vec4(0.0), exp(take(lane, i) * p.scale - lse[i]), seen));
        }
        bring(b, VALUES, key0, lane, true);
        // Orders the writes of weights and values before their use.
        workgroupBarrier();
        accumulate(&sums, unit);
    }
    if column == 0u {
        for (var i = 0u; i < 4u; i++) {
            if first + i < p.q_len { lse_out[(b.example * p.heads + b.head) * p.q_len + first + i] = lse[i]; }
        }
    }
    write(b, p.q_len, p.out_offset, lane, unit, &sums, 1.0);
}

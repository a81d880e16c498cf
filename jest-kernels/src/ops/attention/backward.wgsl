// With weights w = exp(scale * q . kᵀ - lse), dw = dy . vᵀ and ds = scale * w * (dw - delta):
//
// backward_query: one workgroup SIDE queries of one head: dq = ds . k, a loop over keys.
// backward_key:   one workgroup SIDE keys of one head: dk = dsᵀ . q and dv = wᵀ . dy, a loop over queries.

@group(0) @binding(3) var<storage, read> dy: array<f32>;
@group(0) @binding(4) var<storage, read> lse: array<f32>; // [n, heads, q_len]
@group(0) @binding(5) var<storage, read> delta: array<f32>; // [n, heads, q_len]
@group(0) @binding(6) var<storage, read_write> out: array<f32>; // dq, or dk and dv, by out_stride and the offsets

fn load_dy(b: Block, row: u32, col: u32) -> f32 {
    if row >= p.q_len || col >= p.head_dim { return 0.0; }
    return dy[((b.example * p.q_len + row) * p.heads + b.head) * p.head_dim + col];
}

// Own 4 x 4 elements of dy . vᵀ: rows are queries from query0, columns keys from key0; unspecified where there is no
// such query or key.
fn weight_gradients(b: Block, query0: u32, key0: u32, lane: u32) -> array<f32, 16> {
    var tile: array<f32, 16>;
    for (var d0 = 0u; d0 < p.head_dim; d0 += DEPTH) {
        // Orders the reads of the last step before the operands are overwritten.
        workgroupBarrier();
        for (var i = lane; i < DEPTH * min(SIDE, p.q_len - query0); i += WG) {
            left[i % DEPTH * PITCH + i / DEPTH] = load_dy(b, query0 + i / DEPTH, d0 + i % DEPTH);
        }
        for (var i = lane; i < DEPTH * min(SIDE, p.k_len - key0); i += WG) {
            right[i % DEPTH * PITCH + i / DEPTH] = load_kv(b, p.v_offset, key0 + i / DEPTH, d0 + i % DEPTH);
        }
        // Orders the writes of the operands before their use.
        workgroupBarrier();
        multiply(lane, d0, &tile);
    }
    return tile;
}

// Own 4 x 4 weights from own scores; 0 where a query does not see a key.
fn weigh(b: Block, query0: u32, key0: u32, lane: u32, tile: ptr<function, array<f32, 16>>) {
    for (var i = 0u; i < 4u; i++) {
        let query = query0 + lane / 8u * 4u + i;
        let row = (b.example * p.heads + b.head) * p.q_len + min(query, p.q_len - 1u);
        for (var j = 0u; j < 4u; j++) {
            let weight = exp((*tile)[i * 4u + j] * p.scale - lse[row]);
            (*tile)[i * 4u + j] = select(0.0, weight, visible(b, query, key0 + lane % 8u * 4u + j));
        }
    }
}

// Own element of ds; 0 where a query does not see a key, whatever the key holds.
fn score_gradient(b: Block, query: u32, key: u32, weight: f32, dw: f32) -> f32 {
    let row = (b.example * p.heads + b.head) * p.q_len + min(query, p.q_len - 1u);
    return select(0.0, p.scale * weight * (dw - delta[row]), visible(b, query, key));
}

fn write(b: Block, len: u32, offset: u32, lane: u32, sums: ptr<function, array<f32, 16 * STRIPS>>) {
    for (var i = 0u; i < 4u; i++) {
        let row = b.first + lane / 8u * 4u + i;
        for (var index = 0u; index < STRIPS; index++) {
            for (var j = 0u; j < 4u; j++) {
                let col = index * SIDE + lane % 8u * 4u + j;
                let at = (b.example * len + row) * p.out_stride + offset + b.head * p.head_dim + col;
                if row < len && col < p.head_dim { out[at] = (*sums)[index * 16u + i * 4u + j]; }
            }
        }
    }
}

@compute @workgroup_size(WG)
fn backward_query(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let b = locate(p.first + group.y * groups.x + group.x, p.q_len);
    if b.example >= p.n { return; } // Uniform in the workgroup.
    let own = lane / 8u * 4u;
    let column = lane % 8u * 4u;
    var sums: array<f32, 16 * STRIPS>;
    let end = select(b.keys, min(b.keys, b.first + SIDE), p.causal == 1u);
    for (var key0 = 0u; key0 < end; key0 += SIDE) {
        var w = scores(b, b.first, key0, lane);
        weigh(b, b.first, key0, lane, &w);
        var dw = weight_gradients(b, b.first, key0, lane);
        for (var i = 0u; i < 16u; i++) {
            let query = own + i / 4u;
            let key = column + i % 4u;
            weights[key * PITCH + query] = score_gradient(b, b.first + query, key0 + key, w[i], dw[i]);
        }
        let ends = limits(b, b.first + own, key0);
        for (var index = 0u; index < STRIPS; index++) {
            // Orders the reads of the last strip before it is overwritten.
            workgroupBarrier();
            for (var i = lane; i < SIDE * min(SIDE, end - key0); i += WG) {
                strip[i] = load_kv(b, p.k_offset, key0 + i / SIDE, index * SIDE + i % SIDE);
            }
            // Orders the writes of strip and weights before their reads.
            workgroupBarrier();
            accumulate(lane, index, end - key0, ends, &sums);
        }
    }
    write(b, p.q_len, p.out_offset, lane, &sums);
}

@compute @workgroup_size(WG)
fn backward_key(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let b = locate(p.first + group.y * groups.x + group.x, p.k_len);
    if b.example >= p.n { return; } // Uniform in the workgroup.
    let own = lane / 8u * 4u;
    let column = lane % 8u * 4u;
    var dk: array<f32, 16 * STRIPS>;
    var dv: array<f32, 16 * STRIPS>;
    // A block of keys at or beyond the example's length has gradient 0.
    let end = select(p.q_len, 0u, b.first >= b.keys);
    for (var query0 = select(0u, b.first, p.causal == 1u); query0 < end; query0 += SIDE) {
        var w = scores(b, query0, b.first, lane);
        weigh(b, query0, b.first, lane, &w);
        for (var i = 0u; i < 16u; i++) { weights[(own + i / 4u) * PITCH + column + i % 4u] = w[i]; }
        for (var index = 0u; index < STRIPS; index++) {
            // Orders the reads of the last strip before it is overwritten.
            workgroupBarrier();
            for (var i = lane; i < SIDE * min(SIDE, end - query0); i += WG) {
                strip[i] = load_dy(b, query0 + i / SIDE, index * SIDE + i % SIDE);
            }
            // Orders the writes of strip and weights before their reads.
            workgroupBarrier();
            accumulate(lane, index, end - query0, vec4(SIDE), &dv);
        }
        // Its barriers also order the reads of the weights before they are overwritten.
        var dw = weight_gradients(b, query0, b.first, lane);
        for (var i = 0u; i < 16u; i++) {
            let query = own + i / 4u;
            let key = column + i % 4u;
            weights[query * PITCH + key] = score_gradient(b, query0 + query, b.first + key, w[i], dw[i]);
        }
        for (var index = 0u; index < STRIPS; index++) {
            workgroupBarrier(); // As above.
            for (var i = lane; i < SIDE * min(SIDE, end - query0); i += WG) {
                strip[i] = load_q(b, query0 + i / SIDE, index * SIDE + i % SIDE);
            }
            workgroupBarrier();
            accumulate(lane, index, end - query0, vec4(SIDE), &dk);
        }
    }
    write(b, p.k_len, p.out_offset, lane, &dk);
    write(b, p.k_len, p.out_second, lane, &dv);
}

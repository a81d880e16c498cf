// One workgroup a block of SIDE queries of one head: y [n * q_len, heads * head_dim] by the online softmax, and the
// logarithm of each row's sum of exponentials, lse [n, heads, q_len].

@group(0) @binding(3) var<storage, read_write> y: array<f32>;
@group(0) @binding(4) var<storage, read_write> lse_out: array<f32>;

var<workgroup> maxima: array<f32, SIDE * 8u>; // [query][column of invocations]
var<workgroup> totals: array<f32, SIDE * 8u>;

// The four queries of one invocation: y = sums / total, and lse where the invocation is the first of its row.
fn write_rows(b: Block, lane: u32, sums: ptr<function, array<f32, 16 * STRIPS>>, top: vec4<f32>, total: vec4<f32>) {
    let own = lane / 8u * 4u;
    let column = lane % 8u;
    for (var i = 0u; i < 4u; i++) {
        let query = b.first + own + i;
        if query >= p.q_len { continue; }
        if column == 0u { lse_out[(b.example * p.heads + b.head) * p.q_len + query] = top[i] + log(total[i]); }
        for (var index = 0u; index < STRIPS; index++) {
            for (var j = 0u; j < 4u; j++) {
                let col = index * SIDE + column * 4u + j;
                let at = ((b.example * p.q_len + query) * p.heads + b.head) * p.head_dim + col;
                if col < p.head_dim { y[at] = (*sums)[index * 16u + i * 4u + j] / total[i]; }
            }
        }
    }
}

@compute @workgroup_size(WG)
fn forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let b = locate(p.first + group.y * groups.x + group.x, p.q_len);
    if b.example >= p.n { return; } // Uniform in the workgroup.
    let own = lane / 8u * 4u;
    let column = lane % 8u;
    var sums: array<f32, 16 * STRIPS>;
    var top = vec4(-3e38);
    var total = vec4(0.0);
    let end = select(b.keys, min(b.keys, b.first + SIDE), p.causal == 1u);
    for (var key0 = 0u; key0 < end; key0 += SIDE) {
        var s = scores(b, b.first, key0, lane);
        for (var i = 0u; i < 4u; i++) {
            var largest = -3e38;
            for (var j = 0u; j < 4u; j++) {
                s[i * 4u + j] *= p.scale;
                if visible(b, b.first + own + i, key0 + column * 4u + j) { largest = max(largest, s[i * 4u + j]); }
            }
            maxima[(own + i) * 8u + column] = largest;
        }
        // Orders the writes of the maxima before their reads.
        workgroupBarrier();
        var shrink: vec4<f32>;
        for (var i = 0u; i < 4u; i++) {
            var largest = top[i];
            for (var part = 0u; part < 8u; part++) { largest = max(largest, maxima[(own + i) * 8u + part]); }
            shrink[i] = exp(top[i] - largest);
            top[i] = largest;
            var part_total = 0.0;
            for (var j = 0u; j < 4u; j++) {
                let key = column * 4u + j;
                let weight = select(0.0, exp(s[i * 4u + j] - largest), visible(b, b.first + own + i, key0 + key));
                weights[key * PITCH + own + i] = weight;
                part_total += weight;
            }
            totals[(own + i) * 8u + column] = part_total;
        }
        for (var i = 0u; i < 16u * STRIPS; i++) { sums[i] *= shrink[i / 4u % 4u]; }
        let ends = limits(b, b.first + own, key0);
        for (var index = 0u; index < STRIPS; index++) {
            // Orders the reads of the last strip before it is overwritten.
            workgroupBarrier();
            for (var i = lane; i < SIDE * min(SIDE, end - key0); i += WG) {
                strip[i] = load_kv(b, p.v_offset, key0 + i / SIDE, index * SIDE + i % SIDE);
            }
            // Orders the writes of strip, weights and totals before their reads.
            workgroupBarrier();
            accumulate(lane, index, end - key0, ends, &sums);
        }
        for (var i = 0u; i < 4u; i++) {
            var tile_total = 0.0;
            for (var part = 0u; part < 8u; part++) { tile_total += totals[(own + i) * 8u + part]; }
            total[i] = total[i] * shrink[i] + tile_total;
        }
    }
    write_rows(b, lane, &sums, top, total);
}

// pre = sum + bias[col]; y = gelu(pre). The backward pass reads pre.

@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read_write> pre: array<f32>;

fn store(index: u32, col: u32, sum: f32) {
    let value = sum + bias[col];
    pre[index] = value;
    y[index] = gelu(value);
}

// pre = sum + bias[col]; y = gelu(pre), slope = gelu'(pre). The backward pass multiplies by slope.

@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read_write> slope: array<f32>;

fn store(index: u32, col: u32, sum: f32) {
    let both = gelu_with_slope(sum + bias[col]);
    y[index] = both.x;
    slope[index] = both.y;
}

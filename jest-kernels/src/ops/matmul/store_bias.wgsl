// y = sum + bias[col]

@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@group(0) @binding(3) var<storage, read> bias: array<f32>;

fn store(index: u32, col: u32, sum: f32) {
    y[index] = sum + bias[col];
}

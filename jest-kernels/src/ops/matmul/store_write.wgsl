// y = sum

@group(0) @binding(2) var<storage, read_write> y: array<f32>;

fn store(index: u32, col: u32, sum: f32) {
    y[index] = sum;
}

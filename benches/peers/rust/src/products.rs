//! Matrix products.

use crate::median;

/// Median seconds by shape, as JSON.
pub fn line(peer: &str, repeats: usize, shapes: &[&str]) -> String {
    let seconds = |shape: &&str| {
        let sizes: Vec<usize> = shape.split('x').map(|size| size.parse().expect("MxKxN are numbers")).collect();
        let sizes = sizes.try_into().expect("three sizes");
        let seconds = if peer == "burn" { burn(repeats, sizes) } else { candle(repeats, sizes) };
        format!("\"{shape}\": {seconds}")
    };
    format!("{{{}}}", shapes.iter().map(seconds).collect::<Vec<_>>().join(", "))
}

fn burn(repeats: usize, [m, k, n]: [usize; 3]) -> f64 {
    use burn_tensor::{Device, DeviceKind, Distribution, Tensor};
    let device = Device::wgpu(DeviceKind::Cpu);
    let a = Tensor::<2>::random([m, k], Distribution::Uniform(-1.0, 1.0), &device);
    let b = Tensor::<2>::random([k, n], Distribution::Uniform(-1.0, 1.0), &device);
    median(repeats, || {
        let y = a.clone().matmul(b.clone());
        device.sync().expect("burn computes");
        drop(y);
    })
}

fn candle(repeats: usize, [m, k, n]: [usize; 3]) -> f64 {
    use candle_core::{Device, Tensor};
    let random = |rows, cols| Tensor::rand(-1f32, 1f32, (rows, cols), &Device::Cpu).expect("candle allocates");
    let (a, b) = (random(m, k), random(k, n));
    median(repeats, || drop(a.matmul(&b).expect("candle computes")))
}

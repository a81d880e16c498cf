//! `jest-peers burn|candle REPEATS MxKxN..`: median seconds of f32 products, one JSON line.
//!
//! Burn takes the adapter that `jest --device llvmpipe` names: the emulated one. Its first product of a shape tries
//! kernels out and is not counted.

use std::time::Instant;

fn median(repeats: usize, mut work: impl FnMut()) -> f64 {
    for _ in 0..2 {
        work();
    }
    let mut seconds: Vec<f64> = (0..repeats)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed().as_secs_f64()
        })
        .collect();
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
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

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [peer, repeats, shapes @ ..] = &args[..] else { panic!("usage: jest-peers burn|candle REPEATS MxKxN..") };
    let repeats = repeats.parse().expect("REPEATS is a number");
    let mut line = Vec::new();
    for shape in shapes {
        let sizes: Vec<usize> = shape.split('x').map(|size| size.parse().expect("MxKxN are numbers")).collect();
        let sizes = sizes.try_into().expect("three sizes");
        let seconds = if peer == "burn" { burn(repeats, sizes) } else { candle(repeats, sizes) };
        line.push(format!("\"{shape}\": {seconds}"));
    }
    println!("{{{}}}", line.join(", "));
}

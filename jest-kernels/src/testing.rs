//! What the tests of operations share: devices to test on, poisoned inputs, exact tolerances, finite differences.
//!
//! Public so that the crates above can hold their own layers to the same rules.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::device::Backend;
use crate::device::cpu::POISON;
use crate::{Device, DeviceLimits, DeviceOptions, DeviceRequest, Pass, Precision, Tensor};

/// Unit roundoff of f32.
pub const EPS: f64 = 1.0 / 16_777_216.0;

/// Row lengths around every tile and vector boundary.
pub const RAGGED: [usize; 7] = [1, 3, 31, 33, 255, 257, 769];

const REMEDY: &str = "the WGSL kernels need an adapter: run `cargo xtask test`, which installs or names the software \
                      Vulkan driver (Debian: mesa-vulkan-drivers)";

/// The CPU device and a GPU, the software adapter unless `JEST_TEST_DEVICE` names another, both checked: new buffers hold NaN and guard words follow each.
///
/// # Panics
/// Without any adapter: a kernel test never passes without its shader.
pub fn devices() -> [&'static Device; 2] {
    static DEVICES: OnceLock<[Device; 2]> = OnceLock::new();
    DEVICES.get_or_init(|| open(true, Precision::F32)).each_ref()
}

/// The CPU device and a GPU as training opens them: trusted shaders, pooled buffers as they come.
///
/// # Panics
/// Without any adapter.
pub fn training_devices() -> [&'static Device; 2] {
    static DEVICES: OnceLock<[Device; 2]> = OnceLock::new();
    DEVICES.get_or_init(|| open(false, Precision::F32)).each_ref()
}

/// Both devices, checked, with products in this precision.
///
/// # Panics
/// Without any adapter that has it.
pub fn devices_in(precision: Precision) -> [Device; 2] {
    open(true, precision)
}

fn open(checked: bool, precision: Precision) -> [Device; 2] {
    let options = DeviceOptions { threads: 2, checked, precision, ..Default::default() };
    let cpu = Device::open(&DeviceRequest::Cpu, options).expect("the CPU device always opens");
    [cpu, gpu(options)]
}

fn gpu(options: DeviceOptions) -> Device {
    let gpu = match std::env::var("JEST_TEST_DEVICE") {
        Ok(named) => named.parse().and_then(|request| Device::open(&request, options)),
        Err(_) => {
            let software = DeviceRequest::Name("llvmpipe".to_string());
            Device::open(&software, options).or_else(|_| Device::open(&DeviceRequest::Gpu, options))
        }
    };
    gpu.unwrap_or_else(|error| panic!("{error}; {REMEDY}"))
}

/// The GPU of the tests, checked, with less than it grants.
///
/// # Panics
/// Without any adapter.
pub fn lesser_gpu(limits: DeviceLimits) -> Device {
    lesser_gpu_in(Precision::F32, limits)
}

/// [`lesser_gpu`] with products in this precision.
///
/// # Panics
/// Without any adapter that has it.
pub fn lesser_gpu_in(precision: Precision, limits: DeviceLimits) -> Device {
    gpu(DeviceOptions { checked: true, precision, limits, ..Default::default() })
}

/// Makes a GPU a lost one, as after a reset by its driver.
pub fn lose(device: &Device) {
    if let Backend::Gpu(gpu) = device.backend() {
        gpu.lose();
    }
}

/// Runs `case` on every device, then records which kernels ran on which adapter.
pub fn on_each_device(case: impl Fn(&mut Pass)) {
    for device in devices() {
        case(&mut device.pass());
        tally(device);
    }
}

/// As [`on_each_device`], and on the GPU without its subgroups: for operations whose kernels have a form for either.
pub fn on_every_kernel(case: impl Fn(&mut Pass)) {
    static PLAIN: OnceLock<Device> = OnceLock::new();
    on_each_device(&case);
    let plain = PLAIN.get_or_init(|| lesser_gpu(DeviceLimits { without_subgroups: true, ..Default::default() }));
    case(&mut plain.pass());
    tally(plain);
}

/// Appends the kernels run so far to the file that `JEST_SHADER_TALLY` names, one `adapter<TAB>kernel` a line.
///
/// # Panics
/// When the file cannot be written.
pub fn tally(device: &Device) {
    let Some(path) = std::env::var_os("JEST_SHADER_TALLY") else { return };
    let name = device.info().name;
    let lines: String = device.kernels_run().iter().map(|kernel| format!("{name}\t{kernel}\n")).collect();
    let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
    let written = file.and_then(|mut file| file.write_all(lines.as_bytes()));
    written.expect("JEST_SHADER_TALLY names a file that can be written");
}

/// A file of `fixtures/`: beside the folder that `CARGO_MANIFEST_DIR` names, as under `cargo test`, else where this was built.
pub fn fixture(file: &str) -> PathBuf {
    let named = std::env::var_os("CARGO_MANIFEST_DIR");
    let beside = named.map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).to_path_buf(), PathBuf::from);
    beside.join("../fixtures").join(file)
}

/// Reproducible values in [-1, 1).
pub fn random(n: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / 8_388_608.0 - 1.0
    };
    (0..n).map(|_| next()).collect()
}

/// Image and text embeddings [n, d]: unit rows, the texts leaning towards their images.
pub fn paired_embeddings(n: usize, d: usize) -> [Vec<f32>; 2] {
    let (image, other) = (random(n * d, 1), random(n * d, 2));
    let text: Vec<f32> = image.iter().zip(&other).map(|(image, other)| 0.5 * image + other).collect();
    [image, text].map(|mut rows| {
        for row in rows.chunks_mut(d) {
            let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt();
            row.iter_mut().for_each(|x| *x /= norm);
        }
        rows
    })
}

/// The same values in f64.
pub fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|value| f64::from(*value)).collect()
}

/// Magnitudes of the same values.
pub fn magnitudes(values: &[f64]) -> Vec<f64> {
    values.iter().map(|value| value.abs()).collect()
}

/// Holds `got` against the oracle's `want`: at every element `!(|got - want| <= tolerance)` fails, so NaN fails.
///
/// # Panics
/// Naming the first element that is out.
#[track_caller]
pub fn assert_within(what: &str, got: &[f32], want: &[f64], tolerance: impl Fn(usize) -> f64) {
    assert_eq!(got.len(), want.len(), "{what}: lengths differ");
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        let (difference, limit) = ((f64::from(*g) - w).abs(), tolerance(i));
        assert!(difference <= limit, "{what}[{i}] = {g}, oracle {w}: off by {difference:.3e}, allowed {limit:.3e}");
    }
}

/// Tolerance of a sum of `terms` products whose magnitudes add up to `magnitude`.
pub fn sum_tolerance(terms: usize, magnitude: f64) -> f64 {
    (terms as f64 + 4.0) * EPS * magnitude + 1e-30
}

/// Largest magnitude.
pub fn largest(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |top, value| value.abs().max(top))
}

/// Fails when a guard word behind the tensor was overwritten, or an element was never written.
///
/// # Panics
/// Naming the tensor.
#[track_caller]
pub fn assert_guarded(pass: &mut Pass, what: &str, tensor: &Tensor) {
    let words = match pass.device().backend() {
        Backend::Cpu(_) => tensor.cpu_guard().to_vec(),
        Backend::Gpu(gpu) => {
            let all = gpu.read_all(tensor.gpu()).expect("recorded work succeeds");
            all[tensor.dtype().words(tensor.len())..].to_vec()
        }
    };
    assert!(!words.is_empty(), "{what}: no guard words");
    assert!(words.iter().all(|word| *word == POISON), "{what}: guard words behind the tensor were overwritten");
}

/// Reads a result after checking its guard words.
///
/// # Panics
/// When the guard is hurt or recorded work failed.
#[track_caller]
pub fn checked_read(pass: &mut Pass, what: &str, tensor: &Tensor) -> Vec<f32> {
    assert_guarded(pass, what, tensor);
    pass.read(tensor).expect("recorded work succeeds")
}

/// Holds an oracle's gradient against central differences of `sum(dy * forward(x))` in f64.
///
/// # Panics
/// Naming the first element that is out.
#[track_caller]
pub fn assert_is_gradient(what: &str, x: &[f64], dy: &[f64], forward: impl Fn(&[f64]) -> Vec<f64>, gradient: &[f64]) {
    assert_eq!(x.len(), gradient.len(), "{what}: one gradient element for each input");
    let value = |x: &[f64]| -> f64 {
        let y = forward(x);
        assert_eq!(y.len(), dy.len(), "{what}: one dy for each output");
        y.iter().zip(dy).map(|(y, dy)| y * dy).sum()
    };
    let scale = largest(gradient).max(1e-3);
    let mut moved = x.to_vec();
    for i in 0..x.len() {
        let h = 1e-5 * x[i].abs().max(1.0);
        moved[i] = x[i] + h;
        let up = value(&moved);
        moved[i] = x[i] - h;
        let down = value(&moved);
        moved[i] = x[i];
        let (numeric, error) = ((up - down) / (2.0 * h), 2e-7 * scale);
        let difference = (numeric - gradient[i]).abs();
        assert!(difference <= error, "{what}: d[{i}] = {}, differences say {numeric}", gradient[i]);
    }
}

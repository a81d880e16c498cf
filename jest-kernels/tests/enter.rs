//! Work entered on a device's own threads.

use jest_kernels::ops::add;
use jest_kernels::{Device, DeviceOptions, DeviceRequest};

#[test]
fn entered_work_runs_on_the_device_s_threads_and_gives_the_same() {
    let device = Device::open(&DeviceRequest::Cpu, DeviceOptions { threads: 2, ..Default::default() }).unwrap();
    let sum = || {
        let mut pass = device.pass();
        let x = pass.upload(&vec![1.5; 100_000], &[100_000]).unwrap();
        let y = add::forward(&mut pass, &x, &x).unwrap();
        (std::thread::current().name().map(str::to_owned), pass.read(&y).unwrap())
    };
    let (outside, inside) = (sum(), device.enter(sum));
    assert!(inside.0.is_some_and(|name| name.starts_with("jest-cpu-")), "{:?}", outside.0);
    assert_eq!(inside.1, outside.1);
    // Entered twice, the inner call goes on where it is.
    assert_eq!(device.enter(|| device.enter(|| 7)), 7);
}

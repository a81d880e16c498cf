//! The CPU forms: packed or not, in blocks and in parts, on any number of threads.

use super::*;
use crate::testing::{assert_within, devices, random, sum_tolerance, wide};

#[test]
fn results_do_not_depend_on_the_thread_count() {
    // The second is too narrow to be packed.
    for (m, n, k) in [(300, 65, 129), (300, 20, 129)] {
        let (a, b) = (random(m * k, 1), random(k * n, 2));
        let product = |threads: usize| {
            let options = crate::DeviceOptions { threads, checked: false, ..Default::default() };
            let mut pass = crate::Device::open(&crate::DeviceRequest::Cpu, options).unwrap().pass();
            let (a, b) = (pass.upload(&a, &[m, k]).unwrap(), pass.upload(&b, &[k, n]).unwrap());
            let y = forward(&mut pass, Form::AB, &a, &b).unwrap();
            pass.read(&y).unwrap()
        };
        assert_eq!(product(1), product(3));
    }
}

/// Products too narrow to be packed, in several blocks of rows and in parts of the depth.
#[test]
fn narrow_products_on_the_cpu_match_oracle() {
    let mut pass = devices()[0].pass();
    for (m, n, k) in [(300, 20, 129), (70, 20, 3000), (20, 300, 3000)] {
        let (a, b) = (random(m * k, 1), random(k * n, 2));
        let (a64, b64) = (wide(&a), wide(&b));
        let (a, b) = (pass.upload(&a, &[k, m]).unwrap(), pass.upload(&b, &[k, n]).unwrap());
        let y = forward(&mut pass, Form::AtB, &a, &b).unwrap();
        let want = oracle::atb(m, n, k, &a64, &b64);
        assert_within("y", &pass.read(&y).unwrap(), &want, |_| sum_tolerance(k, k as f64));
    }
}

#[test]
fn deep_gradients_do_not_depend_on_the_thread_count() {
    // Deep enough to be summed in parts and in several runs.
    let (m, n, k) = (65, 33, 3000);
    let (a, b) = (random(m * k, 1), random(k * n, 2));
    for precision in [crate::Precision::F32, crate::Precision::Bf16] {
        let product = |threads: usize| {
            let options = crate::DeviceOptions { threads, checked: false, precision, ..Default::default() };
            let mut pass = crate::Device::open(&crate::DeviceRequest::Cpu, options).unwrap().pass();
            let (a, b) = (pass.upload(&a, &[k, m]).unwrap(), pass.upload(&b, &[k, n]).unwrap());
            let y = forward(&mut pass, Form::AtB, &a, &b).unwrap();
            pass.read(&y).unwrap()
        };
        assert_eq!(product(1), product(3));
    }
}

//! The CPU forms: packed or not, in blocks and in parts, on any number of threads.

use super::*;
use crate::testing::*;

#[test]
fn results_do_not_depend_on_the_thread_count() {
    // The second is too narrow to be packed, and so is the last, whose right side is turned over.
    for (form, (m, n, k)) in [
        (Form::AB, (300, 65, 129)),
        (Form::AB, (300, 20, 129)),
        (Form::ABt, (1030, 65, 129)),
        (Form::ABt, (1030, 20, 129)),
    ] {
        let (a, b) = (random(m * k, 1), random(k * n, 2));
        let (a_shape, b_shape) = form.shapes(m, n, k);
        let product = |threads: usize| {
            let options = crate::DeviceOptions { threads, checked: false, ..Default::default() };
            let mut pass = crate::Device::open(&crate::DeviceRequest::Cpu, options).unwrap().pass();
            let (a, b) = (pass.upload(&a, &a_shape).unwrap(), pass.upload(&b, &b_shape).unwrap());
            let y = forward(&mut pass, form, &a, &b).unwrap();
            pass.read(&y).unwrap()
        };
        assert_eq!(product(1), product(3));
    }
}

/// Products too narrow to be packed and such as are, in several blocks of rows, in runs and in parts of the depth.
#[test]
fn deep_products_on_the_cpu_match_oracle() {
    let mut pass = devices()[0].pass();
    let deep = [(70, 20, 3000), (20, 300, 3000), (70, 40, 3000), (530, 65, 1100), (40, 800, 2100)];
    // Of the last three, the right side of a layer is turned over first where nothing is packed.
    let long = [(300, 20, 129), (1030, 20, 129), (1100, 37, 70), (1024, 5, 31)];
    for (m, n, k) in deep.into_iter().chain(long) {
        let (a, b) = (random(m * k, 1), random(k * n, 2));
        let (a64, b64) = (wide(&a), wide(&b));
        for form in Form::ALL {
            let (a_shape, b_shape, want) = match form {
                Form::AB => ([m, k], [k, n], oracle::ab(m, n, k, &a64, &b64)),
                Form::ABt => ([m, k], [n, k], oracle::abt(m, n, k, &a64, &b64)),
                Form::AtB => ([k, m], [k, n], oracle::atb(m, n, k, &a64, &b64)),
            };
            let (a, b) = (pass.upload(&a, &a_shape).unwrap(), pass.upload(&b, &b_shape).unwrap());
            let y = forward(&mut pass, form, &a, &b).unwrap();
            let name = format!("{form:?} {m}x{n}x{k}");
            assert_within(&name, &checked_read(&mut pass, "y", &y), &want, |_| sum_tolerance(64, k as f64));
        }
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

use super::*;
use crate::DType;
use crate::ops::gelu::{self, Gelu};
use crate::testing::*;

pub(super) const FORMS: [Form; 3] = Form::ALL;

/// Ragged sizes around the tiles of the kernels and the blocks of the CPU form.
pub(super) const SIZES: [(usize, usize, usize); 8] =
    [(1, 1, 1), (3, 31, 33), (33, 3, 257), (31, 33, 16), (64, 65, 17), (257, 33, 5), (2, 255, 64), (65, 769, 3)];

fn check(form: Form, m: usize, n: usize, k: usize) {
    let (a, b, start) = (random(m * k, 1), random(k * n, 2), random(m * n, 3));
    let exact = form.oracle();
    let want = exact(m, n, k, &wide(&a), &wide(&b));
    let magnitude = exact(m, n, k, &magnitudes(&wide(&a)), &magnitudes(&wide(&b)));
    let added: Vec<f64> = want.iter().zip(&start).map(|(y, start)| y + f64::from(*start)).collect();
    let (a_shape, b_shape) = form.shapes(m, n, k);
    on_each_device(|pass| {
        let (a, b) = (pass.upload(&a, &a_shape).unwrap(), pass.upload(&b, &b_shape).unwrap());
        let y = forward(pass, form, &a, &b).unwrap();
        let name = format!("{form:?} {m}x{n}x{k}");
        assert_within(&name, &checked_read(pass, &name, &y), &want, |i| sum_tolerance(k, magnitude[i]));
        let mut out = pass.upload(&start, &[m, n]).unwrap();
        accumulate(pass, form, &a, &b, &mut out).unwrap();
        assert_within(&name, &checked_read(pass, &name, &out), &added, |i| sum_tolerance(k + 1, magnitude[i] + 1.0));
    });
}

#[test]
fn every_form_matches_oracle_on_ragged_shapes() {
    for form in FORMS {
        for (m, n, k) in SIZES {
            check(form, m, n, k);
        }
    }
}

#[test]
fn many_rows_match_oracle() {
    check(Form::AB, 65_537, 2, 3);
    check(Form::AtB, 3, 2, 65_537);
    check(Form::AtB, 530, 3, 2049);
}

#[test]
fn batches_match_one_product_each() {
    let (z, m, n, k) = (3, 33, 17, 9);
    for form in FORMS {
        let (a, b) = (random(z * m * k, 1), random(z * k * n, 2));
        let exact = form.oracle();
        let mut want = Vec::new();
        for (a, b) in a.chunks(m * k).zip(b.chunks(k * n)) {
            want.extend(exact(m, n, k, &wide(a), &wide(b)));
        }
        let (a_shape, b_shape) = form.shapes(m, n, k);
        on_each_device(|pass| {
            let a = pass.upload(&a, &[z, a_shape[0], a_shape[1]]).unwrap();
            let b = pass.upload(&b, &[z, b_shape[0], b_shape[1]]).unwrap();
            let y = batched(pass, form, &a, &b).unwrap();
            assert_eq!(y.shape(), [z, m, n]);
            assert_within("y", &checked_read(pass, "y", &y), &want, |_| sum_tolerance(k, k as f64));
        });
    }
}

#[test]
fn linear_layers_match_oracle() {
    // The second is so long that the CPU device turns w over first.
    [(37, 70, 19), (1030, 20, 37)].into_iter().for_each(check_linear);
}

fn check_linear((m, n, k): (usize, usize, usize)) {
    let (x, w, bias) = (random(m * k, 1), random(n * k, 2), random(n, 3));
    let mut pre = oracle::abt(m, n, k, &wide(&x), &wide(&w));
    pre.iter_mut().enumerate().for_each(|(i, value)| *value += f64::from(bias[i % n]));
    on_each_device(|pass| {
        let (x, w) = (pass.upload(&x, &[m, k]).unwrap(), pass.upload(&w, &[n, k]).unwrap());
        let bias = pass.upload(&bias, &[n]).unwrap();
        let tolerance = sum_tolerance(k + 1, (k + 1) as f64);
        let y = linear(pass, &x, &w, &bias).unwrap();
        assert_within("linear", &checked_read(pass, "linear", &y), &pre, |_| tolerance);
        let twice = linear_onto(pass, &x, &w, &bias, &y).unwrap();
        let want: Vec<f64> = pre.iter().map(|pre| 2.0 * pre).collect();
        assert_within("onto", &checked_read(pass, "onto", &twice), &want, |_| 2.5 * tolerance);
        for kind in Gelu::ALL {
            check_gelu(pass, kind, [&x, &w, &bias], &pre, tolerance);
        }
    });
}

/// Holds a layer of three inputs against what the oracle makes of `pre`, whose error is at most `tolerance`.
fn check_gelu(pass: &mut Pass, kind: Gelu, [x, w, bias]: [&Tensor; 3], pre: &[f64], tolerance: f64) {
    let (y, slope) = linear_gelu(pass, kind, x, w, bias).unwrap();
    let slack = |i: usize| gelu::STEEPEST * tolerance + gelu::TOLERANCE * (1.0 + pre[i].abs());
    assert_within("y", &checked_read(pass, "y", &y), &gelu::oracle::forward(kind, pre), slack);
    let slack = gelu::BEND * tolerance + gelu::SLOPE_TOLERANCE;
    assert_within("slope", &checked_read(pass, "slope", &slope), &gelu::oracle::slope(kind, pre), |_| slack);
    let alone = linear_active(pass, kind, x, w, bias).unwrap();
    assert_eq!(checked_read(pass, "y alone", &alone), pass.read(&y).unwrap());
}

#[test]
fn linear_layers_deeper_than_one_dispatch_match_oracle() {
    let (m, n, k) = (2, 3, Tile::Small.depth() + 7);
    let (x, w, bias) = (random(m * k, 1), random(n * k, 2), random(n, 3));
    let mut pre = oracle::abt(m, n, k, &wide(&x), &wide(&w));
    pre.iter_mut().enumerate().for_each(|(i, value)| *value += f64::from(bias[i % n]));
    on_each_device(|pass| {
        let (x, w) = (pass.upload(&x, &[m, k]).unwrap(), pass.upload(&w, &[n, k]).unwrap());
        let bias = pass.upload(&bias, &[n]).unwrap();
        Gelu::ALL.iter().for_each(|kind| check_gelu(pass, *kind, [&x, &w, &bias], &pre, 8e-3));
    });
}

#[test]
fn linear_backward_is_the_derivative() {
    let (m, n, k) = (3, 4, 5);
    let (x, w, dy) = (random(m * k, 1), random(n * k, 2), random(m * n, 3));
    let (x64, w64, dy64) = (wide(&x), wide(&w), wide(&dy));
    let dx = oracle::ab(m, k, n, &dy64, &w64);
    let dw = oracle::atb(n, k, m, &dy64, &x64);
    assert_is_gradient("dx", &x64, &dy64, |x| oracle::abt(m, n, k, x, &w64), &dx);
    assert_is_gradient("dw", &w64, &dy64, |w| oracle::abt(m, n, k, &x64, w), &dw);
    on_each_device(|pass| {
        let (x, w) = (pass.upload(&x, &[m, k]).unwrap(), pass.upload(&w, &[n, k]).unwrap());
        let dy = pass.upload(&dy, &[m, n]).unwrap();
        let (mut dw_out, mut dbias) = (pass.zeros(&[n, k]).unwrap(), pass.zeros(&[n]).unwrap());
        let dx_out = linear_backward(pass, &x, &w, &dy, &mut dw_out, &mut dbias).unwrap();
        assert_within("dx", &checked_read(pass, "dx", &dx_out), &dx, |_| sum_tolerance(n, n as f64));
        assert_within("dw", &checked_read(pass, "dw", &dw_out), &dw, |_| sum_tolerance(m, m as f64));
        let sums: Vec<f64> = (0..n).map(|j| dy64.iter().skip(j).step_by(n).sum()).collect();
        assert_within("dbias", &checked_read(pass, "dbias", &dbias), &sums, |_| sum_tolerance(m, m as f64));
    });
}

#[test]
fn inner_lengths_that_differ_are_named() {
    on_each_device(|pass| {
        let (a, b) = (pass.zeros(&[2, 3]).unwrap(), pass.zeros(&[4, 5]).unwrap());
        let error = forward(pass, Form::AB, &a, &b).unwrap_err().to_string();
        assert_eq!(error, "matmul: inner length of b has shape [4], expected [3]");
        assert!(batched(pass, Form::AB, &a, &b).is_err());
    });
}

/// The CPU device with products in bf16.
fn rounding(threads: usize) -> crate::Device {
    let options =
        crate::DeviceOptions { threads, checked: true, precision: crate::Precision::Bf16, ..Default::default() };
    crate::Device::open(&crate::DeviceRequest::Cpu, options).unwrap()
}

/// The same values as bf16 has them.
fn rounded(values: &[f32]) -> Vec<f64> {
    values.iter().map(|value| half::bf16::from_f32(*value).to_f64()).collect()
}

#[test]
fn bf16_products_equal_the_oracle_on_rounded_operands() {
    let mut pass = rounding(2).pass();
    // Beyond one block of rows, one run of depths, and one pair of blocks; depths whose last part is of another length.
    let deep = [2049, 3074, 4098, 8194].map(|k| (33, 35, k));
    for (m, n, k) in SIZES.into_iter().chain([(300, 33, 65), (40, 70, 2100), (64, 64, 64)]).chain(deep) {
        let (a, b, start) = (random(m * k, 1), random(k * n, 2), random(m * n, 3));
        for form in FORMS {
            let exact = form.oracle();
            let want = exact(m, n, k, &rounded(&a), &rounded(&b));
            let magnitude = exact(m, n, k, &magnitudes(&rounded(&a)), &magnitudes(&rounded(&b)));
            let (a_shape, b_shape) = form.shapes(m, n, k);
            let (a, b) = (pass.upload(&a, &a_shape).unwrap(), pass.upload(&b, &b_shape).unwrap());
            let y = forward(&mut pass, form, &a, &b).unwrap();
            let name = format!("{form:?} {m}x{n}x{k}");
            assert_within(&name, &checked_read(&mut pass, &name, &y), &want, |i| sum_tolerance(k, magnitude[i]));
            let mut out = pass.upload(&start, &[m, n]).unwrap();
            accumulate(&mut pass, form, &a, &b, &mut out).unwrap();
            let added: Vec<f64> = want.iter().zip(&start).map(|(y, start)| y + f64::from(*start)).collect();
            let tolerance = |i: usize| sum_tolerance(k + 1, magnitude[i] + 1.0);
            assert_within(&name, &checked_read(&mut pass, &name, &out), &added, tolerance);
        }
    }
}

#[test]
fn bf16_layers_add_bias_and_activation_in_f32() {
    let mut pass = rounding(2).pass();
    let (m, n, k) = (70, 37, 45);
    let (x, w, bias) = (random(m * k, 1), random(n * k, 2), random(n, 3));
    let mut want = oracle::abt(m, n, k, &rounded(&x), &rounded(&w));
    want.iter_mut().enumerate().for_each(|(i, y)| *y += f64::from(bias[i % n]));
    let (x, w) = (pass.upload(&x, &[m, k]).unwrap(), pass.upload(&w, &[n, k]).unwrap());
    let bias = pass.upload(&bias, &[n]).unwrap();
    let tolerance = sum_tolerance(k + 1, k as f64 + 1.0);
    let y = linear(&mut pass, &x, &w, &bias).unwrap();
    assert_within("y", &checked_read(&mut pass, "y", &y), &want, |_| tolerance);
    for kind in Gelu::ALL {
        let (y, slope) = linear_gelu(&mut pass, kind, &x, &w, &bias).unwrap();
        assert_eq!([y.dtype(), slope.dtype()], [DType::Bf16; 2]);
        assert_guarded(&mut pass, "y", &y);
        assert_guarded(&mut pass, "slope", &slope);
        let alone = linear_active(&mut pass, kind, &x, &w, &bias).unwrap();
        assert_guarded(&mut pass, "y alone", &alone);
        assert_eq!(alone.bf16(), y.bf16());
        let [y, slope] = [&y, &slope].map(|stored| crate::ops::cast::to_f32(&mut pass, stored).unwrap());
        // Half a unit in the last of 8 bits, on top of the sums.
        let half = |x: f64| x.abs() / 256.0;
        let slopes = gelu::oracle::slope(kind, &want);
        let sums = gelu::BEND * tolerance + gelu::SLOPE_TOLERANCE;
        assert_within("slope", &pass.read(&slope).unwrap(), &slopes, |i| 1.01 * sums + half(slopes[i]));
        let active = gelu::oracle::forward(kind, &want);
        let sums = |i: usize| gelu::STEEPEST * tolerance + gelu::TOLERANCE * (1.0 + want[i].abs());
        assert_within("y", &pass.read(&y).unwrap(), &active, |i| 1.01 * sums(i) + half(active[i]));
    }
}

#[test]
fn a_layer_goes_onto_what_passes_by_it_with_the_same_bits() {
    let (m, n, k) = (300, 37, 45);
    let (x, w, bias, residual) = (random(m * k, 1), random(n * k, 2), random(n, 3), random(m * n, 4));
    let rounding = [rounding(2)];
    for device in devices().into_iter().chain(&rounding) {
        let pass = &mut device.pass();
        let (x, w) = (pass.upload(&x, &[m, k]).unwrap(), pass.upload(&w, &[n, k]).unwrap());
        let (bias, residual) = (pass.upload(&bias, &[n]).unwrap(), pass.upload(&residual, &[m, n]).unwrap());
        let y = linear_onto(pass, &x, &w, &bias, &residual).unwrap();
        let apart = linear(pass, &x, &w, &bias).unwrap();
        let apart = crate::ops::add::forward(pass, &residual, &apart).unwrap();
        assert_eq!(checked_read(pass, "y", &y), pass.read(&apart).unwrap());
        let error = linear_onto(pass, &x, &w, &bias, &bias).unwrap_err().to_string();
        assert!(error.contains("has shape [37], expected [300, 37]"), "{error}");
    }
}

#[test]
fn a_layer_for_products_is_stored_as_they_would_round_it() {
    let (m, n, k) = (300, 37, 45);
    let (x, w, bias) = (random(m * k, 1), random(n * k, 2), random(n, 3));
    let rounding = [rounding(2)];
    for (device, stored) in devices().into_iter().map(|one| (one, DType::F32)).chain([(&rounding[0], DType::Bf16)]) {
        let pass = &mut device.pass();
        let (x, w) = (pass.upload(&x, &[m, k]).unwrap(), pass.upload(&w, &[n, k]).unwrap());
        let bias = pass.upload(&bias, &[n]).unwrap();
        let (y, got) = (linear(pass, &x, &w, &bias).unwrap(), linear_to_product(pass, &x, &w, &bias).unwrap());
        assert_eq!(got.dtype(), stored);
        assert_guarded(pass, "y", &got);
        let (mut want, mut got) = (pass.read(&y).unwrap(), got);
        if stored == DType::Bf16 {
            want.iter_mut().for_each(|y| *y = half::bf16::from_f32(*y).to_f32());
            got = crate::ops::cast::to_f32(pass, &got).unwrap();
        }
        assert_eq!(pass.read(&got).unwrap(), want);
    }
}

#[test]
fn a_gradient_goes_through_gelu_as_by_itself() {
    let (m, n, k) = (300, 45, 37);
    let (x, w1, w, dy) = (random(m * 5, 1), random(k * 5, 2), random(n * k, 3), random(m * n, 4));
    let rounding = [rounding(2)];
    for device in devices().into_iter().chain(&rounding) {
        let pass = &mut device.pass();
        let (x, w1) = (pass.upload(&x, &[m, 5]).unwrap(), pass.upload(&w1, &[k, 5]).unwrap());
        let (w, dy) = (pass.upload(&w, &[n, k]).unwrap(), pass.upload(&dy, &[m, n]).unwrap());
        let zero = pass.zeros(&[k]).unwrap();
        for kind in Gelu::ALL {
            let (_, slope) = linear_gelu(pass, kind, &x, &w1, &zero).unwrap();
            let dh = forward(pass, Form::AB, &dy, &w).unwrap();
            let apart = gelu::backward(pass, &slope, &dh).unwrap();
            let (mut want, mut got) = (pass.read(&apart).unwrap(), through_gelu(pass, &slope, &w, &dy).unwrap());
            assert_guarded(pass, "dpre", &got);
            assert_eq!(got.dtype(), slope.dtype());
            if got.dtype() == DType::Bf16 {
                want.iter_mut().for_each(|x| *x = half::bf16::from_f32(*x).to_f32());
                got = crate::ops::cast::to_f32(pass, &got).unwrap();
            }
            assert_eq!(pass.read(&got).unwrap(), want, "{kind:?}");
            let error = through_gelu(pass, &slope, &w1, &dy).unwrap_err().to_string();
            assert!(error.contains("inner length of b"), "{error}");
        }
    }
}

#[test]
fn operands_stored_in_bf16_give_the_same_bits_as_rounded_ones() {
    let mut pass = rounding(2).pass();
    // Deep enough for several runs and parts; blocks of rows and columns that are not whole.
    for (m, n, k) in [(70, 37, 45), (300, 65, 1100), (33, 40, 2100)] {
        let (x, identity) = (random(m * k, 1), pass.upload(&one(k), &[k, k]).unwrap());
        let zero = pass.zeros(&[k]).unwrap();
        let x = pass.upload(&x, &[m, k]).unwrap();
        // x times 1 is x rounded, in f32 and in bf16.
        let stored = linear_to_product(&mut pass, &x, &identity, &zero).unwrap();
        assert_eq!(stored.dtype(), DType::Bf16);
        let w = pass.upload(&random(n * k, 2), &[n, k]).unwrap();
        let dy = pass.upload(&random(m * n, 3), &[m, n]).unwrap();
        let (y, again) = (forward(&mut pass, Form::ABt, &x, &w), forward(&mut pass, Form::ABt, &stored, &w));
        assert_eq!(pass.read(&y.unwrap()).unwrap(), pass.read(&again.unwrap()).unwrap(), "{m}x{n}x{k} as a");
        let (dw, again) = (forward(&mut pass, Form::AtB, &dy, &x), forward(&mut pass, Form::AtB, &dy, &stored));
        assert_eq!(pass.read(&dw.unwrap()).unwrap(), pass.read(&again.unwrap()).unwrap(), "{m}x{n}x{k} as b");
        let error = pass.in_f32(|pass| forward(pass, Form::ABt, &stored, &w)).unwrap_err().to_string();
        assert!(error.contains("Bf16") || error.contains("bf16"), "{error}");
    }
}

/// The matrix 1.
fn one(n: usize) -> Vec<f32> {
    (0..n * n).map(|i| f32::from(u8::from(i / n == i % n))).collect()
}

#[test]
fn a_gpu_says_that_bf16_is_the_cpu_devices() {
    let options = crate::DeviceOptions { precision: crate::Precision::Bf16, ..Default::default() };
    let error = crate::Device::open(&crate::DeviceRequest::Gpu, options).unwrap_err().to_string();
    assert!(error.contains("lacks products in bf16") && error.contains("--precision f16"), "{error}");
}

#[test]
fn products_in_registers_match_oracle_in_every_form() {
    // Large enough for that tile; rows and columns end within it.
    for (m, n, k) in [(70, 260, 250), (129, 132, 300)] {
        for form in FORMS {
            check(form, m, n, k);
        }
    }
    let (ran, emulated) = (devices()[1].kernels_run(), devices()[1].info().software);
    assert!(!emulated || ran.iter().any(|kernel| kernel.starts_with("matmul/registers_add")), "{ran:?}");
    let (m, n, k) = (100, 196, 230);
    let (x, w, bias) = (random(m * k, 1), random(n * k, 2), random(n, 3));
    let mut want = oracle::abt(m, n, k, &wide(&x), &wide(&w));
    want.iter_mut().enumerate().for_each(|(i, y)| *y += f64::from(bias[i % n]));
    on_each_device(|pass| {
        let (x, w) = (pass.upload(&x, &[m, k]).unwrap(), pass.upload(&w, &[n, k]).unwrap());
        let bias = pass.upload(&bias, &[n]).unwrap();
        let tolerance = sum_tolerance(k + 1, k as f64 + 1.0);
        let y = linear(pass, &x, &w, &bias).unwrap();
        assert_within("linear", &checked_read(pass, "linear", &y), &want, |_| tolerance);
        for kind in Gelu::ALL {
            check_gelu(pass, kind, [&x, &w, &bias], &want, tolerance);
        }
    });
}

#[test]
fn deep_products_in_registers_are_whole() {
    // As deep as one dispatch sums, and one more: all sums are whole numbers, so they are exact.
    let (m, n, depth) = (64, 128, Tile::Registers.depth());
    let emulated = crate::device::Abilities { software: true, lanes: Tile::LANES, ..Default::default() };
    let kind = Tile::choose(emulated, Precision::F32, Form::AB, Sizes { z: 1, m, n, k: depth });
    assert_eq!(kind, Tile::Registers);
    for k in [depth, depth + 1, 3 * depth] {
        on_each_device(|pass| {
            let (a, b) = (pass.upload(&vec![1.0; m * k], &[m, k]).unwrap(), vec![1.0; k * n]);
            let (b, w) = (pass.upload(&b, &[k, n]).unwrap(), pass.upload(&b, &[n, k]).unwrap());
            let bias = pass.upload(&vec![1.0; n], &[n]).unwrap();
            let y = forward(pass, Form::AB, &a, &b).unwrap();
            // So far from 0 that GELU is what goes in, and its slope 1.
            let (active, slope) = linear_gelu(pass, Gelu::Tanh, &a, &w, &bias).unwrap();
            assert!(checked_read(pass, "y", &y).iter().all(|y| *y == k as f32));
            assert!(checked_read(pass, "active", &active).iter().all(|y| *y == (k + 1) as f32));
            assert!(checked_read(pass, "slope", &slope).iter().all(|slope| *slope == 1.0));
        });
    }
}

#[test]
fn batches_beyond_one_dispatch_dimension_are_whole() {
    let z = 65_537;
    on_each_device(|pass| {
        let a: Vec<f32> = (0..z).map(|i| i as f32).collect();
        let (a, ones) = (pass.upload(&a, &[z, 1, 1]).unwrap(), pass.upload(&vec![1.0; z], &[z, 1, 1]).unwrap());
        let y = batched(pass, Form::AB, &a, &ones).unwrap();
        assert!(checked_read(pass, "y", &y).iter().enumerate().all(|(i, y)| *y == i as f32));
    });
}

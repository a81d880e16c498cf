//! Products with operands in f16: every kernel, both devices, and what overflows.

use super::kernels::Units;
use super::tests::{FORMS, SIZES};
use super::tests_tiles::check_ends;
use super::*;
use crate::ops::gelu::{self, Gelu};
use crate::testing::*;

/// The same values as f16 has them.
fn rounded(values: &[f32]) -> Vec<f64> {
    values.iter().map(|value| half::f16::from_f32(*value).to_f64()).collect()
}

#[test]
fn f16_products_equal_the_oracle_on_rounded_operands() {
    let devices = devices_in(Precision::F16);
    // The last is large enough for products in registers on an emulated adapter.
    for (m, n, k) in SIZES.into_iter().chain([(530, 3, 2049), (70, 260, 250)]) {
        let (a, b, start) = (random(m * k, 1), random(k * n, 2), random(m * n, 3));
        for form in FORMS {
            let exact = form.oracle();
            let want = exact(m, n, k, &rounded(&a), &rounded(&b));
            let magnitude = exact(m, n, k, &magnitudes(&rounded(&a)), &magnitudes(&rounded(&b)));
            let added: Vec<f64> = want.iter().zip(&start).map(|(y, start)| y + f64::from(*start)).collect();
            let (a_shape, b_shape) = form.shapes(m, n, k);
            for device in &devices {
                let pass = &mut device.pass();
                let (a, b) = (pass.upload(&a, &a_shape).unwrap(), pass.upload(&b, &b_shape).unwrap());
                let y = forward(pass, form, &a, &b).unwrap();
                let name = format!("{form:?} {m}x{n}x{k}");
                assert_within(&name, &checked_read(pass, &name, &y), &want, |i| sum_tolerance(k, magnitude[i]));
                let mut out = pass.upload(&start, &[m, n]).unwrap();
                accumulate(pass, form, &a, &b, &mut out).unwrap();
                let tolerance = |i: usize| sum_tolerance(k + 1, magnitude[i] + 1.0);
                assert_within(&name, &checked_read(pass, &name, &out), &added, tolerance);
                tally(device);
            }
        }
    }
}

#[test]
fn f16_layers_add_bias_and_activation_in_f32() {
    let (m, n, k) = (70, 37, 45);
    let (x, w, bias) = (random(m * k, 1), random(n * k, 2), random(n, 3));
    let mut want = oracle::abt(m, n, k, &rounded(&x), &rounded(&w));
    want.iter_mut().enumerate().for_each(|(i, y)| *y += f64::from(bias[i % n]));
    let active = gelu::oracle::forward(Gelu::Tanh, &want);
    let slopes = gelu::oracle::slope(Gelu::Tanh, &want);
    for device in devices_in(Precision::F16) {
        let pass = &mut device.pass();
        let (x, w) = (pass.upload(&x, &[m, k]).unwrap(), pass.upload(&w, &[n, k]).unwrap());
        let bias = pass.upload(&bias, &[n]).unwrap();
        let tolerance = sum_tolerance(k + 1, k as f64 + 1.0);
        let (y, slope) = linear_gelu(pass, Gelu::Tanh, &x, &w, &bias).unwrap();
        let slack = gelu::BEND * tolerance + gelu::SLOPE_TOLERANCE;
        assert_within("slope", &checked_read(pass, "slope", &slope), &slopes, |_| slack);
        let slack = |i: usize| gelu::STEEPEST * tolerance + gelu::TOLERANCE * (1.0 + want[i].abs());
        assert_within("y", &checked_read(pass, "y", &y), &active, slack);
    }
}

#[test]
fn every_kernel_on_f16_matches_the_oracle_with_every_end() {
    let pass = &mut devices()[1].pass();
    check_ends(pass, Tile::Small, true, (33, 35, 19), 0);
    check_ends(pass, Tile::Large, true, (65, 130, 35), 0);
    check_ends(pass, Tile::Wide, true, (132, 260, 44), 20);
    check_ends(pass, Tile::Registers, true, (19, 132, 33), 0);
    check_ends(pass, Tile::Subgroup, true, (35, 132, 43), 20);
}

#[test]
fn the_tiles_of_matrix_units_match_the_oracle_with_every_end() {
    // Matrix units are asked for in f16 alone.
    let [_, gpu] = devices_in(Precision::F16);
    let pass = &mut gpu.pass();
    check_ends(pass, Tile::Emulated(Units::Fours), true, (132, 148, 36), 20);
    // Three steps in one dispatch, so that either of two tiles is written again.
    check_ends(pass, Tile::Emulated(Units::Narrow), true, (72, 136, 104), 24);
    // Without matrix units only the unit itself is emulated: tiles, edges, order of memory and ends are theirs.
    if pass.abilities().matrices {
        check_ends(pass, Tile::Matrix(Units::Fours), true, (132, 148, 36), 20);
        check_ends(pass, Tile::Matrix(Units::Deep), true, (136, 152, 104), 24);
        check_ends(pass, Tile::Matrix(Units::Narrow), true, (72, 136, 104), 24);
        let agree = trial::matrices_agree(pass).unwrap() && trial::doubled_tiles_agree(pass).unwrap();
        assert!(agree, "the units are there, and are not used");
    }
}

#[test]
fn a_trial_tells_right_products_from_wrong_ones() {
    let mut pass = devices()[1].pass();
    for form in FORMS {
        let other = if form == Form::AB { Form::AtB } else { Form::AB };
        for tile in [Units::Fours, Units::Narrow].map(Tile::Emulated) {
            let variant = |form| kernels::variant(form, Store::Write, tile, true);
            assert!(trial::agrees(&mut pass, form, tile, &variant(form)).unwrap());
            assert!(!trial::agrees(&mut pass, form, tile, &variant(other)).unwrap());
        }
    }
}

/// A kernel that is refused tells against the units; a device that is lost or full tells nothing.
#[test]
fn a_trial_that_fails_for_another_reason_is_an_error() {
    let refused = || Err(KernelError::Shader { kernel: "matmul/matrix_write".into(), reason: "refused".into() });
    let told = std::sync::OnceLock::new();
    assert!(!trial::once(&told, refused).unwrap() && !trial::once(&told, || Ok(true)).unwrap());
    let told = std::sync::OnceLock::new();
    let full = || Err(KernelError::OutOfMemory { bytes: 1, in_use: 1 });
    assert!(trial::once(&told, full).is_err() && trial::once(&told, || Ok(true)).unwrap());
    let little = crate::DeviceLimits { memory_bytes: Some(4096), ..Default::default() };
    let device = lesser_gpu(little);
    let full = trial::matrices_agree(&mut device.pass()).unwrap_err();
    assert!(matches!(full, KernelError::OutOfMemory { .. }), "{full}");
    let device = lesser_gpu(Default::default());
    let pass = &mut device.pass();
    lose(&device);
    let lost = trial::matrices_agree(pass).unwrap_err();
    assert!(matches!(lost, KernelError::Lost { .. }), "{lost}");
    if !pass.abilities().matrices {
        let refused = trial::matrices_agree(&mut lesser_gpu(Default::default()).pass());
        assert!(!refused.unwrap(), "an adapter without units refuses their kernels");
    }
}

#[test]
fn what_f16_cannot_hold_is_not_finite_and_f32_can_be_asked_for() {
    for device in devices_in(Precision::F16) {
        let pass = &mut device.pass();
        let a = pass.upload(&[70_000.0, 1.0, 1.0, 1.0], &[2, 2]).unwrap();
        let b = pass.upload(&[1.0, 0.0, 0.0, 1.0], &[2, 2]).unwrap();
        let y = forward(pass, Form::AB, &a, &b).unwrap();
        let y = pass.read(&y).unwrap();
        assert!(!y[0].is_finite() && y[2..] == [1.0, 1.0], "{y:?}");
        let exact = pass.in_f32(|pass| forward(pass, Form::AB, &a, &b)).unwrap();
        assert_eq!(pass.read(&exact).unwrap(), [70_000.0, 1.0, 1.0, 1.0]);
    }
}

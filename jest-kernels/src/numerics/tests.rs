//! That every operation and every kernel is in the report, and that what it reports is small.

use std::collections::BTreeSet;

use super::*;
use crate::testing::{devices_in, lesser_gpu, tally};
use crate::{DeviceLimits, Precision, catalog};

/// Rounding of an operand: half a unit of the last place, and as much again for the other operand.
fn limit(line: &Line) -> f64 {
    let layer = line.what.starts_with("linear");
    match () {
        () if (layer || line.what.starts_with("attention")) && line.what.contains(" bf16") => 2f64.powi(-7),
        () if layer && line.what.contains(" f16") => 2f64.powi(-10),
        // Weights within 2^-10, of values that cancel in part.
        () if line.what.starts_with("attention f16") => 2f64.powi(-8),
        () => 1e-4,
    }
}

#[test]
fn every_kernel_of_the_catalogue_is_in_the_report_and_exact() {
    let [cpu, gpu] = devices_in(Precision::F16);
    for device in [&cpu, &gpu] {
        let lines = measure(&mut device.pass(), &[1.0]).unwrap();
        tally(device);
        for line in &lines {
            assert!(line.errors.iter().all(|error| *error <= limit(line)), "{line:?}");
        }
        let told: BTreeSet<_> = lines.iter().map(|line| line.what.split([':', ' ']).next().unwrap()).collect();
        for operation in operations() {
            assert!(told.contains(operation), "no case of {operation} in {told:?}");
        }
    }
    // Reductions have a form for subgroups, and one for adapters without; products do not reduce.
    let plain = lesser_gpu(DeviceLimits { without_subgroups: true, ..Default::default() });
    let reducing = [elements::CASES, losses::CASES].concat();
    for line in measure_cases(&mut plain.pass(), &reducing, &[1.0]).unwrap() {
        assert!(line.errors.iter().all(|error| *error <= limit(&line)), "{line:?}");
    }
    let has = gpu.pass().abilities();
    let run: BTreeSet<_> = gpu.kernels_run().into_iter().chain(plain.kernels_run()).collect();
    let can = |variant: &catalog::Variant| has.matrices || !variant.needs().matrices;
    let left_out: Vec<_> =
        catalog::all().iter().filter(|one| can(one)).map(|one| one.key()).filter(|key| !run.contains(key)).collect();
    assert!(left_out.is_empty(), "no case dispatches {left_out:#?}");
}

/// Modules of `ops`.
fn operations() -> impl Iterator<Item = &'static str> {
    let modules = include_str!("../ops/mod.rs").lines();
    modules.filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'))
}

#[test]
fn every_operation_is_in_the_benchmarks() {
    let benchmarks =
        [include_str!("../../benches/throughput.rs"), include_str!("../../benches/throughput/rare.rs")].concat();
    for operation in operations() {
        let timed = ["/", "\""].iter().any(|end| benchmarks.contains(&format!("(\"{operation}{end}")));
        assert!(timed, "{operation} is timed nowhere in benches/throughput.rs");
    }
}

#[test]
fn nan_and_missing_elements_are_errors_without_bound() {
    let [cpu, _] = crate::testing::devices();
    let pass = &mut cpu.pass();
    for (got, want, error) in [
        (&[1.0, 2.0][..], &[1.0, 4.0][..], 0.5),
        (&[f32::NAN, 1.0], &[1.0, 1.0], f64::NAN),
        (&[1.0], &[1.0, 1.0], f64::NAN),
    ] {
        let tensor = pass.upload(got, &[got.len()]).unwrap();
        let mut trial = Trial { pass, rows: 1, cols: 1, magnitude: 1.0, errors: Vec::new() };
        trial.compare("x", &tensor, want).unwrap();
        assert_eq!(trial.errors[0].1.to_bits(), error.to_bits());
        let mut lines = Vec::new();
        for (error, shape) in [(0.1, [1, 1]), (error, [2, 2]), (0.2, [3, 3])] {
            note(&mut lines, "x".into(), (0, 1), error, shape);
        }
        let Line { errors, shape, .. } = &lines[0];
        assert!((errors[0].is_nan() || errors[0] == 0.5) && *shape == [2, 2], "{lines:?}");
    }
}

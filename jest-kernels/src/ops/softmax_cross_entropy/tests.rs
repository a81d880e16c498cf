use super::*;
use crate::testing::*;
use crate::{Device, DeviceOptions, DeviceRequest};

fn inputs(rows: usize, classes: usize, range: f32) -> (Vec<f32>, Vec<u32>) {
    let logits = random(rows * classes, 1).iter().map(|x| x * range).collect();
    let labels = random(rows, 2).iter().map(|x| ((x + 1.0) * 0.5 * classes as f32) as u32).collect();
    (logits, labels)
}

/// Errors: of the logits' differences, of a sum of `classes` exponentials, of a driver's exp (`3 + 2 |x|` ulp) and log
/// (2^-21).
fn check(rows: usize, classes: usize, range: f32) {
    let (logits, labels) = inputs(rows, classes, range);
    let want = oracle::forward(classes, &wide(&logits), &labels);
    let gradient = oracle::backward(classes, &wide(&logits), &labels);
    let relative = EPS * (classes as f64 + 32.0 + 16.0 * f64::from(range.min(88.0)));
    let loss_slack = relative + EPS * (8.0 + rows as f64 / 64.0) * (want + f64::from(range));
    let weight = 1.0 / rows as f64;
    let name = format!("{rows}x{classes}");
    on_every_kernel(|pass| {
        let uploaded = pass.upload(&logits, &[rows, classes]).unwrap();
        let labels_in = Labels::upload(pass, &labels, classes).unwrap();
        let only = forward(pass, &uploaded, &labels_in).unwrap();
        assert_within(&name, &checked_read(pass, "forward", &only), &[want], |_| loss_slack);
        let (loss, dlogits) = forward_backward(pass, &uploaded, &labels_in).unwrap();
        assert_within(&name, &checked_read(pass, "loss", &loss), &[want], |_| loss_slack);
        let slack = |i: usize| {
            let own = if labels[i / classes] as usize == i % classes { weight } else { 0.0 };
            (gradient[i] + own) * relative + 2.0 * EPS * own + 1e-37
        };
        assert_within(&name, &checked_read(pass, "dlogits", &dlogits), &gradient, slack);
    });
}

#[test]
fn matches_oracle_on_ragged_shapes() {
    for n in RAGGED {
        check(5, n, 8.0);
        check(n, 3, 4.0);
    }
    // Over one piece of a row.
    check(3, 9001, 8.0);
}

#[test]
fn matches_oracle_beyond_one_dispatch_dimension() {
    check(65_537, 3, 2.0);
}

#[test]
fn extreme_logits_do_not_overflow() {
    check(7, 70, 1e3);
    check(7, 70, 80.0);
    check(2, 9001, 1e4);
}

#[test]
fn oracle_backward_is_the_derivative() {
    let (logits, labels) = inputs(3, 5, 2.0);
    let logits = wide(&logits);
    let gradient = oracle::backward(5, &logits, &labels);
    assert_is_gradient("dlogits", &logits, &[1.0], |x| vec![oracle::forward(5, x, &labels)], &gradient);
}

#[test]
fn results_do_not_depend_on_the_thread_count() {
    let (logits, labels) = inputs(333, 129, 5.0);
    let run = |threads: usize| {
        let options = DeviceOptions { threads, checked: false, ..Default::default() };
        let mut pass = Device::open(&DeviceRequest::Cpu, options).unwrap().pass();
        let logits = pass.upload(&logits, &[333, 129]).unwrap();
        let labels = Labels::upload(&mut pass, &labels, 129).unwrap();
        let (loss, dlogits) = forward_backward(&mut pass, &logits, &labels).unwrap();
        [loss, dlogits].map(|tensor| pass.read(&tensor).unwrap())
    };
    assert_eq!(run(1), run(3));
}

#[test]
fn nan_in_one_row_reaches_the_loss_and_that_row() {
    on_every_kernel(|pass| {
        let (mut values, labels) = inputs(3, 40, 2.0);
        values[45] = f32::NAN;
        let logits = pass.upload(&values, &[3, 40]).unwrap();
        let labels = Labels::upload(pass, &labels, 40).unwrap();
        let only = forward(pass, &logits, &labels).unwrap();
        let (loss, dlogits) = forward_backward(pass, &logits, &labels).unwrap();
        assert!(pass.read(&loss).unwrap()[0].is_nan() && pass.read(&only).unwrap()[0].is_nan());
        let dlogits = pass.read(&dlogits).unwrap();
        assert!(dlogits[..40].iter().chain(&dlogits[80..]).all(|v| v.is_finite()));
        assert!(dlogits[40..80].iter().all(|v| v.is_nan()), "NaN must not be hidden");
    });
}

#[test]
fn wrong_labels_and_shapes_are_named() {
    on_every_kernel(|pass| {
        let error = Labels::upload(pass, &[3, 7, 1], 7).unwrap_err().to_string();
        assert_eq!(error, "softmax_cross_entropy: label is 7, but must be below the 7 classes (row 1)");
        let labels = Labels::upload(pass, &[3, 6], 7).unwrap();
        let logits = pass.zeros(&[2, 8]).unwrap();
        let error = forward(pass, &logits, &labels).unwrap_err().to_string();
        assert_eq!(error, "softmax_cross_entropy: logits has shape [2, 8], expected [2, 7]");
    });
}

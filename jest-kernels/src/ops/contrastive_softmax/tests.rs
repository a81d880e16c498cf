use super::*;
use crate::testing::*;
use crate::{Device, DeviceOptions, DeviceRequest};

/// The oracle's results and how far f32 may be from them.
struct Expected {
    loss: f64,
    loss_slack: f64,
    gradients: oracle::Gradients,
    image_slack: Vec<f64>,
    text_slack: Vec<f64>,
    scale_slack: f64,
}

/// With `off` the largest error of a logit: a log-sum-exp is off by as much, a probability p by p times twice that, the
/// rounding of its sum, and a driver's exp (`3 + 2 |x|` ulp) and log (2^-21).
fn expected(d: usize, image: &[f32], text: &[f32], log_scale: f32) -> Expected {
    let (image, text, log_scale) = (wide(image), wide(text), f64::from(log_scale));
    let (n, t) = (image.len() / d, log_scale.exp());
    let (image_size, text_size) = (magnitudes(&image), magnitudes(&text));
    let g = oracle::by_logits(d, &image, &text, log_scale);
    let sizes = oracle::logits(d, &image_size, &text_size, log_scale);
    let off = EPS * (d as f64 + 8.0) * largest(&sizes);
    let relative = (2.0 * off).exp_m1() + EPS * (n as f64 + 24.0 + 8.0 * largest(&sizes).min(88.0));
    let mut out = Expected {
        loss: oracle::forward(d, &image, &text, log_scale),
        loss_slack: 2.0 * off + EPS * (2.0 * n as f64 + 32.0) * (1.0 + largest(&sizes)),
        gradients: oracle::backward(d, &image, &text, log_scale),
        image_slack: vec![1e-30; n * d],
        text_slack: vec![1e-30; n * d],
        scale_slack: 1e-30,
    };
    for i in 0..n {
        for j in 0..n {
            let own = if i == j { 1.0 / n as f64 } else { 0.0 };
            let p = g[i * n + j] + own;
            let g_slack = p * relative + EPS * own + 1e-37;
            let sum_slack = g_slack + (p + own) * EPS * (n as f64 + 4.0);
            out.scale_slack += sum_slack * sizes[i * n + j] + (p + own) * off;
            for k in 0..d {
                out.image_slack[i * d + k] += t * sum_slack * text_size[j * d + k];
                out.text_slack[j * d + k] += t * sum_slack * image_size[i * d + k];
            }
        }
    }
    out
}

/// `stripe`: rows of a stripe on a GPU; 0 for what the public function takes.
fn run(
    pass: &mut Pass,
    [image, text, log_scale]: [&Tensor; 3],
    dlog_scale: &mut Tensor,
    stripe: usize,
) -> (Tensor, Tensor, Tensor) {
    if stripe == 0 || pass.cpu().is_some() {
        forward_backward(pass, image, text, log_scale, dlog_scale).unwrap()
    } else {
        gradients_on_gpu(pass, image, text, log_scale, dlog_scale, stripe).unwrap()
    }
}

fn check(n: usize, d: usize, log_scale: f32, stripe: usize) {
    let [image, text] = paired_embeddings(n, d);
    let want = expected(d, &image, &text, log_scale);
    let name = |part: &str| format!("{part} of {n}x{d} at {log_scale}");
    on_every_kernel(|pass| {
        let [image, text] = [&image, &text].map(|rows| pass.upload(rows, &[n, d]).unwrap());
        let log_scale = pass.upload(&[log_scale], &[1]).unwrap();
        let compare = |pass: &mut Pass, part: &str, got: &Tensor, want: &[f64], slack: &dyn Fn(usize) -> f64| {
            assert_within(&name(part), &checked_read(pass, part, got), want, slack);
        };
        let only = forward(pass, &image, &text, &log_scale).unwrap();
        compare(pass, "forward", &only, &[want.loss], &|_| want.loss_slack);
        let mut dlog_scale = pass.upload(&[1.0], &[1]).unwrap();
        let untouched = dlog_scale.clone();
        let (loss, dimage, dtext) = run(pass, [&image, &text, &log_scale], &mut dlog_scale, stripe);
        compare(pass, "loss", &loss, &[want.loss], &|_| want.loss_slack);
        compare(pass, "dimage", &dimage, &want.gradients.dimage, &|i| want.image_slack[i]);
        compare(pass, "dtext", &dtext, &want.gradients.dtext, &|i| want.text_slack[i]);
        let by_scale = 1.0 + want.gradients.dlog_scale;
        compare(pass, "dlog_scale", &dlog_scale, &[by_scale], &|_| want.scale_slack + 2.0 * EPS * (1.0 + by_scale));
        assert_eq!(pass.read(&untouched).unwrap(), [1.0], "a clone keeps its own value");
    });
}

#[test]
fn matches_oracle_on_ragged_shapes() {
    for (n, d) in [(1, 1), (3, 129), (31, 16), (33, 3), (255, 2), (257, 5), (300, 33)] {
        check(n, d, 2.0, 0);
    }
}

#[test]
fn stripes_join_without_a_seam() {
    for (n, d) in [(33, 5), (65, 3), (100, 7)] {
        check(n, d, 1.5, 32);
    }
    check(1030, 3, 1.0, 0);
}

#[test]
fn extreme_logits_do_not_overflow() {
    check(65, 24, 118.0f32.ln(), 0);
    check(300, 8, 1e3f32.ln(), 32);
    check(40, 8, -5.0, 0);
}

#[test]
fn oracle_backward_is_the_derivative() {
    let (n, d, log_scale) = (4, 3, 1.2);
    let [image, text] = paired_embeddings(n, d).map(|rows| wide(&rows));
    let want = oracle::backward(d, &image, &text, log_scale);
    let loss = |image: &[f64], text: &[f64], scale| vec![oracle::forward(d, image, text, scale)];
    assert_is_gradient("dimage", &image, &[1.0], |image| loss(image, &text, log_scale), &want.dimage);
    assert_is_gradient("dtext", &text, &[1.0], |text| loss(&image, text, log_scale), &want.dtext);
    let scale = |scale: &[f64]| loss(&image, &text, scale[0]);
    assert_is_gradient("dlog_scale", &[log_scale], &[1.0], scale, &[want.dlog_scale]);
}

#[test]
fn results_do_not_depend_on_the_thread_count() {
    let (n, d) = (700, 19);
    let [image, text] = paired_embeddings(n, d);
    let run = |threads: usize| {
        let options = DeviceOptions { threads, checked: false, ..Default::default() };
        let mut pass = Device::open(&DeviceRequest::Cpu, options).unwrap().pass();
        let [image, text] = [&image, &text].map(|rows| pass.upload(rows, &[n, d]).unwrap());
        let log_scale = pass.upload(&[2.0], &[1]).unwrap();
        let mut dlog_scale = pass.zeros(&[1]).unwrap();
        let (loss, dimage, dtext) = forward_backward(&mut pass, &image, &text, &log_scale, &mut dlog_scale).unwrap();
        [loss, dimage, dtext, dlog_scale].map(|tensor| pass.read(&tensor).unwrap())
    };
    assert_eq!(run(1), run(3));
}

#[test]
fn nan_reaches_the_loss() {
    on_every_kernel(|pass| {
        let [mut image, text] = paired_embeddings(40, 3);
        image[50] = f32::NAN;
        let [image, text] = [&image, &text].map(|rows| pass.upload(rows, &[40, 3]).unwrap());
        let (log_scale, mut dlog_scale) = (pass.upload(&[2.0], &[1]).unwrap(), pass.zeros(&[1]).unwrap());
        let (loss, dimage, dtext) = forward_backward(pass, &image, &text, &log_scale, &mut dlog_scale).unwrap();
        let only = forward(pass, &image, &text, &log_scale).unwrap();
        for tensor in [loss, only, dlog_scale, dimage, dtext] {
            assert!(pass.read(&tensor).unwrap().iter().all(|x| x.is_nan()), "NaN must not be hidden");
        }
    });
}

#[test]
fn wrong_shapes_are_named() {
    on_every_kernel(|pass| {
        let (image, text) = (pass.zeros(&[4, 3]).unwrap(), pass.zeros(&[4, 2]).unwrap());
        let one = pass.zeros(&[1]).unwrap();
        let message = forward(pass, &image, &text, &one).unwrap_err().to_string();
        assert_eq!(message, "contrastive_softmax: text has shape [4, 2], expected [4, 3]");
        let message = forward(pass, &image, &image, &text).unwrap_err().to_string();
        assert_eq!(message, "contrastive_softmax: log_scale has shape [4, 2], expected [1]");
    });
}

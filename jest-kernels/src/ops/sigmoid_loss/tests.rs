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
    bias_slack: f64,
}

/// Errors of a logit come from the product's d terms and the scale; they pass through softplus with slope `sigmoid`
/// and through sigmoid with slope `sigmoid (1 - sigmoid)`. A driver's exp may be off by `3 + 2 |x|` ulp.
fn expected(d: usize, image: &[f32], text: &[f32], log_scale: f32, bias: f32) -> Expected {
    let (image, text, log_scale, bias) = (wide(image), wide(text), f64::from(log_scale), f64::from(bias));
    let (n, t) = (image.len() / d, log_scale.exp());
    let (image_size, text_size) = (magnitudes(&image), magnitudes(&text));
    let g = oracle::by_logits(d, &image, &text, log_scale, bias);
    let mut out = Expected {
        loss: oracle::forward(d, &image, &text, log_scale, bias),
        loss_slack: 0.0,
        gradients: oracle::backward(d, &image, &text, log_scale, bias),
        image_slack: vec![1e-30; n * d],
        text_slack: vec![1e-30; n * d],
        scale_slack: 1e-30,
        bias_slack: 1e-30,
    };
    for i in 0..n {
        for j in 0..n {
            let size = t * oracle::dot(d, &image_size, i, &text_size, j);
            let logit = t * oracle::dot(d, &image, i, &text, j) + bias;
            let off = EPS * ((d as f64 + 8.0) * size + 2.0 * bias.abs());
            let slope = g[i * n + j].abs();
            let loss = oracle::softplus(if i == j { -logit } else { logit }) / n as f64;
            let relative = EPS * (16.0 + 4.0 * logit.abs().min(88.0) + n as f64);
            // Over a large error the slope itself changes, at most by the factor exp(off), and never beyond 1.
            let steep = (slope * off.exp()).min(1.0 / n as f64);
            out.loss_slack += steep * off + relative * loss + 1e-37;
            let g_slack = steep * off * (1.0 - slope * n as f64 + off).min(1.0) + relative * slope + 1e-37;
            out.bias_slack += g_slack;
            out.scale_slack += g_slack * size + slope * EPS * (d as f64 + n as f64 + 8.0) * size;
            for k in 0..d {
                out.image_slack[i * d + k] += t * (g_slack + slope * EPS * n as f64) * text_size[j * d + k];
                out.text_slack[j * d + k] += t * (g_slack + slope * EPS * n as f64) * image_size[i * d + k];
            }
        }
    }
    out
}

type Run =
    fn(&mut Pass, &Tensor, &Tensor, LogitParameters<'_>, &mut Tensor, &mut Tensor) -> Result<(Tensor, Tensor, Tensor)>;

/// Many stripes on any device: the GPU's own stripe is cut to 32 rows.
fn in_small_stripes(
    pass: &mut Pass,
    image: &Tensor,
    text: &Tensor,
    parameters: LogitParameters<'_>,
    dlog_scale: &mut Tensor,
    dbias: &mut Tensor,
) -> Result<(Tensor, Tensor, Tensor)> {
    if pass.cpu().is_some() {
        return forward_backward(pass, image, text, parameters, dlog_scale, dbias);
    }
    let (loss, _, _) = gradients_on_gpu(pass, image, text, parameters, dlog_scale, dbias, 32)?;
    let again = forward_on_gpu(pass, image, text, parameters, 32)?;
    assert!((pass.read(&loss)?[0] - pass.read(&again)?[0]).abs() <= 1e-5 * pass.read(&again)?[0]);
    (*dlog_scale, *dbias) = (pass.upload(&[1.0], &[1])?, pass.upload(&[1.0], &[1])?);
    gradients_on_gpu(pass, image, text, parameters, dlog_scale, dbias, 32)
}

fn check(n: usize, d: usize, log_scale: f32, bias: f32, run: Run) {
    let [image, text] = paired_embeddings(n, d);
    let want = expected(d, &image, &text, log_scale, bias);
    let name = |part: &str| format!("{part} of {n}x{d} at {log_scale}, {bias}");
    on_every_kernel(|pass| {
        let [image, text] = [&image, &text].map(|rows| pass.upload(rows, &[n, d]).unwrap());
        let [log_scale, bias] = [log_scale, bias].map(|value| pass.upload(&[value], &[1]).unwrap());
        let parameters = LogitParameters { log_scale: &log_scale, bias: &bias };
        let only = forward(pass, &image, &text, parameters).unwrap();
        let compare = |pass: &mut Pass, part: &str, got: &Tensor, want: &[f64], slack: &dyn Fn(usize) -> f64| {
            assert_within(&name(part), &checked_read(pass, part, got), want, slack);
        };
        compare(pass, "forward", &only, &[want.loss], &|_| want.loss_slack);
        let [mut dlog_scale, mut dbias] = [1.0; 2].map(|start| pass.upload(&[start], &[1]).unwrap());
        let untouched = (dlog_scale.clone(), dbias.clone());
        let (loss, dimage, dtext) = run(pass, &image, &text, parameters, &mut dlog_scale, &mut dbias).unwrap();
        compare(pass, "loss", &loss, &[want.loss], &|_| want.loss_slack);
        compare(pass, "dimage", &dimage, &want.gradients.dimage, &|i| want.image_slack[i]);
        compare(pass, "dtext", &dtext, &want.gradients.dtext, &|i| want.text_slack[i]);
        let (scale, bias) = (want.gradients.dlog_scale, want.gradients.dbias);
        compare(pass, "dlog_scale", &dlog_scale, &[1.0 + scale], &|_| want.scale_slack + 2.0 * EPS * scale.abs());
        compare(pass, "dbias", &dbias, &[1.0 + bias], &|_| want.bias_slack + 2.0 * EPS * (1.0 + bias.abs()));
        for kept in [untouched.0, untouched.1] {
            assert_eq!(pass.read(&kept).unwrap(), [1.0], "a clone keeps its own value");
        }
    });
}

#[test]
fn matches_oracle_on_ragged_shapes() {
    for (n, d) in [(1, 1), (3, 129), (31, 16), (33, 3), (255, 2), (257, 5), (300, 33)] {
        check(n, d, 2.0, -3.0, forward_backward);
    }
    check(33, 257, 2.3, -10.0, forward_backward);
}

#[test]
fn stripes_join_without_a_seam() {
    for (n, d) in [(33, 5), (65, 3), (100, 7)] {
        check(n, d, 1.5, -2.0, in_small_stripes);
    }
    check(1030, 3, 1.0, -4.0, forward_backward);
}

#[test]
fn extreme_logits_keep_their_precision() {
    check(65, 24, 118.0f32.ln(), -12.7, forward_backward);
    check(40, 8, 1e3f32.ln(), -10.0, forward_backward);
    check(40, 8, -3.0, -80.0, forward_backward);
    check(40, 8, -3.0, 60.0, forward_backward);
}

#[test]
fn oracle_backward_is_the_derivative() {
    let (n, d, log_scale, bias) = (4, 3, 1.2, -0.7);
    let [image, text] = paired_embeddings(n, d).map(|rows| wide(&rows));
    let want = oracle::backward(d, &image, &text, log_scale, bias);
    let loss = |image: &[f64], text: &[f64], scale, bias| vec![oracle::forward(d, image, text, scale, bias)];
    assert_is_gradient("dimage", &image, &[1.0], |image| loss(image, &text, log_scale, bias), &want.dimage);
    assert_is_gradient("dtext", &text, &[1.0], |text| loss(&image, text, log_scale, bias), &want.dtext);
    let scale = |scale: &[f64]| loss(&image, &text, scale[0], bias);
    assert_is_gradient("dlog_scale", &[log_scale], &[1.0], scale, &[want.dlog_scale]);
    assert_is_gradient("dbias", &[bias], &[1.0], |bias| loss(&image, &text, log_scale, bias[0]), &[want.dbias]);
}

#[test]
fn results_do_not_depend_on_the_thread_count() {
    let (n, d) = (700, 19);
    let [image, text] = paired_embeddings(n, d);
    let run = |threads: usize| {
        let options = DeviceOptions { threads, checked: false, ..Default::default() };
        let mut pass = Device::open(&DeviceRequest::Cpu, options).unwrap().pass();
        let [image, text] = [&image, &text].map(|rows| pass.upload(rows, &[n, d]).unwrap());
        let [log_scale, bias] = [2.0, -5.0].map(|value| pass.upload(&[value], &[1]).unwrap());
        let parameters = LogitParameters { log_scale: &log_scale, bias: &bias };
        let [mut dlog_scale, mut dbias] = [0; 2].map(|_| pass.zeros(&[1]).unwrap());
        let (loss, dimage, dtext) =
            forward_backward(&mut pass, &image, &text, parameters, &mut dlog_scale, &mut dbias).unwrap();
        let only = forward(&mut pass, &image, &text, parameters).unwrap();
        [loss, dimage, dtext, dlog_scale, dbias, only].map(|tensor| pass.read(&tensor).unwrap())
    };
    assert_eq!(run(1), run(3));
}

#[test]
fn nan_reaches_the_loss() {
    on_every_kernel(|pass| {
        let [mut image, text] = paired_embeddings(40, 3);
        image[50] = f32::NAN;
        let [image, text] = [&image, &text].map(|rows| pass.upload(rows, &[40, 3]).unwrap());
        let [log_scale, bias] = [2.0, -5.0].map(|value| pass.upload(&[value], &[1]).unwrap());
        let parameters = LogitParameters { log_scale: &log_scale, bias: &bias };
        let [mut dlog_scale, mut dbias] = [0; 2].map(|_| pass.zeros(&[1]).unwrap());
        let (loss, dimage, dtext) =
            forward_backward(pass, &image, &text, parameters, &mut dlog_scale, &mut dbias).unwrap();
        let only = forward(pass, &image, &text, parameters).unwrap();
        for scalar in [loss, only, dlog_scale, dbias] {
            assert!(pass.read(&scalar).unwrap()[0].is_nan(), "NaN must not be hidden");
        }
        assert!(pass.read(&dimage).unwrap()[48..51].iter().all(|x| x.is_nan()));
        assert!(pass.read(&dtext).unwrap().iter().all(|x| x.is_nan()));
    });
}

#[test]
fn wrong_shapes_are_named() {
    on_every_kernel(|pass| {
        let (image, text) = (pass.zeros(&[4, 3]).unwrap(), pass.zeros(&[5, 3]).unwrap());
        let one = pass.zeros(&[1]).unwrap();
        let error = |result: Result<Tensor>| result.unwrap_err().to_string();
        let parameters = LogitParameters { log_scale: &one, bias: &one };
        let message = error(forward(pass, &image, &text, parameters));
        assert_eq!(message, "sigmoid_loss: text has shape [5, 3], expected [4, 3]");
        let parameters = LogitParameters { log_scale: &one, bias: &text };
        let message = error(forward(pass, &image, &image, parameters));
        assert_eq!(message, "sigmoid_loss: bias has shape [5, 3], expected [1]");
    });
}

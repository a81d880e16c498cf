use super::*;
use crate::testing::*;
use crate::{Device, DeviceOptions, DeviceRequest};

const WEIGHT: f32 = 0.75;

/// Embeddings on the host.
struct Host {
    d: usize,
    image: Vec<f32>,
    text: Vec<f32>,
    log_scale: f32,
}

impl Host {
    fn new(n: usize, d: usize, log_scale: f32) -> Self {
        let [image, text] = paired_embeddings(n, d);
        Self { d, image, text, log_scale }
    }

    fn upload(&self, pass: &mut Pass) -> [Tensor; 3] {
        let n = self.image.len() / self.d;
        let [image, text] = [&self.image, &self.text].map(|rows| pass.upload(rows, &[n, self.d]).unwrap());
        [image, text, pass.upload(&[self.log_scale], &[1]).unwrap()]
    }

    fn wide(&self) -> [Vec<f64>; 2] {
        [wide(&self.image), wide(&self.text)]
    }

    fn model<'a>(&self, [image, text]: &'a [Vec<f64>; 2]) -> oracle::Model<'a> {
        oracle::Model { d: self.d, image, text, log_scale: f64::from(self.log_scale) }
    }

    /// The largest error of a logit, and that of a probability relative to it: as in the softmax loss.
    fn slack(&self) -> (f64, f64, f64) {
        let n = self.image.len() / self.d;
        let [image, text] = self.wide().map(|rows| magnitudes(&rows));
        let size = largest(&super::super::contrastive_softmax::oracle::logits(
            self.d,
            &image,
            &text,
            f64::from(self.log_scale),
        ));
        let off = EPS * (self.d as f64 + 8.0) * size;
        (size, off, (2.0 * off).exp_m1() + EPS * (n as f64 + 24.0 + 8.0 * size.min(88.0)))
    }
}

fn on_device(tensors: &[Tensor; 3]) -> Embedded<'_> {
    let [image, text, log_scale] = tensors;
    Embedded { image, text, log_scale }
}

fn check(student: &Host, teacher: &Host, stripe: usize) {
    let n = student.image.len() / student.d;
    let (own, theirs) = (student.wide(), teacher.wide());
    let (student_model, teacher_model) = (student.model(&own), teacher.model(&theirs));
    let w = f64::from(WEIGHT);
    let (want, g) = (oracle::backward(student_model, teacher_model), oracle::forward(student_model, teacher_model) * w);
    let ((size, off, relative), (_, _, others)) = (student.slack(), teacher.slack());
    let (q, p) = (oracle::log_softmaxes(student_model), oracle::log_softmaxes(teacher_model));
    let (mut loss_slack, mut scale_slack, t) = (1e-30, 1e-30, student_model.log_scale.exp());
    let (mut image_slack, mut text_slack) = (vec![1e-30; n * student.d], vec![1e-30; n * student.d]);
    for at in 0..n * n {
        let (i, j) = (at / n, at % n);
        let mut g_slack = 1e-37;
        for side in 0..2 {
            let (q, p) = (q[side][at], p[side][at].exp());
            let sum = EPS * (2.0 * n as f64 + 32.0);
            loss_slack +=
                (p * (others + sum) * (q.abs() + size) + p * 2.0 * (off + EPS * (1.0 + size))) / (2 * n) as f64;
            g_slack += (q.exp() * (relative + sum) + p * (others + sum)) / (2 * n) as f64;
        }
        scale_slack += g_slack * size + (q[0][at].exp() + p[0][at].exp()) * off / n as f64;
        for k in 0..student.d {
            image_slack[i * student.d + k] += t * g_slack * own[1][j * student.d + k].abs();
            text_slack[j * student.d + k] += t * g_slack * own[0][i * student.d + k].abs();
        }
    }
    on_every_kernel(|pass| {
        let (student, teacher) = (student.upload(pass), teacher.upload(pass));
        let mut dlog_scale = pass.upload(&[1.0], &[1]).unwrap();
        let untouched = dlog_scale.clone();
        let models = [on_device(&student), on_device(&teacher)];
        let (loss, dimage, dtext) = if stripe == 0 || pass.cpu().is_some() {
            forward_backward(pass, models[0], models[1], WEIGHT, &mut dlog_scale).unwrap()
        } else {
            gradients_on_gpu(pass, models, WEIGHT, &mut dlog_scale, stripe).unwrap()
        };
        let weighted = |values: &[f64]| values.iter().map(|x| w * x).collect::<Vec<_>>();
        assert_within("loss", &checked_read(pass, "loss", &loss), &[g], |_| loss_slack);
        assert_within("dimage", &checked_read(pass, "dimage", &dimage), &weighted(&want.dimage), |i| image_slack[i]);
        assert_within("dtext", &checked_read(pass, "dtext", &dtext), &weighted(&want.dtext), |i| text_slack[i]);
        let by_scale = 1.0 + w * want.dlog_scale;
        let got = checked_read(pass, "dlog_scale", &dlog_scale);
        assert_within("dlog_scale", &got, &[by_scale], |_| scale_slack + 2.0 * EPS * (1.0 + by_scale.abs()));
        assert_eq!(pass.read(&untouched).unwrap(), [1.0], "a clone keeps its own value");
    });
}

#[test]
fn matches_oracle_on_ragged_shapes() {
    for (n, d, theirs) in [(1, 1, 3), (3, 129, 2), (31, 16, 16), (33, 3, 40), (255, 2, 7), (257, 5, 1), (300, 33, 9)] {
        check(&Host::new(n, d, 2.0), &Host::new(n, theirs, 2.5), 0);
    }
}

#[test]
fn stripes_join_without_a_seam() {
    for n in [33, 65, 100] {
        check(&Host::new(n, 5, 1.5), &Host::new(n, 3, 2.0), 32);
    }
    check(&Host::new(1030, 3, 1.0), &Host::new(1030, 2, 1.0), 0);
}

#[test]
fn extreme_logits_do_not_overflow() {
    check(&Host::new(65, 24, 118.0f32.ln()), &Host::new(65, 8, 1e3f32.ln()), 32);
    check(&Host::new(40, 8, -5.0), &Host::new(40, 8, 118.0f32.ln()), 0);
}

#[test]
fn oracle_backward_is_the_derivative() {
    let (student, teacher) = (Host::new(4, 3, 1.2), Host::new(4, 2, 0.7));
    let ([image, text], theirs) = (student.wide(), teacher.wide());
    let teacher = teacher.model(&theirs);
    let at = |image: &[f64], text: &[f64], log_scale: f64| {
        vec![oracle::forward(oracle::Model { d: 3, image, text, log_scale }, teacher)]
    };
    let want = oracle::backward(oracle::Model { d: 3, image: &image, text: &text, log_scale: 1.2 }, teacher);
    assert_is_gradient("dimage", &image, &[1.0], |image| at(image, &text, 1.2), &want.dimage);
    assert_is_gradient("dtext", &text, &[1.0], |text| at(&image, text, 1.2), &want.dtext);
    assert_is_gradient("dlog_scale", &[1.2], &[1.0], |scale| at(&image, &text, scale[0]), &[want.dlog_scale]);
}

/// What is left of the loss there is the teacher's entropy.
#[test]
fn a_student_that_is_its_teacher_has_nothing_to_learn() {
    let host = Host::new(70, 6, 2.3);
    let rows = host.wide();
    let entropy: f64 =
        oracle::log_softmaxes(host.model(&rows)).iter().flatten().map(|log| -log.exp() * log).sum::<f64>() / 140.0;
    on_every_kernel(|pass| {
        let tensors = host.upload(pass);
        let mut dlog_scale = pass.zeros(&[1]).unwrap();
        let (loss, dimage, dtext) =
            forward_backward(pass, on_device(&tensors), on_device(&tensors), 1.0, &mut dlog_scale).unwrap();
        let loss = f64::from(pass.read(&loss).unwrap()[0]);
        assert!((loss - entropy).abs() < 1e-5 * entropy, "{loss} is not {entropy}");
        for tensor in [dimage, dtext, dlog_scale] {
            assert!(pass.read(&tensor).unwrap().iter().all(|x| x.abs() < 1e-7), "a gradient where there is none");
        }
    });
}

#[test]
fn results_do_not_depend_on_the_thread_count() {
    let (student, teacher) = (Host::new(700, 19, 2.0), Host::new(700, 5, 2.0));
    let run = |threads: usize| {
        let options = DeviceOptions { threads, checked: false, ..Default::default() };
        let mut pass = Device::open(&DeviceRequest::Cpu, options).unwrap().pass();
        let (student, teacher) = (student.upload(&mut pass), teacher.upload(&mut pass));
        let mut dlog_scale = pass.zeros(&[1]).unwrap();
        let (loss, dimage, dtext) =
            forward_backward(&mut pass, on_device(&student), on_device(&teacher), WEIGHT, &mut dlog_scale).unwrap();
        [loss, dimage, dtext, dlog_scale].map(|tensor| pass.read(&tensor).unwrap())
    };
    assert_eq!(run(1), run(3));
}

#[test]
fn nan_reaches_the_loss() {
    for of_teacher in [false, true] {
        let (mut student, mut teacher) = (Host::new(40, 3, 2.0), Host::new(40, 3, 2.0));
        if of_teacher {
            teacher.image[50] = f32::NAN
        } else {
            student.image[50] = f32::NAN
        }
        on_every_kernel(|pass| {
            let (student, teacher) = (student.upload(pass), teacher.upload(pass));
            let mut dlog_scale = pass.zeros(&[1]).unwrap();
            let (loss, dimage, dtext) =
                forward_backward(pass, on_device(&student), on_device(&teacher), 1.0, &mut dlog_scale).unwrap();
            for tensor in [loss, dlog_scale, dimage, dtext] {
                assert!(pass.read(&tensor).unwrap().iter().all(|x| x.is_nan()), "NaN must not be hidden");
            }
        });
    }
}

#[test]
fn wrong_shapes_are_named() {
    on_every_kernel(|pass| {
        let (four, three) = (Host::new(4, 3, 1.0).upload(pass), Host::new(3, 3, 1.0).upload(pass));
        let mut scale = pass.zeros(&[1]).unwrap();
        let said = forward_backward(pass, on_device(&four), on_device(&three), 1.0, &mut scale).unwrap_err();
        assert_eq!(said.to_string(), "contrastive_distillation: teacher's image has shape [3, 3], expected [4, 3]");
        let mixed = Embedded { text: &three[1], ..on_device(&four) };
        let said = forward_backward(pass, mixed, on_device(&four), 1.0, &mut scale).unwrap_err();
        assert_eq!(said.to_string(), "contrastive_distillation: text has shape [3, 3], expected [4, 3]");
    });
}

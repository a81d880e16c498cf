use super::*;
use crate::testing::*;
use crate::{Device, DeviceOptions, DeviceRequest};

/// Embeddings and parameters of one model on a device.
struct Uploaded([Tensor; 4]);

impl Uploaded {
    fn new(pass: &mut Pass, [image, text]: &[Vec<f32>; 2], d: usize, log_scale: f32, bias: f32) -> Self {
        let [image, text] = [image, text].map(|rows| pass.upload(rows, &[rows.len() / d, d]).unwrap());
        let [log_scale, bias] = [log_scale, bias].map(|value| pass.upload(&[value], &[1]).unwrap());
        Self([image, text, log_scale, bias])
    }

    fn candidates(&self) -> Candidates<'_> {
        let Self([image, text, log_scale, bias]) = self;
        Candidates { image, text, log_scale, bias }
    }
}

/// Candidates all over the super-batch, some of them twice.
fn some_chunk(rows: usize, len: usize) -> Vec<u32> {
    (0..len).map(|i| (i * 7919 % rows) as u32).collect()
}

/// All but every third candidate; the last is always open.
fn some_open(rows: usize) -> Vec<u32> {
    (0..rows as u32).filter(|x| x % 3 != 1 || *x as usize == rows - 1).collect()
}

/// A draw among these.
fn on<'a>(open: &'a [u32], chunk: &'a [u32]) -> Draw<'a> {
    Draw { open, chunk }
}

/// Slack of one softplus: the logit's error passes with a slope of at most sigmoid(L), which is below softplus(L); a
/// driver's exp may be off by `3 + 2 |x|` ulp.
fn slack(candidates: oracle::Candidates<'_>, i: usize, j: usize, sign: f64) -> f64 {
    let size = candidates.log_scale.exp() + candidates.bias.abs();
    let loss = oracle::softplus(sign * candidates.logit(i, j));
    let off = EPS * (candidates.d as f64 + 10.0) * size;
    (loss.min(1.0) * off.exp() * off) + loss * EPS * (24.0 + 4.0 * size.min(88.0)) + 1e-37
}

fn check(rows: usize, chunk: usize, d: usize, log_scale: f32, bias: f32, large: bool) {
    let (embeddings, start, weight) = (paired_embeddings(rows, d), random(rows, 3), -0.75f32);
    let chunk = some_chunk(rows, chunk);
    let [image, text] = [&embeddings[0], &embeddings[1]].map(|rows| wide(rows));
    let (log_scale64, bias64) = (f64::from(log_scale), f64::from(bias));
    let model = oracle::Candidates { d, image: &image, text: &text, log_scale: log_scale64, bias: bias64 };
    let (mut own, mut joint) = (wide(&start), wide(&start));
    oracle::diagonal(f64::from(weight), model, &mut own);
    let open = some_open(rows);
    oracle::condition_on(f64::from(weight), model, &open, &chunk, &mut joint);
    let own_slack = |x: usize| slack(model, x, x, -1.0) + 4.0 * EPS * (1.0 + own[x].abs());
    let joint_slack = |x: usize| {
        let pair = |k: &u32| slack(model, x, *k as usize, 1.0) + slack(model, *k as usize, x, 1.0);
        chunk.iter().map(pair).sum::<f64>() + (chunk.len() as f64 + 4.0) * EPS * (1.0 + joint[x].abs())
    };
    let name = format!("{rows} candidates, chunk of {}, width {d} at {log_scale}, {bias}", chunk.len());
    on_every_kernel(|pass| {
        let model = Uploaded::new(pass, &embeddings, d, log_scale, bias);
        let mut conditional = pass.upload(&start, &[rows]).unwrap();
        let untouched = conditional.clone();
        diagonal(pass, weight, model.candidates(), &mut conditional).unwrap();
        assert_within(&name, &checked_read(pass, "diagonal", &conditional), &own, own_slack);
        conditional = untouched.clone();
        if large && pass.cpu().is_none() {
            condition_on_gpu(
                pass,
                weight,
                model.candidates(),
                Draw { open: &open, chunk: &chunk },
                &mut conditional,
                LARGE,
            )
            .unwrap();
        } else {
            condition_on(pass, weight, model.candidates(), Draw { open: &open, chunk: &chunk }, &mut conditional)
                .unwrap();
        }
        assert_within(&name, &checked_read(pass, "condition_on", &conditional), &joint, joint_slack);
        assert_eq!(pass.read(&untouched).unwrap(), start, "a clone keeps its own value");
    });
}

#[test]
fn matches_oracle_on_ragged_shapes() {
    for (rows, chunk, d) in
        [(1, 1, 1), (3, 2, 129), (31, 31, 16), (33, 1, 3), (255, 33, 31), (257, 7, 33), (31, 300, 5)]
    {
        check(rows, chunk, d, 2.0, -3.0, false);
    }
    check(70, 130, 17, 2.3, -10.0, true);
}

#[test]
fn matches_oracle_beyond_one_dispatch_dimension() {
    check(65_537, 2, 2, 2.0, -3.0, false);
}

/// An emulated adapter leaves a kernel after 65,535 rounds of its loops, with what it has by then.
#[test]
fn wide_rows_and_long_chunks_are_gone_through() {
    check(3, 300, 1100, 2.3, -10.0, false);
    check(3, 70, 4100, 2.3, -10.0, false);
}

#[test]
fn extreme_logits_keep_their_precision() {
    check(65, 20, 24, 118.0f32.ln(), -12.7, false);
    check(65, 20, 24, 1e3f32.ln(), -10.0, false);
    check(65, 20, 24, -3.0, -80.0, false);
}

#[test]
fn very_negative_logits_are_not_rounded_away() {
    on_every_kernel(|pass| {
        // softplus(-40) = exp(-40) = 4.25e-18: 1 + 4.25e-18 is 1 in f32.
        let model = Uploaded::new(pass, &[vec![0.0; 8], vec![0.0; 8]], 2, 0.0, -40.0);
        let mut conditional = pass.zeros(&[4]).unwrap();
        condition_on(pass, 1.0, model.candidates(), on(&[0, 1, 2, 3], &[1]), &mut conditional).unwrap();
        let want = 2.0 * (-40.0f64).exp();
        assert_within("tiny", &pass.read(&conditional).unwrap(), &[want; 4], |_| 2e-5 * want);
    });
}

#[test]
fn results_do_not_depend_on_the_thread_count() {
    let embeddings = paired_embeddings(1000, 19);
    let run = |threads: usize| {
        let options = DeviceOptions { threads, checked: false, ..Default::default() };
        let mut pass = Device::open(&DeviceRequest::Cpu, options).unwrap().pass();
        let model = Uploaded::new(&mut pass, &embeddings, 19, 2.0, -5.0);
        let mut conditional = pass.zeros(&[1000]).unwrap();
        diagonal(&mut pass, 1.0, model.candidates(), &mut conditional).unwrap();
        condition_on(
            &mut pass,
            -1.0,
            model.candidates(),
            on(&some_open(1000), &some_chunk(1000, 150)),
            &mut conditional,
        )
        .unwrap();
        pass.read(&conditional).unwrap()
    };
    assert_eq!(run(1), run(3));
}

#[test]
fn nan_in_one_candidate_is_seen() {
    on_every_kernel(|pass| {
        let mut embeddings = paired_embeddings(40, 3);
        embeddings[0][50] = f32::NAN; // The image of candidate 16.
        let model = Uploaded::new(pass, &embeddings, 3, 2.0, -5.0);
        let mut conditional = pass.zeros(&[40]).unwrap();
        condition_on(pass, 1.0, model.candidates(), on(&(0..40).collect::<Vec<_>>(), &[2, 5]), &mut conditional)
            .unwrap();
        let nan: Vec<_> = pass.read(&conditional).unwrap().iter().map(|score| score.is_nan()).collect();
        assert!((0..40).all(|x| nan[x] == (x == 16)), "NaN must not be hidden, nor spread");
        diagonal(pass, 1.0, model.candidates(), &mut conditional).unwrap();
        assert!(pass.read(&conditional).unwrap()[16].is_nan());
    });
}

#[test]
fn an_empty_chunk_changes_nothing() {
    on_every_kernel(|pass| {
        let model = Uploaded::new(pass, &paired_embeddings(4, 3), 3, 2.0, -5.0);
        let mut conditional = pass.upload(&[1.0; 4], &[4]).unwrap();
        condition_on(pass, 1.0, model.candidates(), on(&[0, 1], &[]), &mut conditional).unwrap();
        condition_on(pass, 1.0, model.candidates(), on(&[], &[1]), &mut conditional).unwrap();
        assert_eq!(pass.read(&conditional).unwrap(), [1.0; 4]);
    });
}

#[test]
fn wrong_members_and_shapes_are_named() {
    on_every_kernel(|pass| {
        let model = Uploaded::new(pass, &paired_embeddings(4, 3), 3, 2.0, -5.0);
        let mut conditional = pass.zeros(&[4]).unwrap();
        let result = condition_on(pass, 1.0, model.candidates(), on(&[0], &[1, 4]), &mut conditional);
        let message = result.unwrap_err().to_string();
        assert_eq!(message, "selection_scores: member of the chunk is 4, but must be below the 4 candidates");
        let result = condition_on(pass, 1.0, model.candidates(), on(&[0, 7], &[1]), &mut conditional);
        let message = result.unwrap_err().to_string();
        assert_eq!(message, "selection_scores: open candidate is 7, but must be below the 4 candidates");
        let mut short = pass.zeros(&[3]).unwrap();
        let message = diagonal(pass, 1.0, model.candidates(), &mut short).unwrap_err().to_string();
        assert_eq!(message, "selection_scores: conditional has shape [3], expected [4]");
    });
}

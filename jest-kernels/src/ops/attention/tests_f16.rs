//! Attention by matrix units: their kernels with an emulated unit, and the units themselves where the adapter has them.

use std::sync::OnceLock;

use super::kernels::Unit;
use super::tests::{BASE, Case, beside, counts};
use super::*;
use crate::testing::*;
use crate::{Device, Precision};

/// What rounding to f16 may change of a value, upwards or downwards, and of one that is too small for it.
const ULP: f64 = 1.0 / 1024.0;
const LEAST: f64 = 1.0 / 16_777_216.0;

fn f16(x: f32) -> f32 {
    half::f16::from_f32(x).to_f32()
}

/// One for all tests, so that each kernel is compiled once.
fn gpu() -> &'static Device {
    static GPU: OnceLock<Device> = OnceLock::new();
    GPU.get_or_init(|| {
        let [_, gpu] = devices_in(Precision::F16);
        gpu
    })
}

/// Those that the adapter has, with the emulated one.
fn units(device: &Device) -> Vec<Unit> {
    let has = device.pass().abilities().matrices;
    [Unit::Emulated].into_iter().chain(has.then_some(Unit::Matrix)).collect()
}

/// What the rounding of weights and of gradients of scores may change of each element.
struct Slack {
    y: Vec<f64>,
    dq: Vec<f64>,
    dk: Vec<f64>,
    dv: Vec<f64>,
}

impl Slack {
    fn of(case: &Case) -> Self {
        let (shape, d) = (case.shape, case.shape.head_dim);
        let [q, k, v, dy] = [&case.q, &case.k, &case.v, &case.dy].map(|x| wide(x));
        let scale = 1.0 / (d as f64).sqrt();
        let [y, dq, dk, dv] = [dy.len(), q.len(), k.len(), v.len()].map(|len| vec![0.0; len]);
        let mut slack = Self { y, dq, dk, dv };
        let counts = counts(shape, case.lengths.as_deref());
        oracle::each_row(&shape, |example, head, query| {
            let weights = oracle::weights(&shape, &counts, (example, head, query), &q, &k);
            let row = ((example * shape.q_len + query) * shape.heads + head) * d;
            let q_at = oracle::query_at(&shape, example, head, query);
            let k_at = |key| oracle::key_at(&shape, example, head, key);
            let (mut dw, mut delta, mut delta_slack) = (vec![0.0; weights.len()], 0.0, 0.0);
            for (key, w) in weights.iter().enumerate() {
                for j in 0..d {
                    let term = (ULP * w + LEAST) * v[k_at(key) + j].abs();
                    slack.y[row + j] += term;
                    delta_slack += dy[row + j].abs() * term;
                    dw[key] += dy[row + j] * v[k_at(key) + j];
                }
                delta += w * dw[key];
            }
            for (key, w) in weights.iter().enumerate() {
                let ds = scale * (ULP * (w * (dw[key] - delta)).abs() + LEAST + w * delta_slack);
                for j in 0..d {
                    slack.dq[q_at + j] += ds * k[k_at(key) + j].abs();
                    slack.dk[k_at(key) + j] += ds * q[q_at + j].abs();
                    slack.dv[k_at(key) + j] += (ULP * w + LEAST) * dy[row + j].abs();
                }
            }
        });
        slack
    }
}

/// Holds a case against the oracle, packed or with separate queries.
fn check(device: &Device, shape: Attention, lengths: Option<Vec<u32>>, magnify: f32, packed: bool) {
    let case = Case::rounded(shape, lengths, magnify, f16);
    let (slack, allowed, width) = (Slack::of(&case), case.allowed(), shape.width());
    let operands = if packed { Operands::packed(shape) } else { Operands::pooled(shape) };
    let (want_dkv, slack_dkv) =
        (beside(width, &[&case.gradients.dk, &case.gradients.dv]), beside(width, &[&slack.dk, &slack.dv]));
    for unit in units(device) {
        let pass = &mut device.pass();
        let lengths = case.upload_lengths(pass);
        let mut upload = |values: &[f32], cols: usize| pass.upload(values, &[values.len() / cols, cols]).unwrap();
        let dy = upload(&case.dy, width);
        let [q, kv] = if packed {
            let qkv = upload(&beside(width, &[&case.q, &case.k, &case.v]), 3 * width);
            [qkv.clone(), qkv]
        } else {
            [upload(&case.q, width), upload(&beside(width, &[&case.k, &case.v]), 2 * width)]
        };
        let results = trial::results(pass, unit, operands, [&q, &kv, &dy], lengths.as_ref()).unwrap();
        let [y, dq, dkv] = results.map(|tensor| checked_read(pass, "result", &tensor));
        let name = |what: &str| format!("{unit:?} {what} {shape:?}");
        assert_within(&name("y"), &y, &case.y, |i| allowed.y + slack.y[i]);
        let part = |values: &[f32], from: usize| -> Vec<f32> {
            let rows = values.chunks(3 * width).flat_map(|row| &row[from..if from == 0 { width } else { 3 * width }]);
            rows.copied().collect()
        };
        let (mut dq, dkv) = if packed { (part(&dq, 0), part(&dkv, width)) } else { (dq, dkv) };
        if shape.shared_query {
            let own = shape.q_len * width;
            dq = (0..own).map(|i| dq.iter().skip(i).step_by(own).sum()).collect();
        }
        assert_within(&name("dq"), &dq, &case.gradients.dq, |i| allowed.dq + slack.dq[i]);
        let limit = |i: usize| [allowed.dk, allowed.dv][i / width % 2] + slack_dkv[i];
        assert_within(&name("dkv"), &dkv, &want_dkv, limit);
    }
}

#[test]
fn packed_attention_by_units_matches_the_oracle_on_ragged_shapes() {
    let gpu = gpu();
    for (head_dim, len) in [(4, 3), (16, 33), (32, 70), (44, 65), (64, 1), (72, 65), (128, 70), (8, 129)] {
        for mask in [Mask::None, Mask::Causal] {
            check(gpu, Attention { head_dim, q_len: len, k_len: len, mask, ..BASE }, None, 1.0, true);
        }
    }
    for mask in [Mask::None, Mask::Causal] {
        let shape = Attention { n: 4, q_len: 70, k_len: 70, mask, ..BASE };
        check(gpu, shape, Some(vec![1, 70, 32, 65]), 1.0, true);
        check(gpu, shape, None, 100.0, true);
    }
}

#[test]
fn pooled_attention_by_units_matches_the_oracle_on_ragged_shapes() {
    let gpu = gpu();
    for (head_dim, q_len, k_len) in [(16, 1, 129), (64, 1, 65), (4, 2, 31), (72, 33, 3), (128, 70, 31)] {
        for shared_query in [false, true] {
            let shape = Attention { n: 3, head_dim, q_len, k_len, shared_query, ..BASE };
            check(gpu, shape, None, 1.0, false);
        }
    }
    let shape = Attention { n: 4, q_len: 1, k_len: 70, shared_query: true, ..BASE };
    check(gpu, shape, Some(vec![70, 1, 33, 3]), 1.0, false);
}

/// y and dqkv of one head, after `change` has changed qkv and dy.
fn changed(
    device: &Device,
    unit: Unit,
    shape: Attention,
    lengths: Option<[u32; 2]>,
    change: impl Fn(&mut [f32], &mut [f32]),
) -> [Vec<f32>; 2] {
    let (rows, width) = (shape.n * shape.q_len, shape.width());
    let (mut qkv, mut dy) = (random(rows * 3 * width, 1), random(rows * width, 2));
    change(&mut qkv, &mut dy);
    let pass = &mut device.pass();
    let lengths = lengths.map(|lengths| pass.upload_u32(&lengths, &[2]).unwrap());
    let (qkv, dy) = (pass.upload(&qkv, &[rows, 3 * width]).unwrap(), pass.upload(&dy, &[rows, width]).unwrap());
    let operands = [&qkv, &qkv, &dy];
    let [y, dqkv, _] = trial::results(pass, unit, Operands::packed(shape), operands, lengths.as_ref()).unwrap();
    [y, dqkv].map(|tensor| pass.read(&tensor).unwrap())
}

/// Rows of `cols` with a value among columns `from ..` that is not finite.
fn rows_not_finite(values: &[f32], cols: usize, from: usize, width: usize) -> Vec<usize> {
    let bad = |row: &[f32]| row[from..from + width].iter().any(|x| !x.is_finite());
    values.chunks(cols).enumerate().filter(|(_, row)| bad(row)).map(|(row, _)| row).collect()
}

#[test]
fn what_is_not_finite_in_a_masked_key_stays_there() {
    let gpu = gpu();
    let shape = Attention { heads: 1, q_len: 70, k_len: 70, ..BASE };
    let (width, stride) = (shape.width(), 3 * shape.width());
    let none = Vec::<usize>::new();
    for unit in units(gpu) {
        // Key 41 of example 0, in k alone and in v alone; 70,000 is infinite in f16.
        for (column, value) in [(width, f32::NAN), (2 * width, f32::NAN), (width, 70_000.0), (2 * width, 70_000.0)] {
            let found = |mask, lengths| {
                let shape = Attention { mask, ..shape };
                let poison = |qkv: &mut [f32], _: &mut [f32]| qkv[41 * stride + column..][..width].fill(value);
                let [y, dqkv] = changed(gpu, unit, shape, lengths, poison);
                [(y, width, 0), (dqkv, stride, 0)].map(|(x, cols, from)| rows_not_finite(&x, cols, from, width))
            };
            assert_eq!(found(Mask::None, Some([41, 70])), [none.clone(), none.clone()], "a key beyond the length");
            assert_eq!(found(Mask::Causal, Some([41, 70])), [none.clone(), none.clone()], "and by a causal mask");
            let later: Vec<usize> = (41..70).collect();
            assert_eq!(found(Mask::Causal, None), [later.clone(), later], "a key after the query");
            let own: Vec<usize> = (0..70).collect();
            assert_eq!(found(Mask::None, None), [own.clone(), own], "a key that counts is not hidden");
        }
    }
}

#[test]
fn a_gradient_that_f16_cannot_hold_is_not_finite() {
    let gpu = gpu();
    for unit in units(gpu) {
        for (mask, upstream) in [(Mask::None, 60_000.0), (Mask::Causal, 60_000.0), (Mask::None, 1e6)] {
            let shape = Attention { heads: 1, q_len: 40, k_len: 40, mask, ..BASE };
            let large = |qkv: &mut [f32], dy: &mut [f32]| {
                qkv.chunks_mut(3 * 16).for_each(|row| row[2 * 16..].iter_mut().for_each(|v| *v *= 100.0));
                dy[5 * shape.width()..][..shape.width()].fill(upstream);
            };
            let [y, dqkv] = changed(gpu, unit, shape, None, large);
            assert!(y.iter().all(|y| y.is_finite()));
            let (width, stride) = (shape.width(), 3 * shape.width());
            assert_eq!(rows_not_finite(&dqkv, stride, 0, width), [5], "dq of {unit:?}, {mask:?}, {upstream}");
            let rest: Vec<f32> = dqkv[40 * stride..].to_vec();
            assert!(rest.iter().all(|x| x.is_finite()), "the other example");
        }
    }
}

#[test]
fn a_trial_of_attention_tells_right_from_wrong() {
    let mut pass = gpu().pass();
    let other = Attention { mask: Mask::None, ..trial::SHAPE };
    assert!(trial::agrees(&mut pass, Unit::Emulated, trial::SHAPE, trial::SHAPE).unwrap());
    assert!(!trial::agrees(&mut pass, Unit::Emulated, other, trial::SHAPE).unwrap());
}

#[test]
fn units_take_heads_of_whole_fours() {
    assert!(Unit::takes(64) && Unit::takes(72) && !Unit::takes(33) && !Unit::takes(1));
}

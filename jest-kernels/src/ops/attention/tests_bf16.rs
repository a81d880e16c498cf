//! Attention with products in bf16: every level of the processor against the oracle of the rounded operands.

use super::cpu::{Inputs, Outputs};
use super::tests::{BASE, Case, beside, counts};
use super::*;
use crate::bf16::{self as rounding, Elements, Level, levels};
use crate::testing::{assert_guarded, assert_within, magnitudes, wide};
use crate::{Device, DeviceOptions, DeviceRequest, Precision};

fn bits(values: &[f32]) -> Vec<u16> {
    values.iter().map(|value| rounding::round(*value)).collect()
}

fn values(bits: &[u16]) -> Vec<f32> {
    bits.iter().map(|bits| rounding::wide(*bits)).collect()
}

/// With operands that bf16 has.
fn case(shape: Attention, lengths: Option<Vec<u32>>, magnify: f32) -> Case {
    Case::rounded(shape, lengths, magnify, |x| rounding::wide(rounding::round(x)))
}

/// Sums of the magnitudes of what each product of rounded weights or score gradients sums: y, and the gradients.
fn sizes(case: &Case) -> (Vec<f64>, oracle::Gradients) {
    let (shape, d, counts) = (case.shape, case.shape.head_dim, counts(case.shape, case.lengths.as_deref()));
    let [q, k, v, dy] = [&case.q, &case.k, &case.v, &case.dy].map(|x| wide(x));
    let y = oracle::forward(&shape, &counts, &q, &k, &magnitudes(&v));
    let (mut dq, mut dk, mut dv) = (vec![0.0; q.len()], vec![0.0; k.len()], vec![0.0; v.len()]);
    for row in 0..shape.n * shape.q_len * shape.heads {
        let (example, query, head) =
            (row / shape.heads / shape.q_len, row / shape.heads % shape.q_len, row % shape.heads);
        let q_row = if shape.shared_query { query } else { example * shape.q_len + query };
        let (q_at, at) = ((q_row * shape.heads + head) * d, row * d);
        let w = oracle::weights(&shape, &counts, (example, head, query), &q, &k);
        let key_at = |key: usize| ((example * shape.k_len + key) * shape.heads + head) * d;
        let dw = |key: usize| -> f64 { (0..d).map(|j| dy[at + j] * v[key_at(key) + j]).sum() };
        let delta: f64 = w.iter().enumerate().map(|(key, w)| w * dw(key)).sum();
        for (key, w) in w.iter().enumerate() {
            let ds = (w * (dw(key) - delta)).abs() / (d as f64).sqrt();
            for j in 0..d {
                dq[q_at + j] += ds * k[key_at(key) + j].abs();
                dk[key_at(key) + j] += ds * q[q_at + j].abs();
                dv[key_at(key) + j] += w * dy[at + j].abs();
            }
        }
    }
    (y, oracle::Gradients { dq, dk, dv })
}

/// Rounded operands lose half a unit of their last place, and so does what is stored.
fn tolerance(sums: f64, size: f64) -> f64 {
    sums + 2.02 / 256.0 * size
}

/// y, the gradient by q, or by q, k and v together when packed, and else that by k and v.
fn run(level: Level, case: &Case, operands: Operands, [q, kv, dy]: [Elements<'_>; 3]) -> [Vec<f32>; 3] {
    let shape = case.shape;
    let (rows, width) = (shape.n * shape.q_len, shape.width());
    let nan = rounding::round(f32::NAN);
    let (mut y, mut lse) = (vec![nan; rows * width], vec![f32::NAN; shape.n * shape.heads * shape.q_len]);
    let inputs = Inputs { operands, q, kv, lengths: case.lengths.as_deref() };
    bf16::forward(level, &inputs, &mut y, &mut lse);
    let upstream = bf16::Upstream { lse: &lse, dy };
    let packed = operands.v_offset == 2 * width;
    let mut dkv = vec![nan; shape.n * shape.k_len * operands.kv_stride];
    let mut dq = vec![nan; if packed { 0 } else { rows * width }];
    let outputs =
        if packed { Outputs::Packed(&mut dkv[..]) } else { Outputs::Pooled { dq: &mut dq[..], dkv: &mut dkv[..] } };
    bf16::backward(level, &inputs, &upstream, outputs);
    [y, dq, dkv].map(|x| values(&x))
}

/// The same from operands in f32 and in bf16.
fn run_both(level: Level, case: &Case, operands: Operands, [q, kv]: [&Vec<f32>; 2]) -> [Vec<f32>; 3] {
    let rounded = [q, kv, &case.dy].map(|x| bits(x));
    let from_bits = run(level, case, operands, rounded.each_ref().map(|x| Elements::Bf16(x)));
    let from_values = run(level, case, operands, [q, kv, &case.dy].map(|x| Elements::F32(x)));
    let same = from_bits.iter().flatten().map(|x| x.to_bits()).eq(from_values.iter().flatten().map(|x| x.to_bits()));
    assert!(same, "{level:?} {:?}: operands in f32 give other bits", case.shape);
    from_bits
}

fn packed(case: &Case) -> Vec<f32> {
    beside(case.shape.width(), &[&case.q, &case.k, &case.v])
}

fn check_packed(case: &Case) {
    let (shape, width, allowed, (y_size, size)) = (case.shape, case.shape.width(), case.allowed(), sizes(case));
    let qkv = packed(case);
    let [want, size] = [&case.gradients, &size].map(|g| beside(width, &[&g.dq, &g.dk, &g.dv]));
    for level in levels() {
        let [y, _, dqkv] = run_both(level, case, Operands::packed(shape), [&qkv, &qkv]);
        assert_within(&format!("y {level:?} {shape:?}"), &y, &case.y, |i| tolerance(allowed.y, y_size[i]));
        let limit = |i: usize| tolerance([allowed.dq, allowed.dk, allowed.dv][i / width % 3], size[i]);
        assert_within(&format!("dqkv {level:?} {shape:?}"), &dqkv, &want, limit);
        for (row, dqkv) in dqkv.chunks_exact(3 * width).enumerate() {
            let counts = row % shape.k_len < counts(shape, case.lengths.as_deref())[row / shape.k_len];
            assert!(counts || dqkv[width..].iter().all(|x| *x == 0.0), "{level:?} {shape:?}: key of row {row}");
        }
    }
}

fn check_pooled(case: &Case) {
    let (shape, width, allowed, (y_size, size)) = (case.shape, case.shape.width(), case.allowed(), sizes(case));
    let kv = beside(width, &[&case.k, &case.v]);
    let [want, kv_size] = [&case.gradients, &size].map(|g| beside(width, &[&g.dk, &g.dv]));
    for level in levels() {
        let [y, each, dkv] = run_both(level, case, Operands::pooled(shape), [&case.q, &kv]);
        assert_within(&format!("y {level:?} {shape:?}"), &y, &case.y, |i| tolerance(allowed.y, y_size[i]));
        let mut dq = vec![0.0; case.q.len()];
        each.iter().enumerate().for_each(|(i, x)| dq[i % case.q.len()] += x);
        let limit = |i: usize| tolerance(allowed.dq, size.dq[i]);
        assert_within(&format!("dq {level:?} {shape:?}"), &dq, &case.gradients.dq, limit);
        let limit = |i: usize| tolerance([allowed.dk, allowed.dv][i / width % 2], kv_size[i]);
        assert_within(&format!("dkv {level:?} {shape:?}"), &dkv, &want, limit);
    }
}

#[test]
fn every_level_matches_the_oracle_on_ragged_shapes() {
    for (head_dim, len) in [(64, 64), (32, 32), (16, 70), (64, 31), (72, 33), (128, 1), (33, 130), (3, 17), (1, 96)] {
        for mask in [Mask::None, Mask::Causal] {
            check_packed(&case(Attention { head_dim, q_len: len, k_len: len, mask, ..BASE }, None, 1.0));
        }
    }
    for (head_dim, q_len, k_len) in [(64, 1, 64), (16, 1, 257), (3, 2, 31), (72, 33, 3), (40, 70, 31)] {
        for shared_query in [false, true] {
            check_pooled(&case(Attention { n: 3, head_dim, q_len, k_len, shared_query, ..BASE }, None, 1.0));
        }
    }
}

#[test]
fn short_examples_share_a_block() {
    // The last block holds fewer examples than the others; lengths begin with 0 and end beyond the keys.
    for (n, len, head_dim) in [(70, 1, 32), (23, 3, 16), (9, 7, 32), (5, 13, 40), (3, 16, 64)] {
        let lengths = Some((0..n).map(|i| (i * (len + 1) / (n - 1)) as u32).collect::<Vec<_>>());
        for mask in [Mask::None, Mask::Causal] {
            let shape = Attention { n, head_dim, q_len: len, k_len: len, mask, ..BASE };
            check_packed(&case(shape, None, 1.0));
            check_packed(&case(shape, lengths.clone(), 1.0));
        }
        check_pooled(&case(Attention { n, head_dim, q_len: len, k_len: len, ..BASE }, lengths, 1.0));
    }
}

/// Rows with an element among their first `width` that is not finite.
fn bad_rows(values: &[f32], stride: usize, width: usize) -> Vec<usize> {
    let rows = values.chunks(stride).map(|row| row[..width].iter().any(|x| !x.is_finite()));
    rows.enumerate().filter(|(_, bad)| *bad).map(|(row, _)| row).collect()
}

#[test]
fn what_is_not_finite_stays_in_its_example() {
    // Six examples share a block; what is bad lies in the second.
    let sound = case(Attention { n: 9, q_len: 5, k_len: 5, ..BASE }, None, 1.0);
    let (shape, width, allowed, (y_size, size)) = (sound.shape, sound.shape.width(), sound.allowed(), sizes(&sound));
    let (bad_row, own) = (37, 35..40);
    let [want, size] = [&sound.gradients, &size].map(|g| beside(width, &[&g.dq, &g.dk, &g.dv]));
    // In q, k, v or dy; the last is finite until it is rounded.
    for (part, bad) in (0..4).flat_map(|part| [f32::NAN, f32::INFINITY, f32::MAX].map(|bad| (part, bad))) {
        let (mut case, mut qkv) = (case(shape, None, 1.0), packed(&sound));
        match part {
            3 => case.dy[bad_row * width] = bad,
            part => qkv[(3 * bad_row + part) * width] = bad,
        }
        for level in levels() {
            let [mut y, _, mut dqkv] = run_both(level, &case, Operands::packed(shape), [&qkv, &qkv]);
            assert!(!bad_rows(&dqkv, 3 * width, 3 * width).is_empty(), "{level:?} {part} {bad}");
            // All others are what they are without it.
            let (y_own, own) = (own.start * width..own.end * width, 3 * own.start * width..3 * own.end * width);
            y[y_own.clone()].iter_mut().zip(&sound.y[y_own]).for_each(|(y, want)| *y = *want as f32);
            dqkv[own.clone()].iter_mut().zip(&want[own]).for_each(|(x, want)| *x = *want as f32);
            assert_within("y", &y, &sound.y, |i| tolerance(allowed.y, y_size[i]));
            let limit = |i: usize| tolerance([allowed.dq, allowed.dk, allowed.dv][i / width % 3], size[i]);
            assert_within("dqkv", &dqkv, &want, limit);
        }
    }
}

#[test]
fn products_of_one_example_with_another_may_overflow() {
    let shape = Attention { n: 6, q_len: 5, k_len: 5, ..BASE };
    let (width, rows) = (shape.width(), shape.q_len * shape.width());
    let large = |x: &mut [f32], example: usize| x[example * rows..][..rows].iter_mut().for_each(|x| *x *= 1e20);
    // dy of one with v of another: neither overflows in its own.
    let mut apart = case(shape, None, 1.0);
    large(&mut apart.dy, 1);
    large(&mut apart.v, 4);
    // q with k of one: its lse is no number.
    let mut inside = case(shape, None, 1.0);
    large(&mut inside.q, 2);
    large(&mut inside.k, 2);
    for level in levels() {
        let qkv = packed(&apart);
        let [y, _, dqkv] = run_both(level, &apart, Operands::packed(shape), [&qkv, &qkv]);
        assert!(y.iter().chain(&dqkv).all(|x| x.is_finite()), "{level:?}");
        let qkv = packed(&inside);
        let [y, _, dqkv] = run_both(level, &inside, Operands::packed(shape), [&qkv, &qkv]);
        let reached = [bad_rows(&y, width, width), bad_rows(&dqkv, 3 * width, 3 * width)].concat();
        assert!(!reached.is_empty() && reached.iter().all(|row| (10..15).contains(row)), "{level:?} {reached:?}");
    }
}

#[test]
fn every_level_leaves_out_keys_beyond_the_lengths() {
    for mask in [Mask::None, Mask::Causal] {
        let shape = Attention { n: 4, q_len: 70, k_len: 70, mask, ..BASE };
        check_packed(&case(shape, Some(vec![1, 70, 32, 65]), 1.0));
    }
    let shape = Attention { n: 4, q_len: 1, k_len: 70, shared_query: true, ..BASE };
    check_pooled(&case(shape, Some(vec![70, 1, 33, 3]), 1.0));
}

#[test]
fn large_logits_do_not_overflow() {
    for mask in [Mask::None, Mask::Causal] {
        check_packed(&case(Attention { q_len: 65, k_len: 65, mask, ..BASE }, None, 100.0));
    }
}

#[test]
fn what_is_not_finite_in_a_masked_key_does_not_leak() {
    // One example a block, and three.
    for (len, key) in [(70, 41), (9, 5)] {
        let shape = Attention { heads: 1, q_len: len, k_len: len, ..BASE };
        let causal = Attention { mask: Mask::Causal, ..shape };
        // In k alone and in v alone; the last is finite until it is rounded.
        for (part, bad) in [(1, f32::NAN), (2, f32::NAN), (2, f32::INFINITY), (2, f32::MAX)] {
            check_masked_key(shape, Some(vec![key as u32, len as u32]), (key, part, bad));
            check_masked_key(causal, None, (key, part, bad));
        }
    }
}

/// A key of example 0 that is bad, in k or in v, and hidden by the length or by the causal mask.
fn check_masked_key(shape: Attention, lengths: Option<Vec<u32>>, (key, part, bad): (usize, usize, f32)) {
    let (width, len, beyond) = (shape.width(), shape.k_len, lengths.is_some());
    let want: Vec<usize> = if beyond { vec![] } else { (key..len).collect() };
    let case = case(shape, lengths, 1.0);
    let mut qkv = packed(&case);
    qkv[(3 * key + part) * width..][..width].fill(bad);
    for level in levels() {
        let [y, _, dqkv] = run_both(level, &case, Operands::packed(shape), [&qkv, &qkv]);
        let got = [bad_rows(&y, width, width), bad_rows(&dqkv, 3 * width, width)];
        assert_eq!(got, [want.clone(), want.clone()], "{level:?} {bad}");
        // By the length, no query sees the key: neither do the gradients of others hold it, nor has it one.
        assert!(!beyond || dqkv.iter().all(|x| x.is_finite()), "{level:?} {bad}");
        let own = dqkv[key * 3 * width..len * 3 * width].chunks(3 * width).flat_map(|row| &row[width..]);
        assert!(!beyond || own.into_iter().all(|x| *x == 0.0), "{level:?} {bad}: of keys beyond the length");
        // Keys that no query sees with the bad one are those of example 1.
        assert!(dqkv[3 * len * width..].iter().all(|x| x.is_finite()), "{level:?} {bad}: in another example");
    }
}

fn device(threads: usize) -> Device {
    let options = DeviceOptions { threads, checked: true, precision: Precision::Bf16, ..Default::default() };
    Device::open(&DeviceRequest::Cpu, options).unwrap()
}

#[test]
fn a_device_in_bf16_stores_so_and_gives_the_same_bits_for_any_thread_count() {
    for (n, len) in [(5, 70), (9, 7)] {
        check_device(case(Attention { n, heads: 3, q_len: len, k_len: len, mask: Mask::Causal, ..BASE }, None, 1.0));
    }
}

fn check_device(case: Case) {
    let (shape, width, qkv) = (case.shape, case.shape.width(), packed(&case));
    let [want_y, _, want] = run(
        levels()[levels().len() - 1],
        &case,
        Operands::packed(shape),
        [&qkv, &qkv, &case.dy].map(|x| Elements::F32(x)),
    );
    for threads in [1, 3] {
        let mut pass = device(threads).pass();
        let (rows, dy) = (shape.n * shape.q_len, &case.dy);
        let (qkv, dy) = (pass.upload(&qkv, &[rows, 3 * width]).unwrap(), pass.upload(dy, &[rows, width]).unwrap());
        let (y, saved) = forward_packed(&mut pass, &shape, &qkv, None).unwrap();
        let dqkv = backward_packed(&mut pass, saved, &dy).unwrap();
        for (what, got, want) in [("y", &y, &want_y), ("dqkv", &dqkv, &want)] {
            assert_eq!(got.dtype(), DType::Bf16);
            assert_guarded(&mut pass, what, got);
            let got = crate::ops::cast::to_f32(&mut pass, got).unwrap();
            assert_eq!(pass.read(&got).unwrap(), *want, "{what} with {threads} threads");
        }
        let (_, saved) = forward_packed(&mut pass, &shape, &qkv, None).unwrap();
        assert!(backward_packed(&mut pass, saved, &y).is_ok(), "a gradient in bf16 is taken as it is");
        let error = pass.in_f32(|pass| forward_packed(pass, &shape, &dqkv, None)).unwrap_err().to_string();
        assert_eq!(error, "attention: qkv holds Bf16 elements, expected F32");
    }
}

#[test]
fn a_shared_query_in_bf16_collects_its_gradient_in_f32() {
    let case = case(Attention { n: 4, q_len: 1, k_len: 33, shared_query: true, ..BASE }, None, 1.0);
    let (shape, width, (_, size)) = (case.shape, case.shape.width(), sizes(&case));
    let mut pass = device(2).pass();
    let kv = beside(width, &[&case.k, &case.v]);
    let (q, kv) = (pass.upload(&case.q, &[1, width]).unwrap(), pass.upload(&kv, &[4 * 33, 2 * width]).unwrap());
    let dy = pass.upload(&case.dy, &[4, width]).unwrap();
    let (_, saved) = forward_pooled(&mut pass, &shape, &q, &kv, None).unwrap();
    let PooledGradients { dq, .. } = backward_pooled(&mut pass, saved, &dy).unwrap();
    let limit = |i: usize| tolerance(case.allowed().dq, size.dq[i]);
    assert_within("dq", &pass.read(&dq).unwrap(), &case.gradients.dq, limit);
}

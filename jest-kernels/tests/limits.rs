//! What operations do on an adapter with less: they make do with it, or say what is missing and what to do.
use std::time::Duration;

use jest_kernels::ops::attention::{self, Attention, Mask};
use jest_kernels::ops::matmul::{self, Form};
use jest_kernels::ops::selection_scores::{self, Candidates, Draw};
use jest_kernels::ops::{add, layer_norm, scale};
use jest_kernels::testing::{assert_within, devices, lesser_gpu, lose, random, sum_tolerance, wide};
use jest_kernels::{Device, DeviceLimits, DeviceOptions, DeviceRequest, KernelError, Pass, Precision, Result};

/// Row i, of four elements, is normalised to mean 1.
fn normalised(pass: &mut Pass, rows: usize) -> Result<Vec<f32>> {
    let values: Vec<f32> = (0..rows * 4).map(|i| (i % 7) as f32).collect();
    let (x, one) = (pass.upload(&values, &[rows, 4])?, pass.upload(&[1.0; 4], &[4])?);
    let (y, _) = layer_norm::forward(pass, &x, &one, &one, 1e-6)?;
    pass.read(&y)
}

#[test]
fn more_groups_than_a_dimension_holds_are_folded_into_two_then_refused() {
    let device = lesser_gpu(DeviceLimits { groups: Some(20), ..Default::default() });
    let pass = &mut device.pass();
    // One workgroup a row: 399 rows are 20 x 20 groups, the last of which has none.
    let y = normalised(pass, 399).unwrap();
    assert!(y.len() == 4 * 399 && y.chunks(4).all(|row| (row.iter().sum::<f32>() - 4.0).abs() < 1e-3));
    let refused = normalised(pass, 401).unwrap_err();
    assert!(matches!(refused, KernelError::TooManyGroups { groups: 21, limit: 20, .. }), "{refused}");
    assert!(refused.to_string().contains("smaller batch"), "{refused}");
}

#[test]
fn batches_of_products_beyond_a_dimension_are_sliced() {
    let device = lesser_gpu(DeviceLimits { groups: Some(20), ..Default::default() });
    let pass = &mut device.pass();
    let a = pass.upload(&(0..45).map(|i| i as f32).collect::<Vec<_>>(), &[45, 1, 1]).unwrap();
    let y = matmul::batched(pass, Form::AB, &a, &a).unwrap();
    assert!(pass.read(&y).unwrap().iter().enumerate().all(|(i, y)| *y == (i * i) as f32));
}

#[test]
fn a_tensor_over_the_limit_is_refused_with_the_limit() {
    let device = lesser_gpu(DeviceLimits { tensor_bytes: Some(4096), ..Default::default() });
    let pass = &mut device.pass();
    assert_eq!(device.info().max_tensor_bytes, 4096);
    let x = pass.zeros(&[900]).unwrap();
    assert!(add::forward(pass, &x, &x).is_ok());
    let refused = pass.zeros(&[33, 32]).unwrap_err();
    assert!(matches!(&refused, KernelError::TooLarge { limit: 4096, .. }), "{refused}");
    assert!(refused.to_string().contains("[33, 32]") && refused.to_string().contains("smaller batch"), "{refused}");
    let (a, b) = (pass.zeros(&[40, 2]).unwrap(), pass.zeros(&[2, 40]).unwrap());
    assert!(matches!(matmul::forward(pass, Form::AB, &a, &b), Err(KernelError::TooLarge { .. })));
}

#[test]
fn what_the_pool_keeps_makes_room_and_then_memory_is_out() {
    let device = lesser_gpu(DeviceLimits { memory_bytes: Some(100_000), ..Default::default() });
    let pass = &mut device.pass();
    // Another size each time: unless what is free is given back, the third does not fit.
    for words in [9_000, 10_500, 12_500, 15_000] {
        let mut x = pass.upload(&vec![1.0; words], &[words]).unwrap();
        scale::in_place(pass, &mut x, 2.0).unwrap();
        assert!(pass.read(&x).unwrap().iter().all(|x| *x == 2.0));
        assert!((4 * words as u64..=100_000).contains(&device.buffers().bytes), "{:?}", device.buffers());
    }
    let held = pass.zeros(&[15_000]).unwrap();
    let refused = pass.zeros(&[15_000]).unwrap_err();
    let KernelError::OutOfMemory { bytes, in_use } = refused else { panic!("{refused}") };
    assert!(bytes >= 60_000 && in_use >= 60_000);
    assert!(refused.to_string().contains("--micro-batch"), "{refused}");
    drop(held);
    assert!(pass.zeros(&[15_000]).is_ok(), "what was refused before fits again");
    assert!(device.buffers().peak <= 100_000);
}

#[test]
fn what_the_pool_keeps_makes_room_for_copies_to_and_from_the_host() {
    let device = lesser_gpu(DeviceLimits { staged_bytes: Some(215_000), ..Default::default() });
    let pass = &mut device.pass();
    let values: Vec<f32> = (0..20_000).map(|i| i as f32).collect();
    let x = pass.upload(&values, &[20_000]).unwrap();
    // 80 KiB of x, 64 that are free from now on: no copy of x fits beside both.
    drop(pass.zeros(&[15_000]).unwrap());
    assert!(device.buffers().bytes > 140_000);
    assert!(pass.read(&x).unwrap() == values);
    assert!(device.buffers().bytes < 100_000, "{:?}", device.buffers());
    // As well on the way to the device: 40 KiB are free, 56 to be filled.
    drop(pass.zeros(&[10_000]).unwrap());
    let y = pass.upload(&values[..14_000], &[14_000]).unwrap();
    assert!(device.buffers().bytes < 145_000, "{:?}", device.buffers());
    assert!(pass.read(&y).unwrap() == values[..14_000]);
    let refused = pass.read(&x).unwrap_err();
    assert!(matches!(refused, KernelError::OutOfMemory { bytes: 80_000, .. }), "{refused}");
    drop(y);
    assert!(pass.read(&x).unwrap() == values, "what was refused before fits again");
}

/// Calls of each kernel while `record` ran; none did more than `limit` FLOPs.
fn calls_within(device: &Device, limit: f64, record: impl FnOnce(&mut Pass)) -> Vec<(String, u64)> {
    device.start_profile(|| Duration::ZERO);
    record(&mut device.pass());
    let profile = device.stop_profile();
    for kernel in &profile.kernels {
        assert!(kernel.flops <= limit * kernel.calls as f64, "{}: {} in {}", kernel.name, kernel.flops, kernel.calls);
    }
    profile.kernels.into_iter().map(|kernel| (kernel.name, kernel.calls)).collect()
}

fn calls(of: &[(String, u64)], name: &str) -> u64 {
    of.iter().find(|(kernel, _)| kernel == name).map_or(0, |(_, calls)| *calls)
}

#[test]
fn long_products_are_cut_into_dispatches_that_each_end_soon() {
    const LIMIT: u64 = 600_000;
    let device = lesser_gpu(DeviceLimits { dispatch_flops: Some(LIMIT), ..Default::default() });
    let (m, n, k, layers) = (40, 33, 500, 3);
    let [a, b] = [m * k, n * k].map(|len| random(len, len as u64));
    let want = matmul::oracle::abt(m, n, k, &wide(&a), &wide(&b));
    let ran = calls_within(&device, LIMIT as f64, |pass| {
        let (a, b) = (pass.upload(&a, &[m, k]).unwrap(), pass.upload(&b, &[n, k]).unwrap());
        let y = matmul::forward(pass, Form::ABt, &a, &b).unwrap();
        assert_within("y", &pass.read(&y).unwrap(), &want, |_| sum_tolerance(k + 4, k as f64));
    });
    // 2 * 40 * 33 * 192 FLOPs are the most whole steps of 64 depths within the limit.
    assert_eq!((calls(&ran, "matmul/write"), calls(&ran, "matmul/add")), (1, 2));
    let ran = calls_within(&device, LIMIT as f64, |pass| {
        let x = pass.upload(&random(layers * 60 * 60, 1), &[layers, 60, 60]).unwrap();
        let y = matmul::batched(pass, Form::AB, &x, &x).unwrap();
        assert_eq!(pass.read(&y).unwrap().len(), layers * 60 * 60);
    });
    assert_eq!((calls(&ran, "matmul/write"), calls(&ran, "matmul/add")), (3, 0), "one layer at a time");
}

#[test]
fn long_attention_is_cut_between_its_blocks_and_gives_the_same_bits() {
    let shape =
        Attention { n: 3, heads: 2, head_dim: 8, q_len: 40, k_len: 40, mask: Mask::Causal, shared_query: false };
    let attend = |pass: &mut Pass| {
        let qkv = pass.upload(&random(3 * 40 * 48, 1), &[3 * 40, 48]).unwrap();
        let dy = pass.upload(&random(3 * 40 * 16, 2), &[3 * 40, 16]).unwrap();
        let (y, saved) = attention::forward_packed(pass, &shape, &qkv, None).unwrap();
        let dqkv = attention::backward_packed(pass, saved, &dy).unwrap();
        [y, dqkv].map(|tensor| pass.read(&tensor).unwrap().into_iter().map(f32::to_bits).collect::<Vec<_>>())
    };
    let whole = attend(&mut devices()[1].pass());
    // 12 blocks of 32 queries or keys; one product of them all takes 2 * 3 * 2 * 64 * 64 * 16 FLOPs.
    const LIMIT: u64 = 5 * 2 * 64 * 32 * 16;
    let device = lesser_gpu(DeviceLimits { dispatch_flops: Some(LIMIT), ..Default::default() });
    let ran = calls_within(&device, LIMIT as f64, |pass| assert!(attend(pass) == whole));
    let expected = [("attention/forward", 6), ("attention/backward_query", 12), ("attention/backward_key", 12)];
    expected.iter().for_each(|(name, count)| assert_eq!(calls(&ran, name), *count, "{name}"));
}

#[test]
fn long_selection_scores_are_cut_between_parts_of_the_chunk_and_give_the_same_bits() {
    let (rows, d) = (33, 5);
    // Three parts of the chunk, the last of them short, in both directions.
    let chunk: Vec<u32> = (0..600).map(|i| i % rows as u32).collect();
    let score = |pass: &mut Pass| {
        let [image, text] = [1, 2].map(|seed| pass.upload(&random(rows * d, seed), &[rows, d]).unwrap());
        let one = pass.upload(&[1.0], &[1]).unwrap();
        let candidates = Candidates { image: &image, text: &text, log_scale: &one, bias: &one };
        let mut conditional = pass.zeros(&[rows]).unwrap();
        let draw = Draw { open: &[0, 7, 32], chunk: &chunk };
        selection_scores::condition_on(pass, 1.0, candidates, draw, &mut conditional).unwrap();
        pass.read(&conditional).unwrap().into_iter().map(f32::to_bits).collect::<Vec<_>>()
    };
    let whole = score(&mut devices()[1].pass());
    for (limits, count) in [
        (DeviceLimits { dispatch_flops: Some(4 * 3 * 600 * 5 / 2), ..Default::default() }, 2),
        (DeviceLimits { groups: Some(1), ..Default::default() }, 6),
    ] {
        let device = lesser_gpu(limits);
        let ran = calls_within(&device, f64::INFINITY, |pass| assert!(score(pass) == whole));
        assert_eq!(calls(&ran, "selection_scores/partial"), count, "{limits:?}");
    }
}

/// What the driver tells of a lost device comes from every call that can fail, and none of them waits for it.
#[test]
fn a_lost_device_is_a_named_error_at_every_call() {
    let device = lesser_gpu(DeviceLimits::default());
    let pass = &mut device.pass();
    let x = pass.upload(&[1.0; 64], &[64]).unwrap();
    let y = add::forward(pass, &x, &x).unwrap();
    let pending = pass.read_later(&y).unwrap();
    lose(&device);
    let lost = |what: &str, result: Result<()>| {
        let error = result.expect_err(what);
        assert!(matches!(error, KernelError::Lost { .. }), "{what}: {error}");
        assert!(error.to_string().contains("last checkpoint"), "{error}");
    };
    lost("what was on its way", pending.wait().map(drop));
    lost("what was there", pass.read(&y).map(drop));
    lost("the wait", pass.wait());
    lost("the submission", pass.submit());
    let anew = pass.upload(&[1.0; 64], &[64]).and_then(|x| add::forward(pass, &x, &x));
    lost("new work", anew.and_then(|y| pass.read(&y)).map(drop));
    let kernel = layer_norm::forward(pass, &x, &x, &x, 1e-6);
    lost("a new kernel", kernel.and_then(|(y, _)| pass.read(&y)).map(drop));
    assert!(lesser_gpu(DeviceLimits::default()).pass().upload(&[1.0], &[1]).is_ok(), "another device lives");
}

#[test]
fn an_adapter_without_f16_refuses_f16_and_computes_in_f32() {
    let limits = DeviceLimits { without_f16: true, ..Default::default() };
    let name = devices()[1].info().name;
    let open = |precision| {
        let options = DeviceOptions { precision, limits, ..Default::default() };
        Device::open(&DeviceRequest::Name(name.clone()), options)
    };
    let refused = open(Precision::F16).unwrap_err();
    assert!(matches!(refused, KernelError::Unsupported { .. }) && refused.to_string().contains("--precision f32"));
    let pass = &mut open(Precision::F32).unwrap().pass();
    let x = pass.upload(&[3.0], &[1, 1]).unwrap();
    let y = matmul::forward(pass, Form::AB, &x, &x).unwrap();
    assert_eq!(pass.read(&y).unwrap(), [9.0]);
}

#[test]
fn a_shape_that_no_kernel_takes_is_refused_with_what_is_taken() {
    let device = lesser_gpu(DeviceLimits::default());
    let (pass, emulated) = (&mut device.pass(), device.info().software);
    let shape = |head_dim, len| {
        let (q_len, k_len) = (len, len);
        Attention { n: 1, heads: 1, head_dim, q_len, k_len, mask: Mask::None, shared_query: false }
    };
    let cases = [(shape(129, 1), true, "between 1 and 128"), (shape(1, 2049), emulated, "--device cpu")];
    for (shape, refused, remedy) in cases {
        let qkv = pass.zeros(&[shape.q_len, 3 * shape.head_dim]).unwrap();
        let answer = attention::forward_packed(pass, &shape, &qkv, None);
        assert_eq!(answer.is_err(), refused, "{shape:?}");
        if let Err(error) = answer {
            assert!(matches!(error, KernelError::Size { .. }) && error.to_string().contains(remedy), "{error}");
        }
    }
}

#[test]
fn an_adapter_without_subgroups_runs_the_plain_kernels() {
    let ran = |without_subgroups| {
        let device = lesser_gpu(DeviceLimits { without_subgroups, ..Default::default() });
        (normalised(&mut device.pass(), 3).unwrap(), device.kernels_run())
    };
    let ([(with, fast), (without, plain)], by_subgroups) =
        ([false, true].map(ran), |key: &String| key.ends_with("+subgroups"));
    assert!(fast.iter().any(by_subgroups) && !plain.iter().any(by_subgroups), "{fast:?}, {plain:?}");
    assert!(with.iter().zip(&without).all(|(with, without)| (with - without).abs() < 1e-5));
}

#[test]
fn a_gpu_without_a_clock_is_timed_by_the_hosts() {
    let taken = |without_timestamps| {
        let device = lesser_gpu(DeviceLimits { without_timestamps, ..Default::default() });
        let pass = &mut device.pass();
        let x = pass.upload(&[1.0; 8], &[8]).unwrap();
        device.start_profile(|| Duration::from_secs(7));
        add::forward(pass, &x, &x).unwrap();
        device.stop_profile().spans.iter().map(|span| (span.start, span.time)).collect::<Vec<_>>()
    };
    let seven = Duration::from_secs(7);
    assert_eq!(taken(true), [(seven, Duration::ZERO)], "the host's clock stands still");
    let [(start, time)] = taken(false)[..] else { panic!("one call") };
    assert!(start == seven && time > Duration::ZERO && time < seven, "{start:?} {time:?}");
}

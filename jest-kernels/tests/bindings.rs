//! Tensors larger than a binding: worked on by slices of rows, with the bits of one dispatch, or refused with a remedy.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::time::Duration;

use jest_kernels::ops::adamw::{self, AdamW};
use jest_kernels::ops::attention::{self, Attention, Mask};
use jest_kernels::ops::gather_tokens::{self, KeptTokens};
use jest_kernels::ops::gelu::{self, Gelu};
use jest_kernels::ops::matmul::{self, Form};
use jest_kernels::ops::mean_pool::{self, Counted};
use jest_kernels::ops::selection_scores::{self, Candidates, Draw};
use jest_kernels::ops::sigmoid_loss::{self, LogitParameters};
use jest_kernels::ops::softmax_cross_entropy::{self, Labels};
use jest_kernels::ops::token_embedding::{self, TokenIds};
use jest_kernels::ops::{add, cast, column_scale, column_sum, contrastive_softmax, global_norm};
use jest_kernels::ops::{l2_normalize, layer_norm, patch_embed, scale, tanh};
use jest_kernels::testing::{assert_guarded, assert_within, lesser_gpu, lesser_gpu_in, paired_embeddings};
use jest_kernels::testing::{random, sum_tolerance, tally, wide};
use jest_kernels::{DType, Device, DeviceLimits, KernelError, Pass, Precision, Result, Tensor};

/// Rows of 33 elements: no multiple of where a binding may begin.
const ROWS: usize = 2100;
const COLS: usize = 33;
/// Less than the rows take, more than a part of 256 of them.
const LIMIT: u64 = 140_000;

type Case = fn(&mut Pass) -> Result<Vec<Tensor>>;
/// Bits of each result, and calls of each kernel.
type Ran = (Vec<Vec<u32>>, Vec<(String, u64)>);

fn limited(binding_bytes: Option<u64>) -> Device {
    lesser_gpu(DeviceLimits { binding_bytes, ..Default::default() })
}

fn drawn(pass: &mut Pass, shape: &[usize], seed: u64) -> Result<Tensor> {
    pass.upload(&random(shape.iter().product(), seed), shape)
}

fn rows(pass: &mut Pass, seed: u64) -> Result<Tensor> {
    drawn(pass, &[ROWS, COLS], seed)
}

/// All results' bits, and how often each kernel ran.
fn ran(device: &Device, case: Case) -> Result<Ran> {
    device.start_profile(|| Duration::ZERO);
    let pass = &mut device.pass();
    let mut bits = Vec::new();
    for (i, tensor) in case(pass)?.iter().enumerate() {
        assert_guarded(pass, &format!("result {i}"), tensor);
        bits.push(match tensor.dtype() {
            DType::F16 => pass.read_f16(tensor)?.into_iter().map(|x| x.to_bits().into()).collect(),
            _ => pass.read(tensor)?.into_iter().map(f32::to_bits).collect(),
        });
    }
    let calls = device.stop_profile().kernels.into_iter().map(|kernel| (kernel.name, kernel.calls)).collect();
    tally(device);
    Ok((bits, calls))
}

/// Each kernel named runs in several slices under the limit, and once without.
fn same_bits(limit: u64, kernels: &[&str], case: Case) {
    let (want, whole) = ran(&limited(None), case).unwrap();
    let (got, sliced) = ran(&limited(Some(limit)), case).unwrap();
    let calls =
        |of: &[(String, u64)], name: &str| of.iter().filter(|(kernel, _)| kernel == name).map(|call| call.1).sum();
    for name in kernels {
        let (once, often): (u64, u64) = (calls(&whole, name), calls(&sliced, name));
        assert!(once > 0 && often > once, "{name}: {once} calls, {often} under the limit");
    }
    for (i, (got, want)) in got.iter().zip(&want).enumerate() {
        assert!(got == want, "{kernels:?}: result {i} has other bits");
    }
}

#[test]
fn elements_are_sliced() {
    same_bits(LIMIT, &["add/forward", "add/accumulate", "scale/in_place"], |pass| {
        let (a, mut b) = (rows(pass, 1)?, rows(pass, 2)?);
        let y = add::forward(pass, &a, &b)?;
        add::accumulate(pass, &a, &mut b)?;
        let mut scaled = y.clone();
        scale::in_place(pass, &mut scaled, 0.3)?;
        Ok(vec![y, b, scaled])
    });
    let kernels = ["gelu/forward", "gelu/forward_with_slope", "gelu/backward", "tanh/forward", "tanh/backward"];
    same_bits(LIMIT, &kernels, |pass| {
        let (x, dy) = (rows(pass, 1)?, rows(pass, 2)?);
        let tanh = tanh::forward(pass, &x)?;
        let gelu = gelu::forward(pass, Gelu::Erf, &x)?;
        let (y, slope) = gelu::forward_with_slope(pass, Gelu::Erf, &x)?;
        let dx = gelu::backward(pass, &slope, &dy)?;
        Ok(vec![tanh::backward(pass, &tanh, &dy)?, tanh, gelu, y, slope, dx])
    });
    same_bits(LIMIT, &["cast/to_f16", "cast/to_f32"], |pass| {
        let x = drawn(pass, &[ROWS * COLS - 1], 1)?;
        let y = cast::to_f16(pass, &x)?;
        Ok(vec![cast::to_f32(pass, &y)?, y])
    });
    same_bits(LIMIT, &["adamw/step", "global_norm/squares"], |pass| {
        let (mut p, g) = (rows(pass, 1)?, rows(pass, 2)?);
        let (mut mean, mut square) = (pass.zeros(&[ROWS, COLS])?, pass.zeros(&[ROWS, COLS])?);
        let norm = global_norm::forward(pass, &[&mean, &g])?;
        let settings = AdamW {
            lr: 0.1,
            beta1: 0.9,
            beta2: 0.99,
            eps: 1e-8,
            decay: 0.01,
            step: 1,
            gradient_scale: 1.0,
            max_norm: Some(1.0),
            max_value: None,
        };
        adamw::step(pass, &settings, &mut p, &g, [&mut mean, &mut square], &norm)?;
        Ok(vec![p, mean, square, norm])
    });
}

#[test]
fn rows_are_sliced() {
    let norms = ["layer_norm/forward", "layer_norm/backward", "layer_norm/gradient_parts"];
    same_bits(LIMIT, &norms, |pass| {
        let (x, dy) = (rows(pass, 1)?, rows(pass, 2)?);
        let (gamma, beta) = (drawn(pass, &[COLS], 3)?, drawn(pass, &[COLS], 4)?);
        let (mut dgamma, mut dbeta) = (pass.zeros(&[COLS])?, pass.zeros(&[COLS])?);
        let (y, saved) = layer_norm::forward(pass, &x, &gamma, &beta, 1e-6)?;
        Ok(vec![layer_norm::backward(pass, saved, &gamma, &dy, &mut dgamma, &mut dbeta)?, y, dgamma, dbeta])
    });
    same_bits(LIMIT, &["l2_normalize/forward", "l2_normalize/backward", "column_sum/parts"], |pass| {
        let (wide, mut sum) = (drawn(pass, &[ROWS, 36], 3)?, pass.zeros(&[36])?);
        column_sum::accumulate(pass, &wide, &mut sum)?;
        let (x, dz) = (rows(pass, 1)?, rows(pass, 2)?);
        let (z, saved) = l2_normalize::forward(pass, &x)?;
        Ok(vec![l2_normalize::backward(pass, saved, &dz)?, z, sum])
    });
    same_bits(LIMIT, &["column_scale/forward", "column_scale/backward"], |pass| {
        let (x, dy) = (drawn(pass, &[ROWS, 36], 1)?, drawn(pass, &[ROWS, 36], 2)?);
        let (by, mut dby) = (drawn(pass, &[36], 3)?, pass.zeros(&[36])?);
        Ok(vec![column_scale::forward(pass, &x, &by)?, column_scale::backward(pass, &x, &by, &dy, &mut dby)?, dby])
    });
    same_bits(LIMIT, &["softmax_cross_entropy/losses", "softmax_cross_entropy/gradient"], |pass| {
        let ids: Vec<u32> = (0..ROWS as u32).map(|row| row % COLS as u32).collect();
        let (logits, labels) = (rows(pass, 1)?, Labels::upload(pass, &ids, COLS)?);
        let (loss, dlogits) = softmax_cross_entropy::forward_backward(pass, &logits, &labels)?;
        Ok(vec![softmax_cross_entropy::forward(pass, &logits, &labels)?, loss, dlogits])
    });
    same_bits(LIMIT, &["sigmoid_loss/losses", "sigmoid_loss/gradient", "selection_scores/diagonal"], |pass| {
        let [image, text] = paired_embeddings(300, COLS).map(|rows| pass.upload(&rows, &[300, COLS]));
        let (image, text, one) = (image?, text?, pass.upload(&[1.0], &[1])?);
        let parameters = LogitParameters { log_scale: &one, bias: &one };
        let (mut dlog_scale, mut dbias) = (pass.zeros(&[1])?, pass.zeros(&[1])?);
        let loss = sigmoid_loss::forward(pass, &image, &text, parameters)?;
        let (both, dimage, _) =
            sigmoid_loss::forward_backward(pass, &image, &text, parameters, &mut dlog_scale, &mut dbias)?;
        let (image, text, mut conditional) = (rows(pass, 1)?, rows(pass, 2)?, pass.zeros(&[ROWS])?);
        let candidates = Candidates { image: &image, text: &text, log_scale: &one, bias: &one };
        selection_scores::diagonal(pass, 1.0, candidates, &mut conditional)?;
        Ok(vec![loss, both, dimage, dlog_scale, dbias, conditional])
    });
}

#[test]
fn examples_are_sliced() {
    // Of 7 rows.
    const N: usize = ROWS / 7;
    same_bits(LIMIT, &["add/forward_rows", "add/backward_rows", "token_embedding/forward"], |pass| {
        let (x, table, mut dtable) = (rows(pass, 1)?, drawn(pass, &[7, COLS], 2)?, pass.zeros(&[7, COLS])?);
        add::backward_rows(pass, &x, &mut dtable)?;
        let words: Vec<u32> = (0..ROWS as u32).map(|row| row * row % 50).collect();
        let (ids, words) = (TokenIds::upload(pass, &words, N, 7, 50)?, drawn(pass, &[50, COLS], 3)?);
        let tokens = token_embedding::forward(pass, &ids, &words, &table)?;
        Ok(vec![add::forward_rows(pass, &x, &table)?, dtable, tokens])
    });
    let moves = ["gather_tokens/forward", "gather_tokens/backward", "mean_pool/forward", "mean_pool/backward"];
    same_bits(LIMIT, &moves, |pass| {
        let x = rows(pass, 1)?;
        let kept: Vec<u32> = (0..N as u32).flat_map(|i| [0, 1 + i % 2, 3, 4, 5 + i % 2]).collect();
        let kept = KeptTokens::upload(pass, &kept, N, 5, 7)?;
        let lengths: Vec<u32> = (0..N as u32).map(|i| 1 + i % 7).collect();
        let lengths = Counted::upload(pass, &lengths, 7)?;
        let (few, mean) = (gather_tokens::forward(pass, &x, &kept)?, mean_pool::forward(pass, &x, &lengths)?);
        let (back, spread) = (gather_tokens::backward(pass, &few, &kept)?, mean_pool::backward(pass, &mean, &lengths)?);
        Ok(vec![few, mean, back, spread])
    });
    same_bits(10_000, &["patch_embed/patchify"], |pass| {
        let images = drawn(pass, &[17, 3, 10, 10], 1)?;
        Ok(vec![patch_embed::patchify(pass, &images, 5)?])
    });
    let attend = ["attention/forward", "attention/delta", "attention/backward_query", "attention/backward_key"];
    same_bits(50_000, &attend, |pass| {
        let shape =
            Attention { n: 29, heads: 3, head_dim: 5, q_len: 33, k_len: 33, mask: Mask::Causal, shared_query: false };
        let (qkv, dy) = (drawn(pass, &[29 * 33, 45], 1)?, drawn(pass, &[29 * 33, 15], 2)?);
        let (y, saved) = attention::forward_packed(pass, &shape, &qkv, None)?;
        Ok(vec![attention::backward_packed(pass, saved, &dy)?, y])
    });
    same_bits(32_000, &[attend[0], attend[2], attend[3]], |pass| {
        let shape =
            Attention { n: 19, heads: 3, head_dim: 5, q_len: 2, k_len: 33, mask: Mask::None, shared_query: true };
        let (q, kv, dy) = (drawn(pass, &[2, 15], 1)?, drawn(pass, &[19 * 33, 30], 2)?, drawn(pass, &[38, 15], 3)?);
        let lengths = pass.upload_u32(&[33, 1, 5, 7, 33, 12, 2, 32, 31, 20, 9, 33, 30, 4, 6, 8, 17, 28, 3], &[19])?;
        let (y, saved) = attention::forward_pooled(pass, &shape, &q, &kv, Some(&lengths))?;
        let gradients = attention::backward_pooled(pass, saved, &dy)?;
        Ok(vec![y, gradients.dq, gradients.dkv])
    });
}

#[test]
fn products_are_sliced_along_rows_layers_and_parts_of_a_deep_sum() {
    same_bits(LIMIT, &["matmul/write", "matmul/bias", "matmul/bias_gelu"], |pass| {
        let (x, w, bias) = (rows(pass, 1)?, drawn(pass, &[20, COLS], 2)?, drawn(pass, &[20], 3)?);
        let (y, slope) = matmul::linear_gelu(pass, Gelu::Tanh, &x, &w, &bias)?;
        let linear = matmul::linear(pass, &x, &w, &bias)?;
        let back = matmul::forward(pass, Form::AB, &y, &w)?;
        Ok(vec![y, slope, linear, back, matmul::forward(pass, Form::ABt, &x, &w)?])
    });
    same_bits(600_000, &["matmul/registers_write"], |pass| {
        let (a, b) = (drawn(pass, &[ROWS, 99], 1)?, drawn(pass, &[99, 68], 2)?);
        Ok(vec![matmul::forward(pass, Form::AB, &a, &b)?])
    });
    same_bits(40_000, &["matmul/write"], |pass| {
        let (a, b) = (drawn(pass, &[9, 31, 40], 1)?, drawn(pass, &[9, 24, 40], 2)?);
        Ok(vec![matmul::batched(pass, Form::ABt, &a, &b)?])
    });
    // Two parts of 512 depths, each a layer of a batch, and one depth left over.
    same_bits(40_000, &["matmul/write"], |pass| {
        let (a, b, mut sum) = (drawn(pass, &[1025, 16], 3)?, drawn(pass, &[1025, 8], 4)?, pass.zeros(&[16, 8])?);
        matmul::accumulate(pass, Form::AtB, &a, &b, &mut sum)?;
        Ok(vec![sum])
    });
}

#[test]
fn a_sum_over_rows_is_cut_where_it_is_without_a_limit_or_by_the_limit_alone() {
    const SUM: Case = |pass| {
        let (a, b, mut y) = (drawn(pass, &[1000, 34], 1)?, drawn(pass, &[1000, 18], 2)?, pass.zeros(&[34, 18])?);
        matmul::accumulate(pass, Form::AtB, &a, &b, &mut y)?;
        Ok(vec![y])
    };
    // 192 depths a dispatch: of 500 that a binding holds, 384 are bound.
    let limits = DeviceLimits { dispatch_flops: Some(240_000), ..Default::default() };
    let (want, _) = ran(&lesser_gpu(limits), SUM).unwrap();
    let bound = DeviceLimits { binding_bytes: Some(500 * 34 * 4), ..limits };
    let (got, calls) = ran(&lesser_gpu(bound), SUM).unwrap();
    assert_eq!((got, calls[0].1), (want, 6), "{calls:?}");
    // Fewer than are summed at once: other bits, but always the same.
    let short = || ran(&limited(Some(100 * 34 * 4)), SUM).unwrap();
    let (got, calls) = short();
    assert_eq!(calls[0].1, 10, "{calls:?}");
    assert!(short().0 == got);
    let (a, b) = (random(1000 * 34, 1), random(1000 * 18, 2));
    let want = matmul::oracle::atb(34, 18, 1000, &wide(&a), &wide(&b));
    let got: Vec<f32> = got[0].iter().map(|bits| f32::from_bits(*bits)).collect();
    assert_within("sum", &got, &want, |_| sum_tolerance(1020, 1000.0));
}

#[test]
fn f16_operands_are_sliced() {
    let cases: [(&str, u64, Case); 3] = [
        ("matmul/f16_write", LIMIT, |pass| {
            // Rows of an odd number of halves.
            let (x, w) = (rows(pass, 1)?, drawn(pass, &[20, COLS], 2)?);
            Ok(vec![matmul::forward(pass, Form::ABt, &x, &w)?])
        }),
        ("matmul/f16_write", 20_000, |pass| {
            let (a, b) = (drawn(pass, &[9, 31, 40], 1)?, drawn(pass, &[9, 24, 40], 2)?);
            Ok(vec![matmul::batched(pass, Form::ABt, &a, &b)?])
        }),
        ("matmul/f16_write", 40_000, |pass| {
            let (a, b, mut sum) = (drawn(pass, &[2051, 16], 3)?, drawn(pass, &[2051, 8], 4)?, pass.zeros(&[16, 8])?);
            matmul::accumulate(pass, Form::AtB, &a, &b, &mut sum)?;
            Ok(vec![sum])
        }),
    ];
    for (index, (name, limit, case)) in cases.into_iter().enumerate() {
        let product = |binding_bytes| {
            let limits = DeviceLimits { binding_bytes, ..Default::default() };
            ran(&lesser_gpu_in(Precision::F16, limits), case).unwrap()
        };
        let ((want, whole), (got, sliced)) = (product(None), product(Some(limit)));
        let calls = |of: &[(String, u64)]| of.iter().filter(|call| call.0 == name).map(|call| call.1).sum::<u64>();
        assert!(got == want && calls(&sliced) > calls(&whole), "{index}: {whole:?} {sliced:?}");
    }
}

#[test]
fn what_cannot_be_sliced_is_refused_with_a_remedy() {
    let cases: [(&str, Case); 6] = [
        ("matmul/write", |pass| {
            let (a, b) = (drawn(pass, &[3, COLS], 1)?, rows(pass, 2)?);
            Ok(vec![matmul::forward(pass, Form::ABt, &a, &b)?])
        }),
        ("matmul/write", |pass| {
            let (a, b) = (drawn(pass, &[2, ROWS, COLS], 1)?, drawn(pass, &[2, COLS, 4], 2)?);
            Ok(vec![matmul::batched(pass, Form::AB, &a, &b)?])
        }),
        ("layer_norm/forward", |pass| {
            let (x, one) = (drawn(pass, &[2, ROWS * COLS], 1)?, drawn(pass, &[ROWS * COLS], 1)?);
            Ok(vec![layer_norm::forward(pass, &x, &one, &one, 1e-6)?.0])
        }),
        ("token_embedding/pieces", |pass| {
            let ids = TokenIds::upload(pass, &[1; ROWS], ROWS, 1, 50)?;
            let (dy, mut dtable, mut dposemb) = (rows(pass, 1)?, pass.zeros(&[50, COLS])?, pass.zeros(&[1, COLS])?);
            token_embedding::backward(pass, &ids, &dy, &mut dtable, &mut dposemb)?;
            Ok(vec![dtable])
        }),
        ("selection_scores/partial", |pass| {
            let (image, text, one) = (rows(pass, 1)?, rows(pass, 2)?, pass.upload(&[1.0], &[1])?);
            let candidates = Candidates { image: &image, text: &text, log_scale: &one, bias: &one };
            let (draw, mut conditional) = (Draw { open: &[0], chunk: &[1] }, pass.zeros(&[ROWS])?);
            selection_scores::condition_on(pass, 1.0, candidates, draw, &mut conditional)?;
            Ok(vec![conditional])
        }),
        ("contrastive_softmax/row_sums", |pass| {
            let [image, text] = paired_embeddings(300, 8).map(|rows| pass.upload(&rows, &[300, 8]));
            let one = pass.upload(&[1.0], &[1])?;
            Ok(vec![contrastive_softmax::forward(pass, &image?, &text?, &one)?])
        }),
    ];
    for (name, case) in cases {
        assert!(ran(&limited(None), case).is_ok(), "{name} without a limit");
        let refused = ran(&limited(Some(LIMIT)), case).unwrap_err();
        assert!(
            matches!(&refused, KernelError::Unbindable { kernel, bytes, limit: LIMIT, .. } if *kernel == name && *bytes > LIMIT),
            "{refused}"
        );
        assert!(refused.to_string().contains("--micro-batch"), "{refused}");
    }
}

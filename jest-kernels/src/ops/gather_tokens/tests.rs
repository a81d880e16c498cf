use super::*;
use crate::testing::*;

/// For each example k of l indices, ascending, different from one example to the next.
fn choose(n: usize, k: usize, l: usize) -> Vec<u32> {
    let choice = |example: usize| {
        let noise = random(l, example as u64);
        let mut order: Vec<u32> = (0..l as u32).collect();
        order.sort_by(|a, b| noise[*a as usize].total_cmp(&noise[*b as usize]));
        order.truncate(k);
        order.sort_unstable();
        order
    };
    (0..n).flat_map(choice).collect()
}

fn check(n: usize, k: usize, l: usize, d: usize) {
    let indices = choose(n, k, l);
    let (x, dy) = (random(n * l * d, 1), random(n * k * d, 2));
    let want = oracle::forward(&wide(&x), &indices, k, l, d);
    let dx_want = oracle::backward(&wide(&dy), &indices, k, l, d);
    on_each_device(|pass| {
        let kept = KeptTokens::upload(pass, &indices, n, k, l).unwrap();
        assert_eq!(kept.k(), k);
        let (x, dy) = (pass.upload(&x, &[n * l, d]).unwrap(), pass.upload(&dy, &[n * k, d]).unwrap());
        let y = forward(pass, &x, &kept).unwrap();
        assert_within("y", &checked_read(pass, "y", &y), &want, |_| 0.0);
        let dx = backward(pass, &dy, &kept).unwrap();
        assert_within("dx", &checked_read(pass, "dx", &dx), &dx_want, |_| 0.0);
    });
}

#[test]
fn matches_oracle_on_ragged_shapes() {
    for n in RAGGED {
        check(3, n.div_ceil(2), n, 5);
        check(2, 3, 7, n);
    }
    check(259, 1, 3, 33);
    check(3, 9, 9, 4);
}

#[test]
fn matches_oracle_beyond_one_dispatch_dimension() {
    check(65_537, 1, 2, 33);
}

#[test]
fn oracle_backward_is_the_derivative() {
    let (k, l, d) = (2, 4, 3);
    let indices = [0, 3, 1, 2];
    let (x, dy) = (wide(&random(2 * l * d, 1)), wide(&random(2 * k * d, 2)));
    let dx = oracle::backward(&dy, &indices, k, l, d);
    assert_is_gradient("dx", &x, &dy, |x| oracle::forward(x, &indices, k, l, d), &dx);
}

#[test]
fn nan_of_a_dropped_token_is_dropped_and_of_a_kept_one_kept() {
    on_each_device(|pass| {
        let kept = KeptTokens::upload(pass, &[1], 1, 1, 2).unwrap();
        let x = pass.upload(&[f32::NAN, 1.0], &[2, 1]).unwrap();
        let y = forward(pass, &x, &kept).unwrap();
        assert_eq!(pass.read(&y).unwrap(), [1.0]);
        let dy = pass.upload(&[f32::NAN], &[1, 1]).unwrap();
        let dx = backward(pass, &dy, &kept).unwrap();
        let dx = pass.read(&dx).unwrap();
        assert!(dx[0] == 0.0 && dx[1].is_nan());
    });
}

#[test]
fn wrong_indices_and_shapes_are_named() {
    on_each_device(|pass| {
        let error = KeptTokens::upload(pass, &[0, 1, 0, 4], 2, 2, 4).unwrap_err().to_string();
        assert_eq!(error, "gather_tokens: index is 4, but must be at least 1 and below 4 (example 1, slot 1)");
        let error = KeptTokens::upload(pass, &[0, 1, 2, 2], 2, 2, 4).unwrap_err().to_string();
        assert_eq!(error, "gather_tokens: index is 2, but must be at least 3 and below 4 (example 1, slot 1)");
        assert!(KeptTokens::upload(pass, &[0, 1, 2], 2, 2, 4).is_err());
        let kept = KeptTokens::upload(pass, &[0, 1, 0, 3], 2, 2, 4).unwrap();
        let x = pass.zeros(&[7, 2]).unwrap();
        let error = forward(pass, &x, &kept).unwrap_err().to_string();
        assert_eq!(error, "gather_tokens: x has shape [7, 2], expected [8, 2]");
        assert!(backward(pass, &x, &kept).is_err());
    });
}

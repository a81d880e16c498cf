use super::*;
use crate::testing::*;

/// Ids of which one in three is the same (padding), so that it is summed in several pieces.
fn ids(n: usize, l: usize, vocab: usize) -> Vec<u32> {
    let values = random(n * l, 5);
    values
        .iter()
        .enumerate()
        .map(|(i, v)| if i % 3 == 0 { 0 } else { ((v + 1.0) * 0.5 * vocab as f32) as u32 })
        .collect()
}

fn check(n: usize, l: usize, vocab: usize, d: usize, spare: usize) {
    let ids = ids(n, l, vocab);
    let (table, posemb, dy) = (random(vocab * d, 1), random((l + spare) * d, 2), random(n * l * d, 3));
    let want = oracle::forward(&ids, l, &wide(&table), &wide(&posemb), d);
    let (mut dtable, mut dposemb) = (wide(&table), wide(&posemb));
    oracle::backward(&ids, l, &wide(&dy), &mut dtable, &mut dposemb, d);
    let mut counts = vec![0; vocab];
    ids.iter().for_each(|id| counts[*id as usize] += 1);
    on_each_device(|pass| {
        let tokens = TokenIds::upload(pass, &ids, n, l, vocab).unwrap();
        assert_eq!((tokens.n(), tokens.l()), (n, l));
        let (table_in, posemb_in) =
            (pass.upload(&table, &[vocab, d]).unwrap(), pass.upload(&posemb, &[l + spare, d]).unwrap());
        let dy = pass.upload(&dy, &[n * l, d]).unwrap();
        let y = forward(pass, &tokens, &table_in, &posemb_in).unwrap();
        assert_within("y", &checked_read(pass, "y", &y), &want, |_| 2.0 * EPS);
        let (mut dtable_out, mut dposemb_out) = (table_in.clone(), posemb_in.clone());
        backward(pass, &tokens, &dy, &mut dtable_out, &mut dposemb_out).unwrap();
        assert_eq!(pass.read(&table_in).unwrap(), table, "a clone keeps its own value");
        assert_eq!(pass.read(&posemb_in).unwrap(), posemb, "a clone keeps its own value");
        let tolerance = |i: usize| sum_tolerance(counts[i / d], counts[i / d] as f64 + 1.0);
        let got = checked_read(pass, "dtable", &dtable_out);
        assert_within("dtable", &got, &dtable, tolerance);
        for (id, _) in counts.iter().enumerate().filter(|(_, count)| **count == 0) {
            assert_eq!(got[id * d..][..d], table[id * d..][..d], "row {id} does not occur");
        }
        let got = checked_read(pass, "dposemb", &dposemb_out);
        assert_within("dposemb", &got, &dposemb, |_| sum_tolerance(n, n as f64 + 1.0));
        assert_eq!(got[l * d..], posemb[l * d..], "positions that do not occur");
    });
}

#[test]
fn matches_oracle_on_ragged_shapes() {
    check(1, 1, 1, 1, 0);
    check(3, 5, 7, 33, 0);
    check(2, 3, 100, 257, 4);
    check(33, 31, 50, 65, 1);
    check(5, 255, 3, 3, 0);
}

#[test]
fn matches_oracle_beyond_one_dispatch_dimension() {
    // Elements of y, pieces, and one id in more than 65,535 places.
    check(65_537, 3, 120_000, 1, 0);
    check(9, 8_000, 2, 70, 0);
}

#[test]
fn devices_sum_in_the_same_order() {
    let (n, l, vocab, d) = (40, 32, 9, 3);
    let (ids, dy) = (ids(n, l, vocab), random(n * l * d, 3));
    let gradients = devices().map(|device| {
        let mut pass = device.pass();
        let tokens = TokenIds::upload(&mut pass, &ids, n, l, vocab).unwrap();
        let dy = pass.upload(&dy, &[n * l, d]).unwrap();
        let (mut dtable, mut dposemb) = (pass.zeros(&[vocab, d]).unwrap(), pass.zeros(&[l, d]).unwrap());
        backward(&mut pass, &tokens, &dy, &mut dtable, &mut dposemb).unwrap();
        (pass.read(&dtable).unwrap(), pass.read(&dposemb).unwrap())
    });
    assert_eq!(gradients[0], gradients[1]);
}

#[test]
fn oracle_backward_is_the_derivative() {
    let (l, vocab, d) = (3, 4, 2);
    let ids = [0, 2, 2, 3, 0, 2];
    let (table, posemb, dy) = (wide(&random(vocab * d, 1)), wide(&random(l * d, 2)), wide(&random(12, 3)));
    let (mut dtable, mut dposemb) = (vec![0.0; vocab * d], vec![0.0; l * d]);
    oracle::backward(&ids, l, &dy, &mut dtable, &mut dposemb, d);
    assert_is_gradient("dtable", &table, &dy, |table| oracle::forward(&ids, l, table, &posemb, d), &dtable);
    assert_is_gradient("dposemb", &posemb, &dy, |posemb| oracle::forward(&ids, l, &table, posemb, d), &dposemb);
}

#[test]
fn nan_is_not_hidden_and_does_not_spread() {
    on_each_device(|pass| {
        let tokens = TokenIds::upload(pass, &[1, 0, 1, 2], 2, 2, 3).unwrap();
        let table = pass.upload(&[1.0, f32::NAN, 2.0], &[3, 1]).unwrap();
        let posemb = pass.zeros(&[2, 1]).unwrap();
        let y = forward(pass, &tokens, &table, &posemb).unwrap();
        let nan: Vec<bool> = pass.read(&y).unwrap().iter().map(|y| y.is_nan()).collect();
        assert_eq!(nan, [true, false, true, false]);
        let (mut dtable, mut dposemb) = (pass.zeros(&[3, 1]).unwrap(), posemb);
        backward(pass, &tokens, &y, &mut dtable, &mut dposemb).unwrap();
        let nan: Vec<bool> = pass.read(&dtable).unwrap().iter().map(|y| y.is_nan()).collect();
        assert_eq!(nan, [false, true, false]);
    });
}

#[test]
fn wrong_ids_and_shapes_are_named() {
    on_each_device(|pass| {
        let error = TokenIds::upload(pass, &[0, 1, 2, 9, 0, 0], 2, 3, 9).unwrap_err().to_string();
        assert_eq!(error, "token_embedding: token id is 9, but must be below the vocabulary of 9 (row 1, position 0)");
        let error = TokenIds::upload(pass, &[0, 1], 2, 3, 9).unwrap_err().to_string();
        assert_eq!(error, "token_embedding: ids has shape [2], expected [2, 3]");
        let tokens = TokenIds::upload(pass, &[0; 6], 2, 3, 9).unwrap();
        let (mut table, mut short) = (pass.zeros(&[9, 4]).unwrap(), pass.zeros(&[2, 4]).unwrap());
        let error = forward(pass, &tokens, &table, &short).unwrap_err().to_string();
        assert_eq!(error, "token_embedding: posemb has shape [2, 4], expected [3, 4]");
        let error = forward(pass, &tokens, &short, &table).unwrap_err().to_string();
        assert_eq!(error, "token_embedding: table has shape [2, 4], expected [9, 4]");
        let dy = pass.zeros(&[6, 4]).unwrap();
        assert!(backward(pass, &tokens, &dy, &mut table, &mut short).is_err());
        assert!(backward(pass, &tokens, &short.clone(), &mut table.clone(), &mut table).is_err());
    });
}

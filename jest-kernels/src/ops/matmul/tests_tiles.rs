//! Every tile by hand, in every form and with every end; and which one is chosen.

use super::tests::{FORMS, oracle_for, shapes};
use super::*;
use crate::testing::*;

/// What a store makes of sums, given what was there before.
fn stored(store: Store, sums: &[f64], before: &[f64], bias: &[f64]) -> Vec<f64> {
    let with_bias = || sums.iter().enumerate().map(|(i, sum)| sum + bias[i % bias.len()]).collect::<Vec<_>>();
    match store {
        Store::Write => sums.to_vec(),
        Store::Add => sums.iter().zip(before).map(|(sum, before)| sum + before).collect(),
        Store::Bias => with_bias(),
        Store::BiasGelu(kind) => crate::ops::gelu::oracle::forward(kind, &with_bias()),
    }
}

/// The software adapter of the tests is given other tiles, so those of real GPUs are dispatched by hand.
#[test]
fn tiles_of_gpus_match_the_oracle_with_every_store() {
    // Rows, columns and depths end within a tile; of the wide one, in one dispatch of two.
    check_ends(Tile::Large, false, (65, 130, 35), 0);
    check_ends(Tile::Wide, false, (132, 260, 44), 20);
    check_ends(Tile::Subgroup, false, (35, 132, 43), 20);
}

/// Every form and end of a tile.
pub(super) fn check_ends(tile: Tile, halves: bool, sizes: (usize, usize, usize), first: usize) {
    let gelus = Gelu::ALL.map(Store::BiasGelu);
    let plain: &[Form] = if tile.wants_rows_of_b() { &[Form::AB, Form::AtB] } else { &FORMS };
    let layer = if tile.wants_rows_of_b() { &[Form::AB] } else { &[Form::ABt] };
    for store in [Store::Write, Store::Add, Store::Bias].into_iter().chain(gelus) {
        let forms = if matches!(store, Store::Write | Store::Add) { plain } else { layer };
        forms.iter().for_each(|form| check_tile((tile, halves), *form, store, sizes, first));
    }
}

/// The depths before `first` are left to a dispatch that adds.
fn check_tile((tile, halves): (Tile, bool), form: Form, store: Store, (m, n, k): (usize, usize, usize), first: usize) {
    let mut pass = devices()[1].pass();
    let [mut a, mut b, before, bias] = [m * k, k * n, m * n, n].map(|len| random(len, len as u64));
    if halves {
        a.iter_mut().chain(&mut b).for_each(|x| *x = half::f16::from_f32(*x).to_f32());
    }
    let sums = oracle_for(form)(m, n, k, &wide(&a), &wide(&b));
    let (a_shape, b_shape) = shapes(form, m, n, k);
    let (mut a, mut b) = (pass.upload(&a, &a_shape).unwrap(), pass.upload(&b, &b_shape).unwrap());
    if halves {
        (a, b) = (round(&mut pass, &a).unwrap(), round(&mut pass, &b).unwrap());
    }
    let (y, biases) = (pass.upload(&before, &[m, n]).unwrap(), pass.upload(&bias, &[n]).unwrap());
    let pre = pass.empty_f32(&[m, n]).unwrap();
    let all = [&a, &b, &y, &biases, &pre];
    let used = match store {
        Store::Write | Store::Add => 3,
        Store::Bias => 4,
        Store::BiasGelu(_) => 5,
    };
    let (rows, cols) = tile.sides();
    let grid = Grid::rows(m.div_ceil(rows) * n.div_ceil(cols));
    let split = if used == 5 { k } else { first };
    for (store, depths) in [(store, 0..split), (if split == 0 { store } else { Store::Add }, split..k)] {
        if !depths.is_empty() {
            let used = if store == Store::Add { 3 } else { used };
            let parameters = Parameters::new(Sizes { z: 1, m, n, k }, depths, 0);
            pass.dispatch(&kernels::variant(form, store, tile, halves), &all[..used], parameters, grid, 0.0).unwrap();
        }
    }
    let want = stored(store, &sums, &wide(&before), &wide(&bias));
    let tolerance = sum_tolerance(k + 2, k as f64 + 2.0) * 1.2 + crate::ops::gelu::TOLERANCE * 8.0;
    let name = format!("{tile:?} {form:?} {store:?}");
    assert_within(&name, &checked_read(&mut pass, "y", &y), &want, |_| tolerance);
}

#[test]
fn tiles_are_chosen_by_adapter_and_shape() {
    let on = |software, matrices| crate::device::Abilities {
        software,
        subgroups: true,
        lanes: 32,
        matrices,
        ..Default::default()
    };
    let choose = |software, form, (z, m, n, k)| {
        let sizes = Sizes { z, m, n, k };
        assert_eq!(
            Tile::choose(on(software, true), Precision::F32, form, sizes),
            Tile::choose(on(software, false), Precision::F16, form, sizes),
            "matrix units are for f16"
        );
        Tile::choose(on(software, false), Precision::F32, form, sizes)
    };
    assert_eq!(choose(false, Form::ABt, (1, 8192, 768, 192)), Tile::Wide);
    assert_eq!(choose(false, Form::ABt, (1, 8192, 192, 768)), Tile::Large, "a third of wide tiles would be empty");
    assert_eq!(choose(false, Form::AB, (1, 8192, 770, 192)), Tile::Large, "rows of b are no whole vectors");
    assert_eq!(choose(false, Form::AtB, (8, 768, 256, 1024)), Tile::Wide);
    assert_eq!(choose(false, Form::AtB, (1, 768, 256, 1024)), Tile::Large, "12 workgroups do not fill a GPU");
    assert_eq!(choose(false, Form::AB, (1, 63, 4096, 64)), Tile::Small);
    assert_eq!(choose(true, Form::AB, (1, 64, 64, 64)), Tile::Small);
    assert_eq!(choose(true, Form::AB, (1, 256, 256, 256)), Tile::Registers);
    let plain = crate::device::Abilities { software: true, ..Default::default() };
    let sizes = Sizes { z: 1, m: 256, n: 256, k: 256 };
    assert_eq!(Tile::choose(plain, Precision::F32, Form::AB, sizes), Tile::Small, "no subgroups");
    let units = |form, (m, n, k)| Tile::choose(on(false, true), Precision::F16, form, Sizes { z: 1, m, n, k });
    assert_eq!(units(Form::ABt, (64, 64, 64)), Tile::Matrix);
    assert_eq!(units(Form::AtB, (770, 768, 64)), Tile::Large, "columns of a are no whole vectors");
    assert_eq!(units(Form::AB, (32, 4096, 64)), Tile::Small, "few rows");
}

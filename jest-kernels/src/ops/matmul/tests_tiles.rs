//! Every tile by hand, in every form and with every end; and which one is chosen.

use super::by_hand::Choice;
use super::kernels::Units;
use super::*;
use crate::ops::gelu;
use crate::testing::*;

/// The software adapter of the tests is given other tiles, so those of real GPUs are dispatched by hand.
#[test]
fn tiles_of_gpus_match_the_oracle_with_every_store() {
    // Rows, columns and depths end within a tile; of the wide one, in one dispatch of two.
    let pass = &mut devices()[1].pass();
    check_ends(pass, Tile::Large, false, (65, 130, 35), 0);
    check_ends(pass, Tile::Wide, false, (132, 260, 44), 20);
    check_ends(pass, Tile::Subgroup, false, (35, 132, 43), 20);
}

/// Every form and end of a tile; the depths before `first` are left to a dispatch that adds.
pub(super) fn check_ends(pass: &mut Pass, tile: Tile, halves: bool, sizes: (usize, usize, usize), first: usize) {
    let k = sizes.2;
    let tolerance = sum_tolerance(k + 2, k as f64 + 2.0) * gelu::STEEPEST + gelu::TOLERANCE * 8.0;
    for (form, store) in kernels::ends(tile) {
        let choice = Choice { tile, halves, form, store };
        let product = by_hand::product(pass, choice, sizes, first, 1.0).unwrap();
        let y = checked_read(pass, "y", &product.y);
        assert_within(&format!("{choice:?}"), &y, &product.want, |_| tolerance);
        if let Some((slope, want)) = &product.slope {
            let slope = checked_read(pass, "slope", slope);
            assert_within(&format!("slope of {choice:?}"), &slope, want, |_| tolerance);
        }
    }
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
    assert_eq!(units(Form::ABt, (64, 64, 64)), Tile::Matrix(Units::Fours), "little workgroup memory");
    let units_in = |kib: u32, form, (m, n, k)| {
        let abilities = crate::device::Abilities { workgroup_bytes: kib << 10, ..on(false, true) };
        Tile::choose(abilities, Precision::F16, form, Sizes { z: 1, m, n, k })
    };
    assert_eq!(units_in(48, Form::ABt, (8192, 768, 768)), Tile::Matrix(Units::Deep));
    assert_eq!(units_in(32, Form::ABt, (8192, 768, 768)), Tile::Matrix(Units::Fours), "tiles of 48 KiB do not fit");
    assert_eq!(units_in(48, Form::ABt, (8192, 768, 772)), Tile::Matrix(Units::Fours), "rows are no whole eights");
    assert_eq!(units_in(48, Form::ABt, (8192, 192, 768)), Tile::Matrix(Units::Narrow), "a third would be empty");
    assert_eq!(units_in(32, Form::AtB, (768, 768, 8192)), Tile::Matrix(Units::Narrow), "36 workgroups do not fill");
    assert_eq!(units(Form::AtB, (770, 768, 64)), Tile::Large, "columns of a are no whole vectors");
    assert_eq!(units(Form::AB, (32, 4096, 64)), Tile::Small, "few rows");
}

/// Deep gradients on a GPU are summed in parts; what these leave over, fewer depths than there are parts, is added to them.
#[test]
fn gradients_in_parts_match_oracle_at_any_depth() {
    let gpu = &mut devices()[1].pass();
    let parts = |pass: &Pass, k| dispatch::split(pass, Form::AtB, Sizes { z: 1, m: 5, n: 3, k });
    assert_eq!(
        [1023, 1024, 1027, 2050, 4103, 100_003].map(|k| parts(gpu, k)),
        [None, Some(2), Some(2), Some(4), Some(8), Some(8)]
    );
    for (m, n, k) in [(5, 3, 1024), (33, 7, 1025), (1, 65, 2051), (31, 33, 4103), (36, 68, 4100)] {
        let (a, b, start) = (random(k * m, 1), random(k * n, 2), random(m * n, 3));
        let want = oracle::atb(m, n, k, &wide(&a), &wide(&b));
        let magnitude = oracle::atb(m, n, k, &magnitudes(&wide(&a)), &magnitudes(&wide(&b)));
        let rounded =
            |values: &[f32]| values.iter().map(|x| f64::from(half::f16::from_f32(*x).to_f32())).collect::<Vec<_>>();
        let want_f16 = oracle::atb(m, n, k, &rounded(&a), &rounded(&b));
        let added = |pass: &mut Pass| {
            let (a, b) = (pass.upload(&a, &[k, m]).unwrap(), pass.upload(&b, &[k, n]).unwrap());
            let mut out = pass.upload(&start, &[m, n]).unwrap();
            let before = out.clone();
            accumulate(pass, Form::AtB, &a, &b, &mut out).unwrap();
            let name = format!("{} {m}x{n}x{k}", pass.precision());
            let want = if pass.precision() == Precision::F16 { &want_f16 } else { &want };
            let want: Vec<f64> = want.iter().zip(&start).map(|(y, start)| y + f64::from(*start)).collect();
            let got = checked_read(pass, &name, &out);
            assert_within(&name, &got, &want, |i| sum_tolerance(k + 1, magnitude[i] + 1.0));
            assert_eq!(pass.read(&before).unwrap(), start, "a clone keeps its value");
        };
        on_each_device(added);
        devices_in(Precision::F16).iter().for_each(|device| added(&mut device.pass()));
    }
}

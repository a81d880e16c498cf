use half::f16;

use super::*;
use crate::testing::*;

/// Bits of the halves of a tensor.
fn halves(pass: &mut Pass, tensor: &Tensor) -> Vec<u16> {
    assert_guarded(pass, "y", tensor);
    pass.read_f16(tensor).unwrap().into_iter().map(f16::to_bits).collect()
}

/// Every f16, the ties between neighbours, and the floats beside both; NaNs; beyond the range.
fn values() -> Vec<f32> {
    let mut values = vec![0.0, -0.0, f32::MIN_POSITIVE, 1e-40, 65_519.996, 65_520.0, 1e30, f32::MAX, f32::INFINITY];
    values.extend([2.980_232_2e-8, 2.980_232_6e-8, -2.980_232_2e-8, f32::NAN, -f32::NAN]);
    values.extend([0x7f80_0001, 0xff80_2000, 0x7fc0_dead].map(f32::from_bits));
    for bits in (0..0x7c00).chain(0x8000..0xfc00) {
        let value = f16::from_bits(bits).to_f32();
        let next = f16::from_bits(bits + 1).to_f32();
        let tie = if next.is_finite() { value / 2.0 + next / 2.0 } else { 65_520.0f32.copysign(value) };
        values.extend([value, value.next_up(), value.next_down(), tie, tie.next_up(), tie.next_down()]);
    }
    values
}

#[test]
fn to_f16_matches_oracle_and_half_on_every_boundary() {
    let values = values();
    assert!(values.len() % 2 == 1, "the last word is half full");
    let want = oracle::to_f16(&wide(&values));
    on_each_device(|pass| {
        let x = pass.upload(&values, &[values.len()]).unwrap();
        let y = to_f16(pass, &x).unwrap();
        assert_eq!((y.dtype(), y.shape()), (DType::F16, x.shape()));
        let got = halves(pass, &y);
        for ((got, want), x) in got.iter().zip(&want).zip(&values) {
            let value = oracle::to_f32(*got);
            assert!(value == *want || value.is_nan() && want.is_nan(), "{x:e} became {value}, oracle {want}");
            assert_eq!(*got, f16::from_f32(*x).to_bits(), "bits of {x:e}, sign and NaN included");
        }
    });
}

#[test]
fn operands_of_products_are_rounded_where_products_round() {
    let mut values = values();
    values.retain(|x| !x.is_subnormal());
    on_each_device(|pass| {
        let x = pass.upload(&values, &[values.len()]).unwrap();
        let y = to_product_operand(pass, &x).unwrap();
        assert_eq!((y.dtype(), y.shape()), (DType::F32, x.shape()), "as it is");
        if pass.cpu().is_none() {
            return;
        }
        let y = pass.in_precision(crate::Precision::Bf16, |pass| to_product_operand(pass, &x)).unwrap();
        assert_guarded(pass, "y", &y);
        for (got, x) in y.bf16().iter().zip(&values) {
            let (got, want) = (half::bf16::from_bits(*got), half::bf16::from_f32(*x));
            assert!(got == want && got.to_bits() == want.to_bits() || got.is_nan() && want.is_nan(), "{x:e}: {got}");
        }
    });
}

#[test]
fn to_f32_matches_oracle_on_every_half() {
    // Every f16, in pairs that are no f32 that a device could take for a value of its own.
    let words: Vec<u32> = (0..0x8000u32).map(|i| (i * 2) | ((i * 2 + 1) << 16)).collect();
    on_each_device(|pass| {
        let mut x = pass.empty(DType::F16, &[0x10000]).unwrap();
        match pass.cpu() {
            Some(_) => x.f16_mut().copy_from_slice(bytemuck::cast_slice(&words)),
            None => {
                let source = pass.upload_u32(&words, &[0x8000]).unwrap();
                x.gpu_unique(pass).unwrap();
                pass.copy(&source, &x);
            }
        }
        let y = to_f32(pass, &x).unwrap();
        for (bits, got) in (0..=u16::MAX).zip(checked_read(pass, "y", &y)) {
            let want = oracle::to_f32(bits);
            assert!(f64::from(got) == want || got.is_nan() && want.is_nan(), "{bits:#x} became {got}, oracle {want}");
            assert_eq!(got.to_bits(), f16::from_bits(bits).to_f32().to_bits());
        }
    });
}

#[test]
fn there_and_back_on_ragged_shapes() {
    for n in RAGGED.into_iter().chain([65_537 * 2 * WG + 1]) {
        let x: Vec<f32> = random(n, 1).iter().map(|x| x * 8.0).collect();
        let want = oracle::to_f16(&wide(&x));
        on_each_device(|pass| {
            let x = pass.upload(&x, &[n]).unwrap();
            let y = to_f16(pass, &x).unwrap();
            assert_guarded(pass, "y", &y);
            let back = to_f32(pass, &y).unwrap();
            assert_within("back", &checked_read(pass, "back", &back), &want, |_| 0.0);
        });
    }
}

#[test]
fn wrong_types_are_named() {
    on_each_device(|pass| {
        let x = pass.zeros(&[3]).unwrap();
        let error = to_f32(pass, &x).unwrap_err().to_string();
        assert_eq!(error, "cast: x holds F32 elements, expected F16");
        let y = to_f16(pass, &x).unwrap();
        assert!(to_f16(pass, &y).is_err());
    });
}

use super::*;
use crate::testing::{assert_within, random, sum_tolerance};

fn rounded(values: &[f32]) -> Vec<f64> {
    values.iter().map(|value| f64::from(wide(pack::round(*value)))).collect()
}

fn exact(values: &[f32]) -> Vec<f64> {
    values.iter().map(|value| f64::from(*value)).collect()
}

/// Every level against the naive sum of what it multiplies, for an operand that lies by rows or by depths.
fn check((m, n, k): (usize, usize, usize), (a_by_depth, b_by_depth): (bool, bool)) {
    let strides = |by_depth: bool, len: usize| if by_depth { (1, len) } else { (k, 1) };
    let ((a_stride, a_depth), (b_stride, b_depth)) = (strides(a_by_depth, m), strides(b_by_depth, n));
    let (a, b, start) = (random(m * k, 1), random(n * k, 2), random(m * n, 3));
    for level in levels().into_iter().chain(split_levels()) {
        let [a64, b64] = [&a, &b].map(|all| if level.splits() { exact(all) } else { rounded(all) });
        let product = |i: usize, f: &dyn Fn(f64) -> f64| -> f64 {
            (0..k).map(|d| f(a64[i / n * a_stride + d * a_depth] * b64[i % n * b_stride + d * b_depth])).sum()
        };
        let want: Vec<f64> = (0..m * n).map(|i| f64::from(start[i]) + product(i, &|x| x)).collect();
        let (steps, mut y) = (k.div_ceil(DEPTH), start.clone());
        let [mut rows, mut cols] = [m, n].map(|len| vec![0xffff; len.div_ceil(2 * SIDE) * 2 * steps * level.block()]);
        let a = Operand { elements: Elements::F32(&a), stride: a_stride, depth_stride: a_depth };
        let b = Operand { elements: Elements::F32(&b), stride: b_stride, depth_stride: b_depth };
        pack(level, Role::Left, &a, (0, m), (0, k), &mut rows);
        pack(level, Role::Right, &b, (0, n), (0, k), &mut cols);
        if !level.splits() {
            stored_before(level, Role::Left, &a, (m, k), &rows);
            stored_before(level, Role::Right, &b, (n, k), &cols);
        }
        multiply(level, (&rows, m), (&cols, n), k, (&mut y, n), true);
        let name = format!("{level:?} {m}x{n}x{k}");
        assert_within(&name, &y, &want, |i| sum_tolerance(k + 1, 1.0 + product(i, &f64::abs)));
    }
}

/// Elements that were rounded when they were stored are packed as those that are rounded now.
fn stored_before(level: Level, role: Role, operand: &Operand<'_>, (len, k): (usize, usize), packed: &[u16]) {
    let Elements::F32(elements) = operand.elements else { unreachable!() };
    let mut bits = vec![0; elements.len()];
    round_all(elements, &mut bits);
    let stored = Operand { elements: Elements::Bf16(&bits), ..*operand };
    let mut again = vec![0xffff; packed.len()];
    pack(level, role, &stored, (0, len), (0, k), &mut again);
    assert!(again == *packed, "{level:?} {len}x{k}: rounded before is packed otherwise");
}

#[test]
fn every_level_sums_the_rounded_elements() {
    for sizes in
        [(1, 1, 1), (1, 1, 40), (3, 31, 33), (32, 32, 32), (33, 65, 70), (64, 32, 257), (16, 48, 31), (47, 17, 96)]
    {
        for layout in [(false, false), (false, true), (true, false), (true, true)] {
            check(sizes, layout);
        }
    }
}

#[test]
fn three_parts_are_the_element() {
    let smallest = f32::MIN_POSITIVE * (1u32 << 23) as f32;
    let mut values = random(BLOCK, 4);
    values[..8].copy_from_slice(&[f32::MAX, -f32::MAX, smallest, -smallest, 0.0, -0.0, 1.0, 1.0 + f32::EPSILON]);
    for (i, value) in values.iter_mut().enumerate().skip(8) {
        *value *= 2.0f32.powi(i as i32 % 200 - 100);
    }
    let source = Operand { elements: Elements::F32(&values), stride: DEPTH, depth_stride: 1 };
    for level in split_levels() {
        let mut packed = [0xffff; 2 * PARTS * BLOCK];
        pack(level, Role::Left, &source, (0, SIDE), (0, DEPTH), &mut packed);
        for (i, value) in values.iter().enumerate() {
            let parts = [0, 1, 2].map(|part| wide(packed[part * BLOCK + i]));
            let sum: f64 = parts.iter().map(|part| f64::from(*part)).sum();
            assert_eq!(sum, f64::from(*value), "{level:?} {value:e}: {parts:?}");
        }
    }
}

/// Where the element of a row and a depth lies in packed blocks of so many steps of depth, in parts.
fn places(role: Role, steps: usize, row: usize, depth: usize) -> [usize; PARTS] {
    let (i, k) = (row % SIDE, depth % DEPTH);
    let within = if role == Role::Left { i * DEPTH + k } else { k / 2 * 2 * SIDE + 2 * i + k % 2 };
    let block = row / SIDE * steps + depth / DEPTH;
    std::array::from_fn(|part| (block * PARTS + part) * BLOCK + within)
}

/// By rows and by depths, for both sides, up to the edges: parts add up to the element, and to 0 beyond.
#[test]
fn every_way_to_split_packs_the_same_bits() {
    let mut values = random(41 * 45, 9);
    values[..5].copy_from_slice(&[f32::MAX, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0]);
    let layouts: [[usize; 4]; 3] = [[45, 1, 41, 45], [1, 41, 41, 45], [45, 1, 16, 32]];
    for [stride, depth_stride, rows, depths] in layouts {
        for role in [Role::Left, Role::Right] {
            let source = Operand { elements: Elements::F32(&values), stride, depth_stride };
            let mut packed = split_levels().into_iter().map(|level| {
                let mut packed = vec![0xffff; rows.div_ceil(2 * SIDE) * 2 * depths.div_ceil(DEPTH) * level.block()];
                pack(level, role, &source, (0, rows), (0, depths), &mut packed);
                packed
            });
            let first = packed.next().unwrap();
            assert!(packed.all(|other| other == first), "{stride} {depth_stride}");
            let steps = depths.div_ceil(DEPTH);
            for (row, depth) in (0..rows.next_multiple_of(SIDE)).flat_map(|i| (0..steps * DEPTH).map(move |k| (i, k))) {
                let inside = row < rows && depth < depths;
                let want = if inside { values[row * stride + depth * depth_stride] } else { 0.0 };
                let got: f32 = places(role, steps, row, depth).iter().rev().map(|at| wide(first[*at])).sum();
                assert!(got == want || !want.is_finite() || want == f32::MAX, "{row} {depth}: {got} for {want}");
            }
        }
    }
}

/// Single products: without any of the six of parts most would be off by 2⁻¹⁷ of themselves or more.
#[test]
fn products_of_parts_are_those_of_f32() {
    let (n, k) = (64, 1);
    let (a, b) = (random(n, 7), random(n, 8));
    let want: Vec<f64> = (0..n * n).map(|i| f64::from(a[i / n]) * f64::from(b[i % n])).collect();
    for level in split_levels() {
        let y = product(level, (n, n, k), &a, &b);
        assert_within(&format!("{level:?}"), &y, &want, |i| 4.0 * f64::from(f32::EPSILON) * want[i].abs());
    }
}

#[test]
fn what_is_not_finite_stays_so_in_parts() {
    let bad = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
    for (level, bad) in split_levels().into_iter().flat_map(|level| bad.map(|bad| (level, bad))) {
        let mut a = random(40 * 50, 5);
        a[7 * 50 + 3] = bad;
        let y = product(level, (40, 40, 50), &a, &random(40 * 50, 6));
        for (i, y) in y.iter().enumerate() {
            assert_eq!(y.is_finite(), i / 40 != 7, "{level:?} {bad} at {i}: {y}");
        }
    }
}

#[test]
fn rounding_is_to_the_nearest_and_keeps_what_is_not_finite() {
    for (x, want) in [
        (1.0, 1.0),
        (1.004, 1.0 + 2.0 / 256.0),
        (1.0 + 1.0 / 256.0, 1.0),
        (1.0 + 3.0 / 256.0, 1.0 + 4.0 / 256.0),
        (-3.0e38, half::bf16::from_f32(-3.0e38).to_f32()),
        (3.4e38, f32::INFINITY),
        (f32::NEG_INFINITY, f32::NEG_INFINITY),
        (1e-40, 0.0),
    ] {
        assert_eq!(wide(pack::round(x)), want, "{x}");
        for level in levels() {
            let elements = vec![x; BLOCK];
            let source = Operand { elements: Elements::F32(&elements), stride: DEPTH, depth_stride: 1 };
            let mut both = [0xffff; 2 * BLOCK];
            pack(level, Role::Left, &source, (0, SIDE), (0, DEPTH), &mut both);
            assert!(both[..BLOCK].iter().all(|bits| wide(*bits) == want), "{level:?} {x}");
        }
    }
    assert!(wide(pack::round(f32::NAN)).is_nan());
}

/// Sums of the plain form have one order, whatever it is compiled for: pairs of depths ascend, the lower one first.
#[test]
fn the_plain_form_sums_in_the_order_of_depths() {
    let (m, n, k) = (40, 37, 100);
    let (a, b) = (random(m * k, 10), random(n * k, 11));
    let rounded = |all: &[f32], at: usize| wide(pack::round(all[at]));
    let y = product(Level::Plain, (m, n, k), &a, &b);
    for (i, y) in y.iter().enumerate() {
        let want = (0..k).fold(0.0f32, |sum, d| sum + rounded(&a, i / n * k + d) * rounded(&b, i % n * k + d));
        assert_eq!(y.to_bits(), want.to_bits(), "{i}: {y} is not {want}");
    }
}

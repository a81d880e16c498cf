use safetensors::SafeTensors;

use super::*;
use crate::ops::patch_embed;
use crate::testing::*;

/// timm works in f32, with a pseudo-inverse of its own.
const LIMIT: f64 = 1e-4;

const KINDS: [Resize; 4] = [Resize::Bilinear, Resize::BicubicAntialias, Resize::BilinearCorners, Resize::Bicubic];

fn golden(name: &str) -> (Vec<usize>, Vec<f32>) {
    let path = fixture("pi_resize.safetensors");
    let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let tensor = tensors.tensor(name).unwrap();
    let values = tensor.data().as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
    (tensor.shape().to_vec(), values)
}

#[test]
fn kernels_match_timm() {
    let (shape, weight16) = golden("weight16");
    for new in [8, 10, 12, 32] {
        let (new_shape, want) = golden(&format!("weight{new}"));
        let m = matrix(Resize::BicubicAntialias, 16, new);
        let exact = oracle::forward(&wide(&weight16), &wide(&m), 256);
        let limit = LIMIT * largest(&wide(&want));
        assert_within("oracle", &want, &exact, |_| limit);
        on_each_device(|pass| {
            let w = pass.upload(&weight16, &shape).unwrap();
            let m = pass.upload(&m, &[new * new, 256]).unwrap();
            let w_new = forward(pass, &w, &m, new).unwrap();
            assert_eq!(w_new.shape(), new_shape);
            assert_within("w_new", &checked_read(pass, "w_new", &w_new), &wide(&want), |_| limit);
        });
    }
}

#[test]
fn position_grids_match_timm() {
    let (_, pos16) = golden("pos16");
    for new in [7, 8, 12, 24] {
        let (_, want) = golden(&format!("pos{new}"));
        let got = resize_grid(Resize::BicubicAntialias, &pos16, 16, new).unwrap();
        assert_within("pos", &got, &wide(&want), |_| LIMIT * largest(&wide(&want)));
    }
}

/// The pairs of sizes that training and checkpoints use, and odd ones.
const PAIRS: [(usize, usize); 8] = [(32, 16), (16, 32), (16, 8), (14, 16), (5, 3), (3, 7), (4, 4), (1, 2)];

#[test]
fn the_pseudo_inverse_is_one() {
    let product = |a: &Matrix, b: &Matrix| Matrix {
        rows: a.rows,
        cols: b.cols,
        values: crate::ops::matmul::oracle::ab(a.rows, b.cols, a.cols, &a.values, &b.values),
    };
    let close = |what: &str, a: &Matrix, b: &Matrix| {
        assert_eq!((a.rows, a.cols), (b.rows, b.cols));
        let top = largest(&b.values);
        assert!(a.values.iter().zip(&b.values).all(|(a, b)| (a - b).abs() <= 1e-12 * top.max(1.0)), "{what}");
    };
    let check = |a: &Matrix| {
        let inverse = weights::pseudo_inverse(a);
        let (left, right) = (product(&inverse, a), product(a, &inverse));
        close("A A+ A = A", &product(&right, a), a);
        close("A+ A A+ = A+", &product(&left, &inverse), &inverse);
        close("A+ A is symmetric", &left, &left.transposed());
        close("A A+ is symmetric", &right, &right.transposed());
    };
    for (old, new) in PAIRS {
        KINDS.iter().for_each(|kind| check(&weights::resize(*kind, old, new)));
    }
    // Two equal columns: not of full rank.
    check(&Matrix { rows: 3, cols: 2, values: vec![1.0, 1.0, 2.0, 2.0, 3.0, 3.0] });
}

#[test]
fn weights_are_known_ones_and_sum_to_one() {
    let rows = weights::resize(Resize::Bilinear, 2, 4).values;
    assert_eq!(rows, [1.0, 0.0, 0.75, 0.25, 0.25, 0.75, 0.0, 1.0]);
    let rows = weights::resize(Resize::BilinearCorners, 3, 5).values;
    assert_eq!(rows, [1.0, 0.0, 0.0, 0.5, 0.5, 0.0, 0.0, 1.0, 0.0, 0.0, 0.5, 0.5, 0.0, 0.0, 1.0]);
    // Keys' cubic at a quarter and three quarters of the way; what would lie beyond the edge is the edge's.
    let near = |got: &[f64], want: &[f64]| got.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-12);
    let rows = weights::resize(Resize::Bicubic, 2, 4).values;
    let [at_1_75, at_0_75, at_0_25, at_1_25] = [-0.035_156_25, 0.261_718_75, 0.878_906_25, -0.105_468_75];
    let first = [at_1_75 + at_0_75 + at_0_25, at_1_25];
    assert!(near(&rows[..2], &first) && near(&rows[2..4], &[at_1_25 + at_0_25, at_0_75 + at_1_75]), "{rows:?}");
    for (old, new) in PAIRS {
        for kind in KINDS {
            let r = weights::resize(kind, old, new);
            assert!(r.values.chunks(old).all(|row| (row.iter().sum::<f64>() - 1.0).abs() < 1e-12));
            let same = weights::resize(kind, old, old);
            assert!((0..old * old).all(|i| same.values[i] == f64::from(i / old == i % old)), "the same size");
        }
    }
}

#[test]
fn kernels_resized_on_the_host_are_products_with_the_matrix() {
    for (old, new) in PAIRS {
        for kind in KINDS {
            let (w, m) = (random(6 * old * old, 1), matrix(kind, old, new));
            let want = oracle::forward(&wide(&w), &wide(&m), old * old);
            let tolerance = sum_tolerance(old * old, largest(&wide(&m)) * (old * old) as f64);
            assert_within("w_new", &resize_kernels(kind, &w, old, new).unwrap(), &want, |_| tolerance);
        }
    }
}

#[test]
fn a_line_is_resized_row_by_row() {
    let line = resize_line(Resize::Bilinear, &[0.0, 10.0, 4.0, 50.0], 2, 4).unwrap();
    assert_eq!(line, [0.0, 10.0, 1.0, 20.0, 3.0, 40.0, 4.0, 50.0]);
    // Where it shrinks nothing is averaged: between the two neighbours of the new centre alone.
    assert_eq!(resize_line(Resize::Bilinear, &[0.0, 1.0, 8.0, 0.0, 0.0, 6.0], 6, 2).unwrap(), [1.0, 0.0]);
}

/// Patches resized one by one, as images [patches, 3, new, new].
fn resize_patches(kind: Resize, patches: &[f32], old: usize, new: usize) -> Vec<f32> {
    patches.chunks(old * old).flat_map(|channel| resize_grid(kind, channel, old, new).unwrap()).collect()
}

/// Largest sum of magnitudes of a row.
fn largest_row(values: &[f64], cols: usize) -> f64 {
    largest(&values.chunks(cols).map(|row| magnitudes(row).iter().sum()).collect::<Vec<_>>())
}

#[test]
fn up_sizing_patches_and_kernels_together_leaves_the_embedding_unchanged() {
    let (n, width) = (5, 6);
    for (kind, old, new) in [(Resize::Bilinear, 4, 8), (Resize::BicubicAntialias, 4, 8), (Resize::Bilinear, 6, 9)] {
        let (small, w, bias) = (random(n * 3 * old * old, 1), random(width * 3 * old * old, 2), random(width, 3));
        let large = resize_patches(kind, &small, old, new);
        let m_values = matrix(kind, old, new);
        on_each_device(|pass| {
            let w = pass.upload(&w, &[width, 3, old, old]).unwrap();
            let bias = pass.upload(&bias, &[width]).unwrap();
            let m = pass.upload(&m_values, &[new * new, old * old]).unwrap();
            let w_new = forward(pass, &w, &m, new).unwrap();
            let small = pass.upload(&small, &[n, 3, old, old]).unwrap();
            let large = pass.upload(&large, &[n, 3, new, new]).unwrap();
            let (want, _) = patch_embed::forward(pass, &small, old, &w, &bias).unwrap();
            let (got, _) = patch_embed::forward(pass, &large, new, &w_new, &bias).unwrap();
            let (want, got) = (pass.read(&want).unwrap(), checked_read(pass, "y", &got));
            // Pixels are at most 1.2 (the cubic overshoots) and old kernels 1: the error of the product with the new
            // kernels, and that of these.
            let (terms, growth) = (3 * new * new, largest_row(&wide(&m_values), old * old));
            let kernels = largest_row(&wide(&pass.read(&w_new).unwrap()), terms);
            let of_kernels = terms as f64 * sum_tolerance(old * old, 1.2 * growth);
            let tolerance = sum_tolerance(terms + 1, 1.2 * kernels + 1.0) + of_kernels;
            assert_within("y", &got, &wide(&want), |_| tolerance);
        });
    }
}

#[test]
fn products_match_oracle() {
    for (old, new) in [(5, 3), (3, 7), (16, 8), (1, 2)] {
        let (w, dw_new, start) = (random(6 * old * old, 1), random(6 * new * new, 2), random(6 * old * old, 3));
        let m = matrix(Resize::Bilinear, old, new);
        let (w_want, dw_want) =
            (oracle::forward(&wide(&w), &wide(&m), old * old), oracle::backward(&wide(&dw_new), &wide(&m), old * old));
        let added: Vec<f64> = dw_want.iter().zip(&start).map(|(dw, start)| dw + f64::from(*start)).collect();
        let top = largest(&wide(&m));
        on_each_device(|pass| {
            let w = pass.upload(&w, &[2, 3, old, old]).unwrap();
            let m = pass.upload(&m, &[new * new, old * old]).unwrap();
            let w_new = forward(pass, &w, &m, new).unwrap();
            let tolerance = sum_tolerance(old * old, top * (old * old) as f64);
            assert_within("w_new", &checked_read(pass, "w_new", &w_new), &w_want, |_| tolerance);
            let mut dw = pass.upload(&start, &[2, 3, old, old]).unwrap();
            let untouched = dw.clone();
            let dw_new = pass.upload(&dw_new, &[2, 3, new, new]).unwrap();
            backward(pass, &dw_new, &m, &mut dw).unwrap();
            let tolerance = sum_tolerance(new * new + 1, top * (new * new) as f64 + 1.0);
            assert_within("dw", &checked_read(pass, "dw", &dw), &added, |_| tolerance);
            assert_eq!(pass.read(&untouched).unwrap(), start, "a clone keeps its own value");
        });
    }
}

#[test]
fn oracle_backward_is_the_derivative() {
    let m = wide(&matrix(Resize::BicubicAntialias, 3, 2));
    let (w, dw_new) = (wide(&random(18, 1)), wide(&random(8, 2)));
    let dw = oracle::backward(&dw_new, &m, 9);
    assert_is_gradient("dw", &w, &dw_new, |w| oracle::forward(w, &m, 9), &dw);
}

#[test]
fn wrong_shapes_are_named() {
    on_each_device(|pass| {
        let (w, m) = (pass.zeros(&[2, 3, 4, 4]).unwrap(), pass.zeros(&[4, 16]).unwrap());
        let error = forward(pass, &w, &m, 3).unwrap_err().to_string();
        assert_eq!(error, "resize_kernel: matrix has shape [4, 16], expected [9, 16]");
        let mut oblong = pass.zeros(&[2, 3, 4, 2]).unwrap();
        let error = forward(pass, &oblong, &m, 2).unwrap_err().to_string();
        assert_eq!(error, "resize_kernel: w has shape [2, 3, 4, 2], expected [2, 3, 4, 4]");
        assert!(backward(pass, &w, &m, &mut oblong).is_err());
        assert!(forward(pass, &m, &m, 2).is_err());
    });
    assert!(resize_grid(Resize::Bilinear, &[0.0; 5], 2, 3).is_err());
    assert!(resize_grid(Resize::Bilinear, &[], 0, 3).is_err());
    assert!(resize_line(Resize::Bilinear, &[0.0; 5], 2, 3).is_err());
    assert!(resize_kernels(Resize::Bilinear, &[0.0; 4], 2, 0).is_err());
}

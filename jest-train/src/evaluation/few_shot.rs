//! Few-shot accuracy: ridge regression on frozen embeddings, in closed form.

use super::Labelled;

/// Weight of the squared norm.
const L2: f64 = 1024.0;
/// Value of the constant feature: large, so that the bias is hardly held back.
const BIAS: f64 = 100.0;

/// Mean accuracy over `seeds` draws of `shots` pictures a class.
///
/// # Source
/// big_vision `evaluators/fewshot_lsr.py`, here on embeddings of unit length.
pub fn accuracy(train: &Labelled, test: &Labelled, classes: usize, shots: usize, seeds: u64) -> f64 {
    let one = |seed| {
        let picked = draw(&train.labels, classes, shots, seed);
        ridge_accuracy(&picked, train, test, classes)
    };
    (0..seeds).map(one).sum::<f64>() / seeds.max(1) as f64
}

/// `shots` pictures of each class, all where there are fewer; a function of labels and seed.
fn draw(labels: &[u32], classes: usize, shots: usize, seed: u64) -> Vec<usize> {
    let key = |i: usize| *blake3::hash(&[seed.to_le_bytes(), (i as u64).to_le_bytes()].concat()).as_bytes();
    let mut keyed: Vec<([u8; 32], usize)> = (0..labels.len()).map(|i| (key(i), i)).collect();
    keyed.sort_unstable();
    let mut left = vec![shots; classes];
    let mut picked = Vec::new();
    for (_, i) in keyed {
        if let Some(left) = left.get_mut(labels[i] as usize).filter(|left| **left > 0) {
            *left -= 1;
            picked.push(i);
        }
    }
    picked
}

/// Share of `test` for which `x W` is largest at its class: features whitened one by one, targets -1 and 1, and
/// `W = (X^T X + l2 I)^-1 X^T Y`, or `X^T (X X^T + l2 I)^-1 Y` where there are fewer pictures than features.
fn ridge_accuracy(picked: &[usize], train: &Labelled, test: &Labelled, classes: usize) -> f64 {
    let (n, d) = (picked.len(), train.d);
    let row = |of: &Labelled, i: usize| of.rows[i * d..(i + 1) * d].iter().map(|x| f64::from(*x)).collect::<Vec<f64>>();
    let raw: Vec<Vec<f64>> = picked.iter().map(|i| row(train, *i)).collect();
    let mean: Vec<f64> = (0..d).map(|j| raw.iter().map(|x| x[j]).sum::<f64>() / n as f64).collect();
    let deviation = |j: usize| (raw.iter().map(|x| (x[j] - mean[j]).powi(2)).sum::<f64>() / n as f64).sqrt() + 1e-5;
    let std: Vec<f64> = (0..d).map(deviation).collect();
    let white = |x: &[f64]| -> Vec<f64> {
        let scaled = x.iter().zip(&mean).zip(&std).map(|((x, mean), std)| (x - mean) / std);
        scaled.chain([BIAS]).collect()
    };
    let x: Vec<Vec<f64>> = raw.iter().map(|row| white(row)).collect();
    let target = |i: usize, class: usize| if train.labels[picked[i]] as usize == class { 1.0 } else { -1.0 };
    let d = d + 1;
    // weights: [classes][d]
    let weights: Vec<Vec<f64>> = if n >= d {
        let mut gram = vec![0.0; d * d];
        for x in &x {
            for (a, xa) in x.iter().enumerate() {
                gram[a * d..=a * d + a].iter_mut().zip(x).for_each(|(sum, xb)| *sum += xa * xb);
            }
        }
        let solver = Cholesky::of(gram, d, L2);
        let sums = |class: usize| (0..d).map(|j| (0..n).map(|i| x[i][j] * target(i, class)).sum()).collect();
        (0..classes).map(|class| solver.solve(sums(class))).collect()
    } else {
        let mut gram = vec![0.0; n * n];
        for (a, xa) in x.iter().enumerate() {
            gram[a * n..=a * n + a].iter_mut().zip(&x).for_each(|(product, xb)| *product = dot(xa, xb));
        }
        let solver = Cholesky::of(gram, n, L2);
        let back = |z: Vec<f64>| (0..d).map(|j| x.iter().zip(&z).map(|(x, z)| x[j] * z).sum()).collect();
        (0..classes).map(|class| back(solver.solve((0..n).map(|i| target(i, class)).collect()))).collect()
    };
    let right = (0..test.labels.len()).filter(|i| {
        let x = white(&row(test, *i));
        let scores = weights.iter().map(|w| dot(w, &x));
        let best =
            scores.enumerate().fold((0, f64::NEG_INFINITY), |best, next| if next.1 > best.1 { next } else { best });
        best.0 == test.labels[*i] as usize
    });
    right.count() as f64 / test.labels.len().max(1) as f64
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// `A + l2 I = L L^T`; of A the lower half is read.
struct Cholesky {
    lower: Vec<f64>,
    n: usize,
}

impl Cholesky {
    fn of(mut a: Vec<f64>, n: usize, l2: f64) -> Self {
        for j in 0..n {
            a[j * n + j] += l2;
            for i in j..n {
                let (head, tail) = (&a[i * n..i * n + j], &a[j * n..j * n + j]);
                let rest = a[i * n + j] - dot(head, tail);
                a[i * n + j] = if i == j { rest.sqrt() } else { rest / a[j * n + j] };
            }
        }
        Self { lower: a, n }
    }

    fn solve(&self, mut b: Vec<f64>) -> Vec<f64> {
        let (l, n) = (&self.lower, self.n);
        for i in 0..n {
            b[i] = (b[i] - dot(&l[i * n..i * n + i], &b[..i])) / l[i * n + i];
        }
        for i in (0..n).rev() {
            let rest: f64 = (i + 1..n).map(|k| l[k * n + i] * b[k]).sum();
            b[i] = (b[i] - rest) / l[i * n + i];
        }
        b
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluation::linear_probe::samples;

    #[test]
    fn draws_are_of_the_size_asked_for_and_differ_by_seed() {
        let labels: Vec<u32> = (0..60).map(|i| i % 3).chain([3]).collect();
        let picked = draw(&labels, 4, 5, 0);
        let count = |class: u32| picked.iter().filter(|i| labels[**i] == class).count();
        assert_eq!([count(0), count(1), count(2), count(3)], [5, 5, 5, 1]);
        assert_eq!(picked, draw(&labels, 4, 5, 0));
        assert_ne!(picked, draw(&labels, 4, 5, 1));
    }

    #[test]
    fn a_system_is_solved() {
        let solver = Cholesky::of(vec![3.0, 9.0, 1.0, 2.0], 2, 1.0);
        let x = solver.solve(vec![9.0, 7.0]);
        assert!((4.0 * x[0] + x[1] - 9.0).abs() < 1e-12 && (x[0] + 3.0 * x[1] - 7.0).abs() < 1e-12, "{x:?}");
    }

    #[test]
    fn both_forms_classify_as_numpy_does() {
        // fixtures/probes, made by scripts/probes/make_goldens.py.
        let (train, test, golden) = samples();
        for (count, key) in [(120, "ridge_primal"), (9, "ridge_dual")] {
            let picked: Vec<usize> = (0..count).collect();
            assert_eq!(ridge_accuracy(&picked, &train, &test, 3), golden[key].as_f64().unwrap(), "{key}");
        }
    }
}

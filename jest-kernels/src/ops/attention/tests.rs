use super::*;
use crate::testing::*;

pub(super) const BASE: Attention =
    Attention { n: 2, heads: 2, head_dim: 16, q_len: 33, k_len: 33, mask: Mask::None, shared_query: false };

/// Operands of one attention, apart from each other, with the oracle's results.
pub(super) struct Case {
    pub(super) shape: Attention,
    pub(super) lengths: Option<Vec<u32>>,
    pub(super) q: Vec<f32>,
    pub(super) k: Vec<f32>,
    pub(super) v: Vec<f32>,
    pub(super) dy: Vec<f32>,
    pub(super) y: Vec<f64>,
    pub(super) gradients: oracle::Gradients,
}

/// Allowed errors, from the number of terms and the magnitudes.
pub(super) struct Allowed {
    pub(super) y: f64,
    pub(super) dq: f64,
    pub(super) dk: f64,
    pub(super) dv: f64,
}

impl Case {
    fn new(shape: Attention, lengths: Option<Vec<u32>>, magnify: f32) -> Self {
        Self::rounded(shape, lengths, magnify, |x| x)
    }

    /// With inputs that a number format has.
    pub(super) fn rounded(
        shape: Attention,
        lengths: Option<Vec<u32>>,
        magnify: f32,
        round: impl Fn(f32) -> f32,
    ) -> Self {
        let width = shape.width();
        let queries = if shape.shared_query { shape.q_len } else { shape.n * shape.q_len };
        let mut q = random(queries * width, 1);
        q.iter_mut().for_each(|q| *q *= magnify);
        let [mut k, mut v] = [2, 3].map(|seed| random(shape.n * shape.k_len * width, seed));
        let mut dy = random(shape.n * shape.q_len * width, 4);
        [&mut q, &mut k, &mut v, &mut dy].into_iter().flatten().for_each(|x| *x = round(*x));
        let [q64, k64, v64, dy64] = [&q, &k, &v, &dy].map(|x| wide(x));
        let counts = counts(shape, lengths.as_deref());
        let y = oracle::forward(&shape, &counts, &q64, &k64, &v64);
        let gradients = oracle::backward(&shape, &counts, &q64, &k64, &v64, &dy64);
        Self { shape, lengths, q, k, v, dy, y, gradients }
    }

    /// Elements are below 1 but those of q; a weight's relative error is that of its score and of its exponential.
    pub(super) fn allowed(&self) -> Allowed {
        let (shape, d) = (self.shape, self.shape.head_dim as f64);
        let scale = 1.0 / d.sqrt();
        let q = largest(&wide(&self.q));
        let (dot, score) = (sum_tolerance(shape.head_dim, d), sum_tolerance(shape.head_dim + 2, d * q * scale));
        // exp is within 3 + 2|x| ulp in WGSL; its argument is a difference of scores.
        let weight = 2.0 * score + sum_tolerance(2 * shape.k_len, 1.0) + 2.0 * EPS * (3.0 + 4.0 * d * q * scale);
        let (reach, rows) = (self.reach(), if shape.shared_query { shape.n * shape.q_len } else { shape.q_len });
        // |dy . v| and delta are below d each.
        let ds = scale * (2.0 * d * weight + 2.0 * dot + d * sum_tolerance(shape.k_len, 1.0));
        let (long, slack) = (sum_tolerance(rows, 1.0), sum_tolerance(shape.k_len, 1.0));
        let sets = if shape.shared_query { shape.n as f64 } else { 1.0 };
        Allowed {
            y: weight + slack,
            dq: sets * (ds + 2.0 * d * scale * (slack + long)),
            dk: reach * q * (ds + 2.0 * d * scale * long),
            dv: reach * (weight + long),
        }
    }

    /// Largest sum of the weights that one key gets from all queries.
    fn reach(&self) -> f64 {
        let (shape, counts) = (self.shape, counts(self.shape, self.lengths.as_deref()));
        let (q, k) = (wide(&self.q), wide(&self.k));
        let mut top = 0.0f64;
        for pair in 0..(shape.n * shape.heads).min(64) {
            let (example, head) = (pair / shape.heads, pair % shape.heads);
            let mut sums = vec![0.0; shape.k_len];
            for query in 0..shape.q_len {
                let weights = oracle::weights(&shape, &counts, (example, head, query), &q, &k);
                sums.iter_mut().zip(weights).for_each(|(sum, weight)| *sum += weight);
            }
            top = top.max(largest(&sums));
        }
        // Examples that were not looked at have rows of few keys, whose weights add up to at most one a query.
        if shape.n * shape.heads > 64 { shape.q_len as f64 } else { top }
    }

    pub(super) fn upload_lengths(&self, pass: &mut Pass) -> Option<Tensor> {
        self.lengths.as_ref().map(|lengths| pass.upload_u32(lengths, &[self.shape.n]).unwrap())
    }

    fn check_packed(&self) {
        let (shape, allowed) = (self.shape, self.allowed());
        let (rows, width) = (shape.n * shape.q_len, shape.width());
        let qkv = beside(width, &[&self.q, &self.k, &self.v]);
        let want = beside(width, &[&self.gradients.dq, &self.gradients.dk, &self.gradients.dv]);
        on_each_device(|pass| {
            let lengths = self.upload_lengths(pass);
            let qkv = pass.upload(&qkv, &[rows, 3 * width]).unwrap();
            let dy = pass.upload(&self.dy, &[rows, width]).unwrap();
            let (y, saved) = forward_packed(pass, &shape, &qkv, lengths.as_ref()).unwrap();
            assert_within(&format!("y {shape:?}"), &checked_read(pass, "y", &y), &self.y, |_| allowed.y);
            let dqkv = backward_packed(pass, saved, &dy).unwrap();
            let limit = |i: usize| [allowed.dq, allowed.dk, allowed.dv][i / width % 3];
            assert_within(&format!("dqkv {shape:?}"), &checked_read(pass, "dqkv", &dqkv), &want, limit);
        });
    }

    fn check_pooled(&self) {
        let (shape, allowed) = (self.shape, self.allowed());
        let width = shape.width();
        let kv = beside(width, &[&self.k, &self.v]);
        let want = beside(width, &[&self.gradients.dk, &self.gradients.dv]);
        on_each_device(|pass| {
            let lengths = self.upload_lengths(pass);
            let q = pass.upload(&self.q, &[self.q.len() / width, width]).unwrap();
            let kv = pass.upload(&kv, &[shape.n * shape.k_len, 2 * width]).unwrap();
            let dy = pass.upload(&self.dy, &[shape.n * shape.q_len, width]).unwrap();
            let (y, saved) = forward_pooled(pass, &shape, &q, &kv, lengths.as_ref()).unwrap();
            assert_within(&format!("y {shape:?}"), &checked_read(pass, "y", &y), &self.y, |_| allowed.y);
            let PooledGradients { dq, dkv } = backward_pooled(pass, saved, &dy).unwrap();
            let got = checked_read(pass, "dq", &dq);
            assert_within(&format!("dq {shape:?}"), &got, &self.gradients.dq, |_| allowed.dq);
            let limit = |i: usize| [allowed.dk, allowed.dv][i / width % 2];
            assert_within(&format!("dkv {shape:?}"), &checked_read(pass, "dkv", &dkv), &want, limit);
        });
    }
}

pub(super) fn counts(shape: Attention, lengths: Option<&[u32]>) -> Vec<usize> {
    let of = |length: &u32| (*length as usize).clamp(1, shape.k_len);
    lengths.map_or(vec![shape.k_len; shape.n], |lengths| lengths.iter().map(of).collect())
}

/// Rows of `width` elements of several tensors, side by side.
pub(super) fn beside<T: Copy>(width: usize, parts: &[&Vec<T>]) -> Vec<T> {
    let rows = 0..parts[0].len() / width;
    rows.flat_map(|row| parts.iter().flat_map(move |part| part[row * width..][..width].iter().copied())).collect()
}

#[test]
fn packed_matches_oracle_on_ragged_shapes() {
    for (head_dim, len) in [(1, 3), (3, 31), (16, 33), (33, 65), (64, 1), (72, 65), (128, 33), (16, 257)] {
        for mask in [Mask::None, Mask::Causal] {
            let shape = Attention { head_dim, q_len: len, k_len: len, mask, ..BASE };
            Case::new(shape, None, 1.0).check_packed();
        }
    }
}

#[test]
fn pooled_matches_oracle_on_ragged_shapes() {
    for (head_dim, q_len, k_len) in [(16, 1, 257), (64, 1, 65), (3, 2, 31), (72, 33, 3), (128, 70, 31), (1, 1, 1)] {
        for shared_query in [false, true] {
            let shape = Attention { n: 3, head_dim, q_len, k_len, shared_query, ..BASE };
            Case::new(shape, None, 1.0).check_pooled();
        }
    }
    Case::new(Attention { mask: Mask::Causal, ..BASE }, None, 1.0).check_pooled();
}

#[test]
fn keys_beyond_the_lengths_do_not_count() {
    for mask in [Mask::None, Mask::Causal] {
        let shape = Attention { n: 4, q_len: 70, k_len: 70, mask, ..BASE };
        Case::new(shape, Some(vec![1, 70, 32, 65]), 1.0).check_packed();
    }
    let shape = Attention { n: 4, q_len: 1, k_len: 70, shared_query: true, ..BASE };
    Case::new(shape, Some(vec![70, 1, 33, 3]), 1.0).check_pooled();
}

#[test]
fn large_logits_do_not_overflow() {
    for mask in [Mask::None, Mask::Causal] {
        let case = Case::new(Attention { q_len: 65, k_len: 65, mask, ..BASE }, None, 100.0);
        assert!(case.y.iter().all(|y| y.is_finite()));
        case.check_packed();
    }
}

#[test]
fn matches_oracle_beyond_one_dispatch_dimension() {
    let shape = Attention { n: 21_846, heads: 3, head_dim: 1, q_len: 2, k_len: 2, ..BASE };
    Case::new(shape, None, 1.0).check_packed();
}

#[test]
fn oracle_backward_is_the_derivative() {
    for (mask, shared_query) in [(Mask::None, false), (Mask::None, true), (Mask::Causal, false)] {
        let shape = Attention { head_dim: 3, q_len: 4, k_len: 4, mask, shared_query, ..BASE };
        let Case { q, k, v, dy, .. } = Case::new(shape, None, 1.0);
        let [q, k, v, dy] = [q, k, v, dy].map(|x| wide(&x));
        let lengths = [3, 4];
        let gradients = oracle::backward(&shape, &lengths, &q, &k, &v, &dy);
        assert_is_gradient("dq", &q, &dy, |q| oracle::forward(&shape, &lengths, q, &k, &v), &gradients.dq);
        assert_is_gradient("dk", &k, &dy, |k| oracle::forward(&shape, &lengths, &q, k, &v), &gradients.dk);
        assert_is_gradient("dv", &v, &dy, |v| oracle::forward(&shape, &lengths, &q, &k, v), &gradients.dv);
    }
}

/// Rows of `y`, or of the gradient, with NaN in them after `poison` has changed qkv [2 * 70, 3 * width].
fn rows_with_nan(shape: Attention, lengths: Option<[u32; 2]>, poison: impl Fn(&mut [f32])) -> Vec<[Vec<usize>; 2]> {
    let (rows, width) = (shape.n * shape.q_len, shape.width());
    let mut values = random(rows * 3 * width, 1);
    poison(&mut values);
    let found = std::sync::Mutex::new(Vec::new());
    on_each_device(|pass| {
        let lengths = lengths.map(|lengths| pass.upload_u32(&lengths, &[2]).unwrap());
        let qkv = pass.upload(&values, &[rows, 3 * width]).unwrap();
        let dy = pass.upload(&random(rows * width, 2), &[rows, width]).unwrap();
        let (y, saved) = forward_packed(pass, &shape, &qkv, lengths.as_ref()).unwrap();
        let dqkv = backward_packed(pass, saved, &dy).unwrap();
        let dq: Vec<f32> = pass.read(&dqkv).unwrap().chunks(3 * width).flat_map(|row| row[..width].to_vec()).collect();
        let nan = |values: &[f32]| {
            let rows = values.chunks(width).enumerate();
            rows.filter(|(_, row)| row.iter().any(|x| x.is_nan())).map(|(row, _)| row).collect()
        };
        let y = pass.read(&y).unwrap();
        found.lock().unwrap().push([nan(&y), nan(&dq)]);
    });
    found.into_inner().unwrap()
}

#[test]
fn nan_in_a_masked_key_does_not_leak() {
    let shape = Attention { heads: 1, q_len: 70, k_len: 70, ..BASE };
    let stride = 3 * shape.width();
    // Key 41 of example 0, in k alone and in v alone.
    for column in [shape.width(), 2 * shape.width()] {
        let poison = |qkv: &mut [f32]| qkv[41 * stride + column..][..shape.width()].fill(f32::NAN);
        for found in rows_with_nan(shape, Some([41, 70]), poison) {
            assert_eq!(found, [Vec::<usize>::new(), Vec::new()], "a key beyond the length");
        }
        let causal = Attention { mask: Mask::Causal, ..shape };
        for found in rows_with_nan(causal, None, poison) {
            let later: Vec<usize> = (41..70).collect();
            assert_eq!(found, [later.clone(), later], "a key after the query");
        }
        for found in rows_with_nan(shape, None, poison) {
            let own: Vec<usize> = (0..70).collect();
            assert_eq!(found, [own.clone(), own], "NaN in a key that counts is not hidden");
        }
    }
}

/// Wide enough for products on the processor's matrix unit.
#[test]
fn nothing_of_a_later_key_leaks() {
    let shape = Attention { heads: 1, head_dim: 64, q_len: 70, k_len: 70, mask: Mask::Causal, ..BASE };
    let stride = 3 * shape.width();
    for bad in [f32::NAN, f32::INFINITY, f32::MAX] {
        for column in [shape.width(), 2 * shape.width()] {
            let poison = |qkv: &mut [f32]| qkv[41 * stride + column..][..shape.width()].fill(bad);
            for found in rows_with_nan(shape, None, poison) {
                assert!(
                    found.iter().flatten().all(|row| (41..70).contains(row)),
                    "{bad} in column {column}: {found:?}"
                );
            }
        }
    }
}

#[test]
fn results_do_not_depend_on_the_thread_count() {
    let shape = Attention { n: 5, heads: 3, q_len: 70, k_len: 70, ..BASE };
    let (rows, width) = (shape.n * shape.q_len, shape.width());
    let run = |threads: usize| {
        let options = crate::DeviceOptions { threads, checked: false, ..Default::default() };
        let mut pass = crate::Device::open(&crate::DeviceRequest::Cpu, options).unwrap().pass();
        let qkv = pass.upload(&random(rows * 3 * width, 1), &[rows, 3 * width]).unwrap();
        let dy = pass.upload(&random(rows * width, 2), &[rows, width]).unwrap();
        let (y, saved) = forward_packed(&mut pass, &shape, &qkv, None).unwrap();
        let dqkv = backward_packed(&mut pass, saved, &dy).unwrap();
        (pass.read(&y).unwrap(), pass.read(&dqkv).unwrap())
    };
    assert_eq!(run(1), run(3));
}

#[test]
fn sizes_that_do_not_fit_are_named() {
    on_each_device(|pass| {
        let mut fails = |shape: Attention, q_shape: &[usize], kv_shape: &[usize]| {
            let (q, kv) = (pass.zeros(q_shape).unwrap(), pass.zeros(kv_shape).unwrap());
            let lengths = pass.zeros(&[shape.n]).unwrap();
            let pooled = forward_pooled(pass, &shape, &q, &kv, Some(&lengths)).unwrap_err().to_string();
            (pooled, forward_packed(pass, &shape, &q, None).unwrap_err().to_string())
        };
        let wide = Attention { head_dim: 129, ..BASE };
        let (pooled, packed) = fails(wide, &[66, 258], &[66, 516]);
        assert_eq!(pooled, "attention: head_dim is 129, but must be between 1 and 128");
        assert_eq!(packed, pooled);
        let causal = Attention { mask: Mask::Causal, q_len: 1, ..BASE };
        let (pooled, _) = fails(causal, &[2, 32], &[66, 64]);
        assert_eq!(pooled, "attention: q_len under a causal mask is 1, but must be k_len, 33");
        let (pooled, packed) = fails(BASE, &[66, 32], &[66, 96]);
        assert_eq!(pooled, "attention: kv has shape [66, 96], expected [66, 64]");
        assert_eq!(packed, "attention: qkv has shape [66, 32], expected [66, 96]");
        let (pooled, packed) = fails(Attention { shared_query: true, ..BASE }, &[33, 32], &[66, 64]);
        assert_eq!(pooled, "attention: lengths holds F32 elements, expected U32");
        assert!(packed.contains("packed"), "{packed}");
    });
}

#[test]
fn a_length_that_an_emulated_adapter_would_cut_short_is_refused() {
    let shape = Attention { n: 1, heads: 1, head_dim: 1, q_len: 1, k_len: 2049, mask: Mask::None, shared_query: true };
    let [cpu, gpu] = crate::testing::devices();
    for (device, refused) in [(cpu, false), (gpu, gpu.info().software)] {
        let mut pass = device.pass();
        let (q, kv) = (pass.zeros(&[1, 1]).unwrap(), pass.zeros(&[2049, 2]).unwrap());
        let answer = forward_pooled(&mut pass, &shape, &q, &kv, None);
        let text = answer.as_ref().err().map(ToString::to_string).unwrap_or_default();
        assert_eq!(answer.is_err(), refused, "{text}");
        assert!(!refused || text.starts_with("attention: length is 2049, but must be at most 2048"), "{text}");
    }
}

//! Resizing along one axis, and the pseudo-inverse of a matrix, in f64 on the host.

use super::Resize;

/// A dense row-major matrix.
#[derive(Clone, Debug)]
pub(super) struct Matrix {
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) values: Vec<f64>,
}

impl Matrix {
    fn new(rows: usize, cols: usize, value: impl Fn(usize, usize) -> f64) -> Self {
        let value = &value;
        Self { rows, cols, values: (0..rows).flat_map(|i| (0..cols).map(move |j| value(i, j))).collect() }
    }

    pub(super) fn at(&self, row: usize, col: usize) -> f64 {
        self.values[row * self.cols + col]
    }

    pub(super) fn transposed(&self) -> Self {
        Self::new(self.cols, self.rows, |i, j| self.at(j, i))
    }
}

/// The weights [new, old] with which `old` samples make `new` ones, half-pixel centres.
pub(super) fn resize(kind: Resize, old: usize, new: usize) -> Matrix {
    let mut weights = Matrix::new(new, old, |_, _| 0.0);
    for i in 0..new {
        let row = &mut weights.values[i * old..(i + 1) * old];
        match kind {
            Resize::Bilinear => bilinear(row, i, new),
            Resize::BicubicAntialias => bicubic_antialias(row, i, new),
            Resize::Bicubic => bicubic(row, i, new),
            Resize::BilinearCorners => corners(row, i, new),
        }
    }
    weights
}

/// Between the two neighbours; a neighbour beyond the edge is the edge.
fn bilinear(row: &mut [f64], i: usize, new: usize) {
    between(row, (i as f64 + 0.5) * row.len() as f64 / new as f64 - 0.5);
}

/// Between the two neighbours; the first sample stays the first, the last the last.
fn corners(row: &mut [f64], i: usize, new: usize) {
    between(row, i as f64 * (row.len() - 1) as f64 / new.saturating_sub(1).max(1) as f64);
}

fn between(row: &mut [f64], centre: f64) {
    let last = row.len() - 1;
    let centre = centre.clamp(0.0, last as f64);
    let (left, share) = (centre.floor() as usize, centre.fract());
    row[left] += 1.0 - share;
    row[(left + 1).min(last)] += share;
}

/// The cubic between the four neighbours; a neighbour beyond the edge is the edge.
fn bicubic(row: &mut [f64], i: usize, new: usize) {
    let centre = (i as f64 + 0.5) * row.len() as f64 / new as f64 - 0.5;
    let last = row.len() as f64 - 1.0;
    for step in -1..=2 {
        let neighbour = centre.floor() + f64::from(step);
        row[neighbour.clamp(0.0, last) as usize] += cubic(-0.75, neighbour - centre);
    }
}

/// The cubic, widened when there are fewer new samples than old; samples beyond the edge do not count.
fn bicubic_antialias(row: &mut [f64], i: usize, new: usize) {
    let scale = row.len() as f64 / new as f64;
    let (centre, widening) = ((i as f64 + 0.5) * scale, scale.max(1.0));
    for (j, weight) in row.iter_mut().enumerate() {
        *weight = cubic(-0.5, (j as f64 + 0.5 - centre) / widening);
    }
    let total: f64 = row.iter().sum();
    row.iter_mut().for_each(|weight| *weight /= total);
}

/// Keys' cubic, 0 from a distance of 2 on.
fn cubic(a: f64, x: f64) -> f64 {
    let x = x.abs();
    if x < 1.0 {
        ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * a
    } else {
        0.0
    }
}

/// Share of the largest singular value below which one counts as zero.
const RANK: f64 = 1e-10;
/// Sweeps over all pairs of columns; convergence is quadratic, so that a handful suffices.
const SWEEPS: usize = 60;

/// The Moore-Penrose inverse [cols, rows], by one-sided Jacobi rotations.
pub(super) fn pseudo_inverse(matrix: &Matrix) -> Matrix {
    if matrix.rows < matrix.cols {
        return pseudo_inverse(&matrix.transposed()).transposed();
    }
    let (m, n) = (matrix.rows, matrix.cols);
    // Columns of A V, turned until they are orthogonal, and of V.
    let column = |matrix: &Matrix, j| -> Vec<f64> { (0..matrix.rows).map(|i| matrix.at(i, j)).collect() };
    let mut av: Vec<Vec<f64>> = (0..n).map(|j| column(matrix, j)).collect();
    let mut v: Vec<Vec<f64>> = (0..n).map(|j| (0..n).map(|i| f64::from(i == j)).collect()).collect();
    for _ in 0..SWEEPS {
        let mut turned = false;
        for a in 0..n {
            for b in a + 1..n {
                if let Some((cos, sin)) = rotation(&av[a], &av[b]) {
                    rotate(&mut av, a, b, cos, sin);
                    rotate(&mut v, a, b, cos, sin);
                    turned = true;
                }
            }
        }
        if !turned {
            break;
        }
    }
    // A = (A V) Vᵀ, so its inverse is the sum over columns k of v_k (A V)_kᵀ / |(A V)_k|².
    let squares: Vec<f64> = av.iter().map(|column| dot(column, column)).collect();
    let least = squares.iter().copied().fold(0.0, f64::max) * RANK * RANK;
    let kept: Vec<usize> = (0..n).filter(|k| squares[*k] > least).collect();
    Matrix::new(n, m, |i, j| kept.iter().map(|k| v[*k][i] * av[*k][j] / squares[*k]).sum())
}

/// Cosine and sine that make two columns orthogonal; none when they are.
fn rotation(a: &[f64], b: &[f64]) -> Option<(f64, f64)> {
    let (aa, bb, ab) = (dot(a, a), dot(b, b), dot(a, b));
    if ab.abs() <= 1e-15 * (aa * bb).sqrt() {
        return None;
    }
    let zeta = (bb - aa) / (2.0 * ab);
    let tangent = zeta.signum() / (zeta.abs() + (1.0 + zeta * zeta).sqrt());
    let cos = 1.0 / (1.0 + tangent * tangent).sqrt();
    Some((cos, cos * tangent))
}

fn rotate(columns: &mut [Vec<f64>], a: usize, b: usize, cos: f64, sin: f64) {
    for i in 0..columns[a].len() {
        let (x, y) = (columns[a][i], columns[b][i]);
        columns[a][i] = cos * x - sin * y;
        columns[b][i] = sin * x + cos * y;
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

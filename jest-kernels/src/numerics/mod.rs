//! How far every operation is from its f64 oracle, over shapes and magnitudes.
//!
//! A catalogue of cases, at least one an operation: a test runs them all on a GPU and fails when one of the kernels in
//! [`crate::catalog`] was not dispatched by any, so an operation that is added without a case is noticed.

mod elements;
mod losses;
mod products;
#[cfg(test)]
mod tests;
mod tokens;

use crate::ops::cast;
use crate::testing::{largest, random, wide};
use crate::{DType, Pass, Result, Tensor};

/// Magnitudes of the inputs that the report is made for.
pub const MAGNITUDES: [f32; 3] = [1e-3, 1.0, 1e3];

/// Oracles whose largest value is below count as this large: f32 may hold nothing of them.
const FLOOR: f64 = 1e-30;
/// Rows and columns of most inputs: whole vectors, ragged, and long rows.
const SHAPES: &[[usize; 2]] = &[[64, 64], [33, 769], [64, 2048]];

/// Outputs of one operation, computed and held against its oracle.
#[derive(Clone, Copy)]
struct Case {
    /// Rows and columns of what goes in; a case says what it makes of them.
    shapes: &'static [[usize; 2]],
    run: fn(&mut Trial<'_>) -> Result<()>,
}

/// Errors of one output of an operation.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// Operation and output, as in `layer_norm: dgamma`.
    pub what: String,
    /// For each magnitude, in their order: the largest error over all shapes, each over the oracle's largest value there.
    pub errors: Vec<f64>,
    /// Rows and columns of the input where the largest of them was found.
    pub shape: [usize; 2],
}

/// Runs every case with inputs drawn evenly from minus to plus each magnitude; products also with operands in f16 and bf16
/// where the device has them (on a GPU: f16 when it was opened so).
///
/// # Errors
/// As the operations.
pub fn measure(pass: &mut Pass, magnitudes: &[f32]) -> Result<Vec<Line>> {
    let cases = [elements::CASES, tokens::CASES, losses::CASES, products::CASES].concat();
    pass.in_f32(|pass| measure_cases(pass, &cases, magnitudes))
}

fn measure_cases(pass: &mut Pass, cases: &[Case], magnitudes: &[f32]) -> Result<Vec<Line>> {
    let mut lines: Vec<Line> = Vec::new();
    for case in cases {
        for shape in case.shapes {
            for (index, magnitude) in magnitudes.iter().enumerate() {
                let [rows, cols] = *shape;
                let mut trial = Trial { pass, rows, cols, magnitude: *magnitude, errors: Vec::new() };
                (case.run)(&mut trial)?;
                for (what, error) in trial.errors {
                    note(&mut lines, what, (index, magnitudes.len()), error, *shape);
                }
            }
        }
    }
    Ok(lines)
}

/// Keeps the larger of an error and what was found before.
fn note(lines: &mut Vec<Line>, what: String, (index, count): (usize, usize), error: f64, shape: [usize; 2]) {
    let place = lines.iter().position(|line| line.what == what).unwrap_or_else(|| {
        lines.push(Line { what, errors: vec![0.0; count], shape });
        lines.len() - 1
    });
    let line = &mut lines[place];
    let before = line.errors.iter().copied().fold(0.0, worse);
    if worse(before, error).to_bits() != before.to_bits() {
        line.shape = shape;
    }
    line.errors[index] = worse(line.errors[index], error);
}

/// The larger of two errors, NaN the largest.
fn worse(a: f64, b: f64) -> f64 {
    if a.is_nan() || b <= a { a } else { b }
}

/// One case at one shape and magnitude.
struct Trial<'a> {
    pass: &'a mut Pass,
    rows: usize,
    cols: usize,
    magnitude: f32,
    errors: Vec<(String, f64)>,
}

/// An input, here and on the device.
struct Given {
    values: Vec<f32>,
    tensor: Tensor,
}

impl Given {
    fn wide(&self) -> Vec<f64> {
        wide(&self.values)
    }
}

impl Trial<'_> {
    fn given(&mut self, values: Vec<f32>, shape: &[usize]) -> Result<Given> {
        let tensor = self.pass.upload(&values, shape)?;
        Ok(Given { values, tensor })
    }

    /// Values within the magnitude.
    fn input(&mut self, seed: u64, shape: &[usize]) -> Result<Given> {
        let values = random(shape.iter().product(), seed).iter().map(|x| x * self.magnitude).collect();
        self.given(values, shape)
    }

    /// Values within 1, whatever the magnitude: weights, and gradients from above.
    fn unit(&mut self, seed: u64, shape: &[usize]) -> Result<Given> {
        self.given(random(shape.iter().product(), seed), shape)
    }

    /// Notes the largest error of an output over the largest value that the oracle has there.
    fn compare(&mut self, what: impl Into<String>, got: &Tensor, want: &[f64]) -> Result<()> {
        let wide;
        let got = if got.dtype() == DType::Bf16 {
            wide = cast::to_f32(self.pass, got)?;
            &wide
        } else {
            got
        };
        let got = self.pass.read(got)?;
        let whole = got.len() == want.len();
        let worst = got.iter().zip(want).map(|(got, want)| (f64::from(*got) - want).abs());
        let error = if whole { worst.fold(0.0, worse) / largest(want).max(FLOOR) } else { f64::NAN };
        self.errors.push((what.into(), error));
        Ok(())
    }
}

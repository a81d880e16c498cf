//! `jest bench numerics`: how far operations of a device are from their f64 oracles, over shapes and magnitudes.

use jest_kernels::ops::gelu::{self, Gelu};
use jest_kernels::ops::matmul::{self, Form};
use jest_kernels::ops::softmax_cross_entropy::{self, Labels};
use jest_kernels::ops::{l2_normalize, layer_norm};
use jest_kernels::testing::{largest, random, wide};
use jest_kernels::{Pass, Tensor};

use super::open;
use crate::Result;
use crate::cli::OnDevice;

/// Rows and columns of the inputs; products are square in the first and sum over the second.
const SHAPES: [(usize, usize); 3] = [(64, 64), (33, 769), (64, 2048)];
/// Inputs are drawn evenly from minus to plus this.
const MAGNITUDES: [f32; 3] = [1e-3, 1.0, 1e3];
const EPSILON: f64 = 1e-6;

/// Prints a table: for each operation, shape and magnitude the largest error over the largest value of the oracle.
pub(super) fn numerics(on: &OnDevice) -> Result<()> {
    let device = open::device(on)?;
    let mut pass = device.pass();
    println!("largest error / largest value on {}, {}", open::word(&device), device.precision());
    println!();
    println!("| operation | shape | inputs within 1e-3 | within 1 | within 1e3 |");
    println!("|---|---|---|---|---|");
    for (rows, cols) in SHAPES {
        let mut table = vec![Vec::new(); OPERATIONS.len()];
        for magnitude in MAGNITUDES {
            let x: Vec<f32> = random(rows * cols, 1).iter().map(|x| x * magnitude).collect();
            for (line, (_, error)) in table.iter_mut().zip(OPERATIONS) {
                line.push(format!("{:.1e}", error(&mut pass, &x, cols)?));
            }
        }
        for (line, (name, _)) in table.iter().zip(OPERATIONS) {
            println!("| {name} | {rows} x {cols} | {} |", line.join(" | "));
        }
    }
    Ok(())
}

/// Error of one operation on rows of so many elements.
type Measure = fn(&mut Pass, &[f32], usize) -> Result<f64>;

const OPERATIONS: [(&str, Measure); 7] = [
    ("matmul a · bᵀ", |pass, x, cols| product(pass, x, cols, Form::ABt)),
    ("matmul aᵀ · b", |pass, x, cols| product(pass, x, cols, Form::AtB)),
    ("gelu", activation),
    ("gelu backward", activation_backward),
    ("layer_norm", norm),
    ("l2_normalize", unit),
    ("softmax_cross_entropy gradient", cross_entropy),
];

/// Largest difference over the largest value wanted.
fn error(pass: &mut Pass, got: &Tensor, want: &[f64]) -> Result<f64> {
    let got = pass.read(got)?;
    let differences: Vec<f64> = got.iter().zip(want).map(|(got, want)| f64::from(*got) - want).collect();
    Ok(largest(&differences) / largest(want).max(f64::MIN_POSITIVE))
}

fn upload(pass: &mut Pass, x: &[f32], cols: usize) -> Result<Tensor> {
    Ok(pass.upload(x, &[x.len() / cols, cols])?)
}

/// x against itself: every sum of the first form runs over `cols`, of the other over the rows.
fn product(pass: &mut Pass, x: &[f32], cols: usize, form: Form) -> Result<f64> {
    let (rows, input, x64) = (x.len() / cols, upload(pass, x, cols)?, wide(x));
    let y = matmul::forward(pass, form, &input, &input)?;
    let want = match form {
        Form::AtB => matmul::oracle::atb(cols, cols, rows, &x64, &x64),
        _ => matmul::oracle::abt(rows, rows, cols, &x64, &x64),
    };
    error(pass, &y, &want)
}

fn activation(pass: &mut Pass, x: &[f32], cols: usize) -> Result<f64> {
    let input = upload(pass, x, cols)?;
    let y = gelu::forward(pass, Gelu::Tanh, &input)?;
    error(pass, &y, &gelu::oracle::forward(Gelu::Tanh, &wide(x)))
}

fn activation_backward(pass: &mut Pass, x: &[f32], cols: usize) -> Result<f64> {
    let (input, dy) = (upload(pass, x, cols)?, random(x.len(), 2));
    let upstream = upload(pass, &dy, cols)?;
    let dx = gelu::backward(pass, Gelu::Tanh, &input, &upstream)?;
    error(pass, &dx, &gelu::oracle::backward(Gelu::Tanh, &wide(x), &wide(&dy)))
}

fn norm(pass: &mut Pass, x: &[f32], cols: usize) -> Result<f64> {
    let (input, gamma, beta) = (upload(pass, x, cols)?, random(cols, 2), random(cols, 3));
    let [g, b] = [&gamma, &beta].map(|values| pass.upload(values, &[cols]));
    let (y, _) = layer_norm::forward(pass, &input, &g?, &b?, EPSILON as f32)?;
    error(pass, &y, &layer_norm::oracle::forward(&wide(x), &wide(&gamma), &wide(&beta), EPSILON))
}

fn unit(pass: &mut Pass, x: &[f32], cols: usize) -> Result<f64> {
    let input = upload(pass, x, cols)?;
    let (z, _) = l2_normalize::forward(pass, &input)?;
    error(pass, &z, &l2_normalize::oracle::forward(&wide(x), cols, 1e-12))
}

fn cross_entropy(pass: &mut Pass, x: &[f32], cols: usize) -> Result<f64> {
    let (input, ids) = (upload(pass, x, cols)?, (0..(x.len() / cols) as u32).collect::<Vec<_>>());
    let ids: Vec<u32> = ids.iter().map(|id| id % cols as u32).collect();
    let labels = Labels::upload(pass, &ids, cols)?;
    let (_, dx) = softmax_cross_entropy::forward_backward(pass, &input, &labels)?;
    error(pass, &dx, &softmax_cross_entropy::oracle::backward(cols, &wide(x), &ids))
}

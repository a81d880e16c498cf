//! `jest bench numerics`: how far operations are from their f64 oracles, over shapes and magnitudes.

use jest_kernels::numerics::{self, Line, MAGNITUDES};
use jest_kernels::{Device, DeviceKind, Precision};

use super::open;
use crate::Result;
use crate::cli::BenchNumericsArgs;
use crate::say::say;
use crate::storage::write_atomic;

const INTRODUCTION: &str = "\
# Numerics

How far operations are from their f64 oracles: the largest error over an output, divided by the largest value that the oracle has
there (or by 1e-30 where that is less), and of that the largest over the shapes that the operation was tried with; the last column
says at which. Inputs are drawn evenly from minus to plus the magnitude of the column; weights and gradients from above within 1.
Of the contrastive losses and the scores of selection, embeddings are unit rows and the magnitude is the scale of the logits; of
attention it is that of the queries alone.

One rounding to f32 is at most 6.0e-8 of a value, so a few 1e-7 are rounding alone. Where values cancel, the largest that is left is
small beside what was summed; a logit of 1e3 is known to 6e-5, and its exponential no better. `matmul f16` and `matmul bf16` are of
operands that the precision holds exactly: what is shown are their sums. So are `attention f16` and `attention bf16`: what is shown
are the roundings of weights and of scores' gradients, and in bf16 of what is stored. `linear f16` and `linear bf16` are of operands
as they come, which the precision rounds to 4.9e-4 and 3.9e-3 of a value; and f16 holds nothing over 65,504. `tanh` of small values
is the driver's own on a GPU, exact to 1e-7 of 1 on llvmpipe and not of the value.

Where the CPU device multiplies f32 on a matrix unit (`amx-bf16`), subnormal numbers count as 0: elements and products below 1e-31
lose their lower digits, and an infinite element or sum may come out as NaN.

Every operation is in the tables, and a test fails when one of the kernels that can run is dispatched by none of the cases.
";

/// Prints the tables of all devices, or writes the document that holds them.
pub(super) fn numerics(args: &BenchNumericsArgs) -> Result<()> {
    let mut text = INTRODUCTION.to_string();
    for spelling in &args.devices {
        let device = with_half_operands(spelling, args.threads.unwrap_or(0))?;
        let lines = numerics::measure(&mut device.pass(), &MAGNITUDES)?;
        section(&mut text, &device, &lines);
    }
    let command: Vec<String> = args.devices.iter().map(|device| format!(" --device {device}")).collect();
    text += &format!("\nMade by `cargo xtask bench numerics{} --out docs/numerics.md`.\n", command.concat());
    match &args.out {
        Some(path) => write_atomic(path, text.as_bytes()),
        None => {
            say!("{}", text.trim_end());
            Ok(())
        }
    }
}

/// A device that also has operands in f16, or else as it is.
fn with_half_operands(spelling: &str, threads: usize) -> Result<Device> {
    open::open_device(spelling, threads, Precision::F16)
        .or_else(|_| open::open_device(spelling, threads, Precision::F32))
}

fn section(text: &mut String, device: &Device, lines: &[Line]) {
    let info = device.info();
    let what = if info.kind == DeviceKind::Cpu {
        format!("The CPU device, {}", info.features.join(", "))
    } else {
        format!("WGSL on {}, {}", info.name, info.driver)
    };
    let columns: String =
        MAGNITUDES.iter().map(|magnitude| format!(" within {} |", short(f64::from(*magnitude), 0))).collect();
    *text += &format!("\n## {what}\n\n| operation |{columns} largest at |\n|---|---|---|---|---|\n");
    for Line { what, errors, shape: [rows, cols] } in lines {
        let errors: String = errors.iter().map(|error| format!(" {} |", short(*error, 1))).collect();
        *text += &format!("| {what} |{errors} {rows} x {cols} |\n");
    }
}

/// A number as `1.2e-7`, with so many digits behind the point; 0 and 1 as they are.
fn short(value: f64, digits: usize) -> String {
    if value == 0.0 || value == 1.0 { value.to_string() } else { format!("{value:.digits$e}") }
}

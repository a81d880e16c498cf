//! `cargo xtask bench [ARGS]`: throughput of every operation.

use crate::workspace;

/// Becomes `cargo bench -p jest-kernels ARGS`.
pub fn run(args: &[String]) -> u8 {
    let fixed = ["bench", "-p", "jest-kernels"].map(String::from);
    let line: Vec<String> = fixed.into_iter().chain(args.iter().cloned()).collect();
    workspace::replace(&mut workspace::cargo(&line))
}

//! `cargo xtask parity DIR [ARGS]`: values computed here against those of other libraries.

use crate::workspace;

/// Becomes `cargo run --release -p jest-train --bin jest -- parity ARGS`.
pub fn run(args: &[String]) -> u8 {
    let fixed = "run --release --quiet -p jest-train --bin jest -- parity".split(' ').map(String::from);
    let line: Vec<String> = fixed.chain(args.iter().cloned()).collect();
    workspace::replace(&mut workspace::cargo(&line))
}

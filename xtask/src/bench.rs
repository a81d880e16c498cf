//! `cargo xtask bench [ARGS]`: throughput of every operation; with a verb of `jest bench` first, that verb.

use crate::workspace;

/// What `jest bench` measures.
const PIECES: [&str; 5] = ["loss", "numerics", "ops", "select", "step"];

/// Becomes `cargo bench -p jest-kernels ARGS`, or `jest bench ARGS` where they begin with one of its verbs.
pub fn run(args: &[String]) -> u8 {
    workspace::replace(&mut workspace::cargo(&command_line(args)))
}

fn command_line(args: &[String]) -> Vec<String> {
    let piece = args.first().is_some_and(|first| PIECES.contains(&first.as_str()));
    let fixed = if piece { "run --release -p jest-train --bin jest -- bench" } else { "bench -p jest-kernels" };
    fixed.split(' ').map(String::from).chain(args.iter().cloned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_training_are_measured_by_the_binary() {
        for (args, expected) in [
            ("", "bench -p jest-kernels"),
            ("-- matmul", "bench -p jest-kernels -- matmul"),
            ("select --width 8", "run --release -p jest-train --bin jest -- bench select --width 8"),
            ("step", "run --release -p jest-train --bin jest -- bench step"),
        ] {
            let args: Vec<String> = args.split_whitespace().map(String::from).collect();
            assert_eq!(command_line(&args).join(" "), expected);
        }
    }
}

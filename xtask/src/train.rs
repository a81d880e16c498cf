//! `cargo xtask train [ARGS]`: the `jest` binary's `train`, release build, in the workspace root.

use crate::workspace;

/// What a run without arguments trains.
pub const QUICKSTART: &str = "configs/quickstart.toml";
/// Becomes `cargo run --release -p jest-train --bin jest -- train ARGS`.
pub fn run(args: &[String]) -> u8 {
    workspace::replace(&mut workspace::cargo(&command_line(args)))
}

/// Cargo's arguments; the quickstart unless they say what to train on.
pub fn command_line(args: &[String]) -> Vec<String> {
    let says = |flag: &str| args.iter().any(|arg| arg == flag || arg.starts_with(&format!("{flag}=")));
    let own = says("--config") || says("--train-data") || says("--help");
    let config = if own { Vec::new() } else { vec!["--config".to_string(), QUICKSTART.to_string()] };
    let fixed = "run --release -p jest-train --bin jest -- train".split(' ').map(String::from);
    fixed.chain(config).chain(args.iter().cloned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(args: &str, expected: &str) {
        let args: Vec<String> = args.split_whitespace().map(String::from).collect();
        let line = command_line(&args).join(" ");
        assert_eq!(line, format!("run --release -p jest-train --bin jest -- train {expected}"));
    }

    #[test]
    fn arguments_become_a_jest_command_line() {
        check("", "--config configs/quickstart.toml");
        check("--smoke --device gpu", "--config configs/quickstart.toml --smoke --device gpu");
        check("--train-data=a.tar", "--train-data=a.tar");
        check("--config my.toml --seed 3", "--config my.toml --seed 3");
    }
}

//! `cargo xtask train [ARGS]`: the `jest` binary's `train`, release build, in the workspace root.

use crate::workspace;

/// What a run without arguments trains.
pub const QUICKSTART: &str = "configs/quickstart.toml";
/// A run of one minute that goes through everything a long one does.
pub const SMOKE: &str = "configs/smoke.toml";

/// Becomes `cargo run --release -p jest-train --bin jest -- train ARGS`.
pub fn run(args: &[String]) -> u8 {
    workspace::replace(&mut workspace::cargo(&command_line(args)))
}

/// Cargo's arguments. `--smoke` in first place stands for its config; no arguments stand for the quickstart.
pub fn command_line(args: &[String]) -> Vec<String> {
    let (config, rest) = match args.split_first() {
        None => (Some(QUICKSTART), args),
        Some((first, rest)) if first == "--smoke" => (Some(SMOKE), rest),
        Some(_) => (None, args),
    };
    let fixed = "run --release -p jest-train --bin jest -- train".split(' ').map(String::from);
    let config = config.into_iter().flat_map(|path| ["--config".to_string(), path.to_string()]);
    fixed.chain(config).chain(rest.iter().cloned()).collect()
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
        check("--smoke", "--config configs/smoke.toml");
        check("--smoke --device gpu", "--config configs/smoke.toml --device gpu");
        check("--config my.toml --seed 3", "--config my.toml --seed 3");
    }
}

//! `cargo xtask ci`: every check, the cheapest first, stopping at the first that fails.

use crate::{test, tidy, train, workspace};

/// One check and how it is run.
struct Check {
    name: &'static str,
    run: fn() -> u8,
}

const CHECKS: [Check; 6] = [
    Check { name: "fmt", run: || cargo("fmt --all --check") },
    Check { name: "tidy", run: || tidy::run(&[]) },
    Check { name: "clippy", run: || cargo("clippy --workspace --all-targets --release -- -D warnings") },
    Check { name: "rustdoc", run: rustdoc },
    Check { name: "test", run: || test::run(&[]) },
    Check { name: "train --smoke", run: smoke },
];

/// Runs all checks; the exit code is that of the first that fails.
pub fn run(args: &[String]) -> u8 {
    if let Some(argument) = args.first() {
        eprintln!("xtask ci takes no arguments, got `{argument}`");
        return crate::USAGE;
    }
    for check in &CHECKS {
        println!("== {}", check.name);
        let code = (check.run)();
        if code != 0 {
            eprintln!("xtask ci: {} failed with exit code {code}", check.name);
            return code;
        }
    }
    println!("== all {} checks passed", CHECKS.len());
    0
}

fn cargo(line: &str) -> u8 {
    workspace::status(&mut workspace::cargo(&line.split(' ').collect::<Vec<_>>()))
}

fn rustdoc() -> u8 {
    let mut command = workspace::cargo(&["doc", "--workspace", "--no-deps", "--release"]);
    workspace::status(command.env("RUSTDOCFLAGS", "-D warnings"))
}

fn smoke() -> u8 {
    workspace::status(&mut workspace::cargo(&train::command_line(&["--smoke".to_string()])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_refused() {
        assert_eq!(run(&["--fast".to_string()]), crate::USAGE);
    }
}

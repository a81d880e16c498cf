//! Task runner of the workspace: `cargo xtask VERB`.
//!
//! It uses the standard library alone, so it builds in seconds on a machine that has built nothing yet, and does its
//! work by running cargo. Each verb is a module with a `run` that takes the arguments after the verb and returns an
//! exit code.

mod bench;
mod ci;
mod data;
mod parity;
mod reproduce;
mod suggest;
mod tally;
mod test;
mod tidy;
mod train;
mod vulkan;
mod workspace;

use std::process::ExitCode;

/// Exit code for a command line that cannot be understood.
const USAGE: u8 = 2;

/// One verb: its name, its line in the help, and what it does.
struct Verb {
    name: &'static str,
    help: &'static str,
    run: fn(&[String]) -> u8,
}

const VERBS: [Verb; 8] = [
    Verb {
        name: "train",
        help: "train; without ARGS configs/quickstart.toml, with --smoke a one-minute run",
        run: train::run,
    },
    Verb {
        name: "test",
        help: "run every test, WGSL kernels and cargo features included; with ARGS, cargo test ARGS",
        run: test::run,
    },
    Verb { name: "tidy", help: "check size limits, floor plan, dependency arrows and documents", run: tidy::run },
    Verb {
        name: "ci",
        help: "all checks, cheapest first: fmt, tidy, clippy, rustdoc, test, train --smoke",
        run: ci::run,
    },
    Verb {
        name: "bench",
        help: "throughput of the operations; `step`, `ops`, `loss`, `select`, `numerics`; `peers` against other libraries",
        run: bench::run,
    },
    Verb {
        name: "parity",
        help: "hold a folder of other libraries' values against ours; ARGS go to jest parity",
        run: parity::run,
    },
    Verb { name: "data", help: "build the data set `quickstart` or `bulk` in runs/data", run: data::run },
    Verb {
        name: "reproduce",
        help: "train and draw studies of the paper; ARGS go to jest reproduce, --list names them",
        run: reproduce::run,
    },
];

/// Names of all verbs, in the order of the help.
fn verb_names() -> Vec<&'static str> {
    VERBS.iter().map(|verb| verb.name).collect()
}

fn help() -> String {
    let lines: String = VERBS.iter().map(|verb| format!("  {:<10}{}\n", verb.name, verb.help)).collect();
    format!(
        "usage: cargo xtask VERB [ARGS]\n\n{lines}\n\
         Commands run in the workspace root; relative paths in ARGS start there.\n\
         `cargo xtask train ARGS` is `cargo run --release -p jest-train --bin jest -- train ARGS`.\n\
         `cargo xtask test` passes only if the shaders have run; for a part use `cargo test -p CRATE --release`."
    )
}

fn dispatch(args: &[String]) -> u8 {
    let Some((name, rest)) = args.split_first() else {
        eprintln!("{}", help());
        return USAGE;
    };
    if matches!(name.as_str(), "help" | "--help" | "-h") {
        println!("{}", help());
        return 0;
    }
    match VERBS.iter().find(|verb| verb.name == name) {
        Some(verb) => (verb.run)(rest),
        None => {
            let nearest = suggest::nearest(name, &verb_names());
            eprintln!("unknown verb `{name}`; nearest: {nearest}\n\n{}", help());
            USAGE
        }
    }
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    ExitCode::from(dispatch(&args))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(String::from).collect()
    }

    #[test]
    fn a_command_line_without_a_known_verb_is_a_usage_error() {
        assert_eq!(dispatch(&[]), USAGE);
        assert_eq!(dispatch(&words("trian --steps 3")), USAGE);
        assert_eq!(dispatch(&words("--help")), 0);
    }

    #[test]
    fn help_names_every_verb() {
        let help = help();
        for verb in &VERBS {
            assert!(help.contains(&format!("\n  {}", verb.name)), "{}", verb.name);
        }
    }
}

//! `cargo xtask bench [ARGS]`: throughput of every operation; with a verb of `jest bench` first, that verb; with `peers`
//! first, the same work in other libraries.

use std::path::PathBuf;
use std::process::Command;

use crate::workspace;

/// What `jest bench` measures.
const PIECES: [&str; 5] = ["loss", "numerics", "ops", "select", "step"];

/// What is held against peers: a script of `benches/peers` and its arguments.
const PEERS: [&str; 12] = [
    "ops.py",
    "sigmoid_loss.py",
    "selection.py",
    "products.py --device llvmpipe",
    "products.py --device cpu",
    "rust_step.py --batch 32",
    "step.py --preset xs64 --batch 128 --compile",
    "step.py --preset xs64 --batch 128 --compile --precision bf16",
    "step.py --preset s224 --batch 16 --compile",
    "step.py --preset s224 --batch 16 --compile --precision bf16",
    "loader.py target/peers/pictures",
    "remote.py target/peers/pictures",
];

/// Becomes `cargo bench -p jest-kernels ARGS`, or `jest bench ARGS` where they begin with one of its verbs.
pub fn run(args: &[String]) -> u8 {
    if args.first().is_some_and(|first| first == "peers") {
        return peers(&args[1..]);
    }
    workspace::replace(&mut workspace::cargo(&command_line(args)))
}

/// The Python that has the peers, where it is not the one of `benches/peers/install.sh`.
const PYTHON: &str = "JEST_PEERS_PYTHON";

/// Runs the scripts whose line begins with the first argument, or all where that is a flag or missing; each is given the
/// flags, and prints ratios with their spread. The first code that is not 0 is the result.
fn peers(args: &[String]) -> u8 {
    let installed = workspace::target_dir().join("peers");
    let python = std::env::var_os(PYTHON).map_or_else(|| installed.join("venv/bin/python"), PathBuf::from);
    let (name, flags) = name_and_flags(args);
    let lines: Vec<_> = chosen(name).collect();
    let compiled = installed.join("rust/release/jest-peers");
    let rust = lines.iter().any(|line| line.starts_with("products") || line.starts_with("rust"));
    for needed in [Some(&python), rust.then_some(&compiled)].into_iter().flatten() {
        if !needed.exists() {
            eprintln!(
                "{} is missing; `sh benches/peers/install.sh` installs the peers, and {PYTHON} names another Python \
                 that has them",
                needed.display()
            );
            return 1;
        }
    }
    let built = workspace::status(&mut workspace::cargo(&["build", "--release", "-p", "jest-train"]));
    let mut codes = vec![built];
    for line in lines {
        println!("{line}");
        let (script, fixed) = line.split_once(' ').unwrap_or((line, ""));
        let mut command = Command::new(&python);
        command.arg(format!("benches/peers/{script}")).args(fixed.split_whitespace()).args(flags);
        codes.push(workspace::status(command.current_dir(workspace::root())));
    }
    codes.into_iter().find(|code| *code != 0).unwrap_or(0)
}

/// The beginning of the lines that are chosen, and what is passed on to each.
fn name_and_flags(args: &[String]) -> (&str, &[String]) {
    match args.split_first() {
        Some((first, flags)) if !first.starts_with('-') => (first, flags),
        _ => ("", args),
    }
}

/// Without a name, all but what takes pictures that `benches/peers/pictures.py` makes.
fn chosen(name: &str) -> impl Iterator<Item = &'static str> {
    PEERS
        .into_iter()
        .filter(move |line| if name.is_empty() { !line.contains("pictures") } else { line.starts_with(name) })
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
    fn peers_are_chosen_by_the_name_of_their_script() {
        assert_eq!((chosen("").count(), chosen("step").count(), chosen("ops.py").count()), (10, 4, 1));
        for line in PEERS {
            let script = line.split(' ').next().unwrap_or_default();
            assert!(workspace::root().join("benches/peers").join(script).exists(), "{script}");
        }
    }

    #[test]
    fn flags_may_stand_without_a_name() {
        let words = |line: &str| line.split_whitespace().map(String::from).collect::<Vec<_>>();
        for (line, name, flags) in [
            ("", "", ""),
            ("step", "step", ""),
            ("--rounds 1", "", "--rounds 1"),
            ("ops.py --rounds 1", "ops.py", "--rounds 1"),
        ] {
            assert_eq!(name_and_flags(&words(line)), (name, &words(flags)[..]), "{line}");
        }
    }

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

//! `cargo xtask bench [ARGS]`: throughput of every operation; with a verb of `jest bench` first, that verb; with `peers`
//! first, the same work in other libraries.

use std::process::Command;

use crate::workspace;

/// What `jest bench` measures.
const PIECES: [&str; 5] = ["loss", "numerics", "ops", "select", "step"];

/// What is held against peers: a script of `benches/peers` and its arguments.
const PEERS: [&str; 10] = [
    "ops.py",
    "selection.py",
    "products.py --device llvmpipe",
    "products.py --device cpu",
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

/// Runs the scripts whose line begins with the first argument, or all; each prints ratios with their spread. The first code
/// that is not 0 is the result.
fn peers(args: &[String]) -> u8 {
    let python = workspace::target_dir().join("peers/venv/bin/python");
    if !python.exists() {
        eprintln!("{} is missing; `sh benches/peers/install.sh` installs the peers", python.display());
        return 1;
    }
    let built = workspace::status(&mut workspace::cargo(&["build", "--release", "-p", "jest-train"]));
    let mut codes = vec![built];
    for line in chosen(args.first().map_or("", String::as_str)) {
        println!("{line}");
        let (script, fixed) = line.split_once(' ').unwrap_or((line, ""));
        let mut command = Command::new(&python);
        command.arg(format!("benches/peers/{script}")).args(fixed.split_whitespace()).args(args.iter().skip(1));
        codes.push(workspace::status(command.current_dir(workspace::root())));
    }
    codes.into_iter().find(|code| *code != 0).unwrap_or(0)
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
        assert_eq!((chosen("").count(), chosen("step").count(), chosen("ops.py").count()), (8, 4, 1));
        for line in PEERS {
            let script = line.split(' ').next().unwrap_or_default();
            assert!(workspace::root().join("benches/peers").join(script).exists(), "{script}");
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

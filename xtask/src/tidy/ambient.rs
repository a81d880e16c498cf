//! Clock, environment and network are read at the edge and passed in.

use super::tree::Tree;

/// What reads the surroundings.
const READS: [&str; 7] =
    ["std::env", "env::var", "env::args", "env::current_dir", "SystemTime::now", "Instant::now", "std::net"];

/// Where that is allowed: a file, or a folder with `/` at its end, and the reason. Tests, benches and examples always
/// may.
const EDGE: [(&str, &str); 6] = [
    ("xtask/", "the task runner is an edge"),
    ("jest-train/src/bin/", "the binary is the edge"),
    ("jest-train/src/cli.rs", "the command line is the edge"),
    ("jest-train/src/verbs/", "verbs are what the command line calls"),
    ("jest-train/src/clock.rs", "the one clock, made by the command line and passed in"),
    ("jest-kernels/src/testing.rs", "notes dispatched kernels where `cargo xtask test` asks for it"),
];

/// Rule `ambient`.
pub fn check(tree: &Tree) -> Vec<(String, usize, String)> {
    let mut found = Vec::new();
    let inner =
        tree.ending(".rs").filter(|file| !file.is_test() && !EDGE.iter().any(|(edge, _)| is_within(&file.path, edge)));
    for file in inner {
        for (line, code) in file.code() {
            if let Some(read) = READS.iter().find(|read| code.contains(*read)) {
                found.push((
                    file.path.clone(),
                    line,
                    format!("`{read}` outside the edge; take the value as an argument"),
                ));
            }
        }
    }
    found
}

fn is_within(path: &str, edge: &str) -> bool {
    path == edge || edge.ends_with('/') && path.starts_with(edge)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &str, text: &str) -> Vec<usize> {
        check(&Tree::of(&[(path, text)])).into_iter().map(|(_, line, _)| line).collect()
    }

    #[test]
    fn libraries_read_no_surroundings() {
        for planted in [
            "use std::env;",
            "let a = env::var(\"A\");",
            "let t = std::time::Instant::now();",
            "SystemTime::now()",
            "std::net::TcpStream",
        ] {
            assert_eq!(lines("jest-data/src/loader.rs", &format!("// one\n{planted}\n")), [2], "{planted}");
        }
        assert_eq!(lines("jest-train/src/cli_words.rs", "Instant::now()"), [1]);
    }

    #[test]
    fn edges_and_tests_may() {
        for path in [
            "xtask/src/main.rs",
            "jest-train/src/cli.rs",
            "jest-train/src/verbs/eval.rs",
            "jest-data/tests/a.rs",
            "jest-kernels/benches/throughput.rs",
        ] {
            assert_eq!(lines(path, "Instant::now()"), [0; 0], "{path}");
        }
        assert_eq!(
            lines("jest-data/src/a.rs", "env!(\"X\") // std::env\n#[cfg(test)]\nmod tests { use std::env; }"),
            [0; 0]
        );
    }
}

//! Nothing unfinished is called done, and no test is skipped.

use super::tree::{File, Tree};

/// What code must not contain; tests included.
const IN_CODE: [(&str, &str); 5] = [
    ("todo!(", "write it, or return an error that says what to do"),
    ("unimplemented!(", "write it, or return an error that says what to do"),
    ("#[ignore", "a test runs or does not exist"),
    ("#[should_panic", "assert the error's value"),
    ("cfg_attr(ignore", "a test runs or does not exist"),
];
const MARK: &str = concat!("FIX", "ME");
/// Comments that open an example which the documentation tests pass over.
const SKIPPED_EXAMPLE: [&str; 2] = ["```ignore", "```rust,ignore"];

/// Rule `unfinished`.
pub fn check(tree: &Tree) -> Vec<(String, usize, String)> {
    tree.files.iter().flat_map(|file| if file.source.is_some() { in_source(file) } else { in_text(file) }).collect()
}

fn in_source(file: &File) -> Vec<(String, usize, String)> {
    let mut found = Vec::new();
    for (line, code, prose) in file.code_and_prose() {
        let squeezed: String = code.split_whitespace().collect();
        for (needle, advice) in IN_CODE.iter().filter(|(needle, _)| squeezed.contains(needle)) {
            found.push((file.path.clone(), line, format!("`{needle}`: {advice}")));
        }
        if code.contains(MARK) || prose.contains(MARK) {
            found.push((file.path.clone(), line, format!("`{MARK}`: do it, or state the limit as a fact")));
        }
        if SKIPPED_EXAMPLE.iter().any(|fence| prose.contains(fence)) {
            found.push((file.path.clone(), line, "an example that is never compiled; make it run".to_string()));
        }
    }
    found
}

fn in_text(file: &File) -> Vec<(String, usize, String)> {
    let hits = file
        .text
        .lines()
        .enumerate()
        .filter(|(_, line)| line.contains(MARK) || SKIPPED_EXAMPLE.iter().any(|fence| line.starts_with(fence)));
    hits.map(|(index, _)| {
        (file.path.clone(), index + 1, "unfinished, or an example that is never compiled".to_string())
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &str, text: &str) -> Vec<usize> {
        check(&Tree::of(&[(path, text)])).into_iter().map(|(_, line, _)| line).collect()
    }

    #[test]
    fn stubs_and_skipped_tests_are_found() {
        for planted in [
            "todo!(\"later\")",
            "unimplemented ! ()",
            "#[ignore = \"slow\"]",
            "#[should_panic]",
            "// FIXME: sign",
            "/// ```ignore",
        ] {
            assert_eq!(lines("a/src/b.rs", &format!("fn f() {{\n{planted}\n}}\n")), [2], "{planted}");
        }
        assert_eq!(lines("a/src/b.wgsl", "fn f() {} // FIXME\n"), [1]);
        assert_eq!(lines("a.toml", "# FIXME\n"), [1]);
        assert_eq!(lines("README.md", "```rust,ignore\n"), [1]);
    }

    #[test]
    fn words_in_strings_and_finished_code_pass() {
        assert_eq!(lines("a/src/b.rs", "fn f() { print(\"todo!(\"); ignored(\"FIXME\") }\n/// ```\n"), [0; 0]);
    }
}

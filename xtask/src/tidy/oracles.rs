//! Oracles stand alone: what checks everything else may not use it.

use super::tree::Tree;

/// Rule `oracles`: an `oracle.rs` names nothing of its crate but other oracles, its tests excepted.
pub fn check(tree: &Tree) -> Vec<(String, usize, String)> {
    let mut found = Vec::new();
    for file in tree.ending("/oracle.rs") {
        // A grouped `use` may run over lines, so the scan sees all code and keeps line numbers through the newlines it
        // holds.
        let lines: Vec<(usize, &str)> = file.code().collect();
        for (index, (line, text)) in lines.iter().enumerate() {
            for start in starts(text) {
                let mut rest = text[start..].to_string();
                rest.extend(lines[index + 1..].iter().map(|(_, next)| format!(" {next}")));
                found.extend(foreign(&rest).into_iter().map(|path| {
                    (
                        file.path.clone(),
                        *line,
                        format!("an oracle uses oracles only, found `{path}`; write the naive loop here"),
                    )
                }));
            }
        }
    }
    found
}

/// Where paths into the crate begin in a line.
fn starts(line: &str) -> Vec<usize> {
    let mut all: Vec<usize> =
        line.match_indices("crate::").chain(line.match_indices("super::")).map(|(at, _)| at).collect();
    all.sort_unstable();
    // `super::super::x` is one path, and `$crate`, `my_crate::x` are none of ours.
    let joined = |at: usize| line[..at].ends_with(|c: char| c == ':' || c == '_' || c.is_alphanumeric());
    all.retain(|&at| !joined(at));
    all
}

/// Paths at the head of the text, groups in braces spread out, that have no component `oracle` and name no type.
///
/// A type carries settings, such as which GELU; a function would carry the arithmetic that the oracle is to check.
fn foreign(text: &str) -> Vec<String> {
    let oracle = |path: &String| path.split("::").any(|part| part == "oracle");
    let is_type = |path: &String| {
        path.starts_with("super::") && path.split("::").nth(1).is_some_and(|name| name.starts_with(char::is_uppercase))
    };
    spread(text).0.into_iter().filter(|path| !oracle(path) && !is_type(path)).collect()
}

/// Reads one path, which may end in a group; returns its leaves and how many bytes it took.
fn spread(text: &str) -> (Vec<String>, usize) {
    let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':' || c == '*';
    let length = text.find(|c| !is_path(c)).unwrap_or(text.len());
    let prefix = &text[..length];
    if !(prefix.ends_with("::") && text[length..].starts_with('{')) {
        return (vec![prefix.to_string()], length);
    }
    let (mut leaves, mut at) = (Vec::new(), length + 1);
    while at < text.len() && !text[at..].starts_with('}') {
        if text[at..].starts_with(is_path) {
            let (inner, used) = spread(&text[at..]);
            leaves.extend(inner.into_iter().map(|leaf| format!("{prefix}{leaf}")));
            // ` as name` after a leaf is no path of its own.
            at += used + text[at + used..].find([',', '}']).unwrap_or(0);
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    (leaves, (at + 1).min(text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_text(text: &str, expected: &[&str]) {
        let found = check(&Tree::of(&[("jest-kernels/src/ops/gelu/oracle.rs", text)]));
        let paths: Vec<&str> = found.iter().map(|(.., message)| message.split('`').nth(1).unwrap()).collect();
        assert_eq!(paths, expected, "{text}");
    }

    #[test]
    fn oracles_use_oracles() {
        check_text("use crate::ops::matmul::oracle::matmul;\nuse super::super::softmax::oracle;", &[]);
        check_text("use super::Gelu;\nuse super::{Mask, Attention};", &[]);
        check_text("use std::f64::consts::PI;\npub(super) fn f() {}\npub(crate) fn g() {}", &[]);
        check_text("// crate::tensor\nfn f() { \"crate::tensor\"; }", &[]);
        check_text("fn f() { g() }\n#[cfg(test)]\nmod tests { use super::*; }", &[]);
    }

    #[test]
    fn anything_else_of_the_crate_is_found() {
        check_text("use crate::tensor::Tensor;", &["crate::tensor::Tensor"]);
        check_text("fn f() { super::cpu::gelu(1.0) }", &["super::cpu::gelu"]);
        check_text("use crate::ops::{matmul::oracle as m,\n    gelu::{cpu, oracle}};", &["crate::ops::gelu::cpu"]);
        check_text("use crate::{error::Error, ops::*};", &["crate::error::Error", "crate::ops::*"]);
    }
}

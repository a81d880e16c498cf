//! Sizes: a file and a function fit in a head.

use super::source::{after_block, line_of};
use super::tree::{File, Tree};

const RUST_FILE: usize = 400;
const WGSL_FILE: usize = 200;
const CRATE_ROOT: usize = 150;
const FUNCTION: usize = 60;

/// Rule `limits`: lines of `.rs` and `.wgsl` files, of `lib.rs`, and of functions in both languages, tests included.
pub fn check(tree: &Tree) -> Vec<(String, usize, String)> {
    let sources = tree.files.iter().filter(|file| file.source.is_some());
    sources.flat_map(|file| over_long_file(file).into_iter().chain(over_long_functions(file))).collect()
}

fn over_long_file(file: &File) -> Option<(String, usize, String)> {
    let limit = match file.path.rsplit('/').next() {
        Some("lib.rs") => CRATE_ROOT,
        Some(name) if name.ends_with(".wgsl") => WGSL_FILE,
        _ => RUST_FILE,
    };
    let lines = file.text.lines().count();
    (lines > limit).then(|| {
        (file.path.clone(), limit + 1, format!("{lines} lines, limit {limit}; split the file by what its parts do"))
    })
}

fn over_long_functions(file: &File) -> Vec<(String, usize, String)> {
    let code = file.source.as_ref().map_or("", |source| &source.code);
    let long = functions(code).into_iter().filter(|function| function.lines > FUNCTION);
    long.map(|Function { name, line, lines }| {
        (
            file.path.clone(),
            line,
            format!("function `{name}` has {lines} lines, limit {FUNCTION}; give its steps names"),
        )
    })
    .collect()
}

/// A function with a body: its name, the line of its `fn` and how many lines it has from there to its closing brace.
struct Function<'a> {
    name: &'a str,
    line: usize,
    lines: usize,
}

/// Every function with a body; the text must be free of comments and literals.
fn functions(code: &str) -> Vec<Function<'_>> {
    let mut found = Vec::new();
    for (start, _) in code.match_indices("fn ") {
        let is_word = code[..start].chars().next_back().is_none_or(|before| !before.is_alphanumeric() && before != '_');
        let rest = code[start + 3..].trim_start();
        let length = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        if let (true, true, Some(open)) = (is_word, length > 0, body(code, start)) {
            let first = line_of(code, start);
            let last = line_of(code, after_block(code, open) - 1);
            found.push(Function { name: &rest[..length], line: first + 1, lines: last - first + 1 });
        }
    }
    found
}

/// The opening brace of the function at `start`; `None` if its signature ends in a semicolon.
fn body(code: &str, start: usize) -> Option<usize> {
    let mut depth = 0;
    for (at, byte) in code.bytes().enumerate().skip(start) {
        match byte {
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth -= 1,
            b'{' if depth == 0 => return Some(at),
            b';' if depth == 0 => return None,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines of the findings in a file of this path and text.
    fn lines(path: &str, text: &str) -> Vec<usize> {
        check(&Tree::of(&[(path, text)])).into_iter().map(|(_, line, _)| line).collect()
    }

    #[test]
    fn files_have_a_limit_by_kind() {
        for (path, limit) in [
            ("a/src/b.rs", RUST_FILE),
            ("a/src/b.wgsl", WGSL_FILE),
            ("a/src/lib.rs", CRATE_ROOT),
            ("a/tests/b.rs", RUST_FILE),
        ] {
            assert_eq!(lines(path, &"//\n".repeat(limit)), [0; 0], "{path}");
            assert_eq!(lines(path, &"//\n".repeat(limit + 1)), [limit + 1], "{path}");
        }
    }

    #[test]
    fn functions_have_a_limit_in_both_languages() {
        for path in ["a.rs", "a.wgsl"] {
            let fits = format!("\nfn f(x: array<u32, 4>) -> u32 {{\n{}}}\n", "    x(); // }\n".repeat(FUNCTION - 2));
            assert_eq!(lines(path, &fits), [0; 0]);
            assert_eq!(lines(path, &fits.replace("(x: ", "(\n    x: ")), [2]);
        }
    }

    #[test]
    fn braces_in_literals_and_signatures_do_not_count() {
        let text = format!(
            "fn f() -> [u8; 4] {{ a(\"}}\", '}}') }}\nfn g(a: fn(u8));\n{}",
            "// fn h() {\n".repeat(FUNCTION + 1)
        );
        assert_eq!(lines("a.rs", &text), [0; 0]);
        let long = format!("fn f() {{ a(\"}}\");\n{}}}", "b();\n".repeat(FUNCTION));
        assert_eq!(lines("a.rs", &long), [1]);
    }
}

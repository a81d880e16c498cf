//! Commands as documents write them, held against what the workspace has.

use super::manifest;
use super::tree::Tree;

/// Cargo's own subcommands that documents may use.
const CARGO: [&str; 12] =
    ["run", "test", "bench", "build", "check", "clippy", "doc", "fmt", "install", "add", "update", "tree"];

/// What is wrong with a line, if it is a command of cargo or `jest`; shell operators part it into several.
pub fn faults(tree: &Tree, line: &str) -> Vec<String> {
    let words: Vec<&str> = line.split_whitespace().take_while(|word| !word.starts_with('#')).collect();
    let commands = words.split(|word| matches!(*word, "|" | "&&" | "||" | ";" | ">" | "$"));
    commands.flat_map(|command| simple(tree, command)).collect()
}

fn simple(tree: &Tree, words: &[&str]) -> Vec<String> {
    // `NAME=value` before a command sets its environment.
    let is_setting = |word: &&&str| {
        word.split_once('=').is_some_and(|(name, _)| name.chars().all(|c| c.is_ascii_uppercase() || c == '_'))
    };
    let words = &words[words.iter().take_while(is_setting).count()..];
    match words.split_first() {
        Some((&"cargo", rest)) => cargo(tree, rest),
        Some((program, rest)) if *program == "jest" || program.ends_with("/jest") => jest(tree, rest),
        _ => Vec::new(),
    }
}

fn cargo(tree: &Tree, words: &[&str]) -> Vec<String> {
    let words = &words[words.iter().take_while(|word| word.starts_with('+')).count()..];
    match words.split_first() {
        None => Vec::new(),
        Some((&"xtask", rest)) => {
            let known = crate::verb_names();
            let verb = rest.first().filter(|verb| !is_placeholder(verb));
            let unknown = verb.filter(|verb| !known.contains(*verb) && **verb != "help");
            unknown.map(|verb| format!("xtask has no verb `{verb}`")).into_iter().chain(config(tree, rest)).collect()
        }
        Some((subcommand, rest)) if CARGO.contains(subcommand) => {
            let (own, passed) = rest.split_at(rest.iter().position(|word| *word == "--").unwrap_or(rest.len()));
            let bin = value(own, &["--bin"]);
            let jest = if *subcommand == "run" && bin == Some("jest") {
                jest(tree, passed.get(1..).unwrap_or(&[]))
            } else {
                Vec::new()
            };
            targets(tree, own).into_iter().chain(jest).collect()
        }
        Some((subcommand, _)) => vec![format!("cargo has no subcommand `{subcommand}`")],
    }
}

/// Packages and targets that flags name.
fn targets(tree: &Tree, words: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    let mut check = |flags: &[&str], what: &str, known: &dyn Fn(&str) -> bool| {
        let named = value(words, flags).filter(|name| !is_placeholder(name) && !known(name));
        found.extend(named.map(|name| format!("there is no {what} `{name}`")));
    };
    let file =
        |folder: &str, name: &str| tree.ending(".rs").any(|file| file.path.ends_with(&format!("/{folder}/{name}.rs")));
    check(&["-p", "--package"], "package", &|name| manifest::packages(tree).any(|(package, _)| package == name));
    check(&["--bin"], "binary", &|name| {
        manifest::packages(tree).any(|(_, text)| manifest::binaries(text).contains(&name))
    });
    check(&["--test"], "test", &|name| file("tests", name));
    check(&["--bench"], "bench", &|name| file("benches", name));
    check(&["--example"], "example", &|name| file("examples", name));
    check(&["--path"], "folder", &|name| tree.exists(name));
    found
}

fn jest(tree: &Tree, words: &[&str]) -> Vec<String> {
    let verb = words.first().filter(|verb| !is_placeholder(verb) && !verb.starts_with('-'));
    let unknown = verb.filter(|verb| !jest_verbs(tree).iter().any(|known| known == *verb));
    unknown.map(|verb| format!("jest has no verb `{verb}`")).into_iter().chain(config(tree, words)).collect()
}

/// A config in a folder must exist; a bare `my.toml` is the reader's own.
fn config(tree: &Tree, words: &[&str]) -> Option<String> {
    let path = value(words, &["--config"])
        .filter(|path| path.contains('/') && !path.contains(['<', '*', '{']) && !tree.exists(path))?;
    Some(format!("there is no config `{path}`"))
}

/// The value of the first of these flags, as `--flag value` or `--flag=value`.
fn value<'a>(words: &[&'a str], flags: &[&str]) -> Option<&'a str> {
    let at = words.iter().position(|word| flags.contains(&word.split('=').next().unwrap_or("")))?;
    let value = words[at].split_once('=').map(|(_, value)| value).or_else(|| words.get(at + 1).copied())?;
    Some(value.trim_matches(['"', '\'', ',']))
}

/// `ARGS`, `<op>`, `...`: for the reader to fill in.
fn is_placeholder(word: &str) -> bool {
    word.starts_with('<') || word.starts_with('.') || word.chars().all(|c| c.is_uppercase() || c == '_')
}

/// Verbs of the `jest` binary: the variants of its `Subcommand` enums, nested ones included, in kebab case.
fn jest_verbs(tree: &Tree) -> Vec<String> {
    let sources = tree
        .files
        .iter()
        .filter(|file| file.path.starts_with("jest-train/src/"))
        .filter_map(|file| file.source.as_ref());
    sources.flat_map(|source| source.code.split("Subcommand").skip(1).flat_map(variants)).collect()
}

/// Variants of the enum that a derive just before this text stands on; none if no enum follows at once.
fn variants(after_derive: &str) -> Vec<String> {
    let Some((head, body)) = after_derive.split_once('{') else { return Vec::new() };
    if !head.contains("enum ") || head.contains(';') {
        return Vec::new();
    }
    let (mut depth, mut top) = (0, String::new());
    for c in body.chars() {
        match c {
            '{' | '(' | '[' => depth += 1,
            '}' if depth == 0 => break,
            '}' | ')' | ']' => depth -= 1,
            _ if depth == 0 => top.push(c),
            _ => {}
        }
    }
    let names = top.split(',').map(|item| item.trim_start_matches(|c: char| c == '#' || c.is_whitespace()).trim_end());
    names.filter(|name| !name.is_empty()).map(kebab_case).collect()
}

fn kebab_case(name: &str) -> String {
    let dash = |(index, c): (usize, char)| if index > 0 && c.is_uppercase() { format!("-{c}") } else { c.to_string() };
    name.chars().enumerate().map(dash).collect::<String>().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLI: &str = "#[derive(Debug, clap::Subcommand)]\npub enum Verb {\n    /// Trains, at length.\n    #[command(flatten)]\n    Train(Args),\n    \
                       ZeroShot { #[arg(long)] k: usize, l: u8 },\n    Devices,\n}\npub struct Other { a: u8 }\n";

    fn tree() -> Tree {
        Tree::of(&[
            ("jest-train/Cargo.toml", "[[bin]]\nname = \"jest\"\n"),
            ("jest-train/src/cli.rs", CLI),
            ("jest-kernels/Cargo.toml", ""),
            ("jest-kernels/benches/throughput.rs", ""),
            ("configs/quickstart.toml", ""),
        ])
    }

    #[test]
    fn verbs_are_read_from_the_enum() {
        assert_eq!(jest_verbs(&tree()), ["train", "zero-shot", "devices"]);
        assert_eq!(variants(";\nstruct A { b: u8 }"), [""; 0]);
    }

    #[test]
    fn commands_that_work_pass() {
        for line in [
            "$ cargo xtask train --smoke # one minute",
            "cargo xtask VERB",
            "RUST_LOG=info cargo run --release -p jest-train --bin jest -- train --config my.toml --train-data 'a/{0..9}.tar'",
            "cargo bench -p jest-kernels --bench throughput && cargo xtask tidy",
            "./target/release/jest devices",
            "jest zero-shot --config=configs/quickstart.toml | less",
            "cargo test -p CRATE --release",
            "ls nothing",
        ] {
            assert_eq!(faults(&tree(), line), [""; 0], "{line}");
        }
    }

    #[test]
    fn commands_that_name_nothing_are_found() {
        for (line, named) in [
            ("cargo xtask trian", "trian"),
            ("cargo bild --release", "bild"),
            ("cargo run --release --bin jets -- train", "jets"),
            ("cargo run --bin jest -- trian", "trian"),
            ("cargo test -p jest-kernel", "jest-kernel"),
            ("cargo bench -p jest-kernels --bench speed", "speed"),
            ("cargo xtask tidy && jest embd", "embd"),
            ("jest train --config configs/missing.toml", "configs/missing.toml"),
        ] {
            let found = faults(&tree(), line);
            assert_eq!(found.len(), 1, "{line}: {found:?}");
            assert!(found[0].contains(&format!("`{named}`")), "{line}: {found:?}");
        }
    }
}

//! Documents stay true: every path, command, link and test that they name exists.

use super::commands;
use super::ground::resolve;
use super::tree::{File, Tree};

/// History names what is gone.
const HISTORY: &str = "CHANGELOG.md";
/// Top-level folders that runs and builds make.
const MADE: [&str; 3] = ["runs", "target", "logs"];
/// What stands before the names of tests in ARCHITECTURE.md.
const HELD_BY: &str = "Held by";

/// Rule `docs`: backticked paths and commands, fenced shell lines and links in `.md` files; commands in the headers of
/// configs; tests and rules that a `Held by` line names.
pub fn check(tree: &Tree) -> Vec<(String, usize, String)> {
    let mut found = Vec::new();
    for file in tree.ending(".md").filter(|file| file.path != HISTORY) {
        let mut add = |line: usize, messages: Vec<String>| {
            found.extend(messages.into_iter().map(|message| (file.path.clone(), line, message)))
        };
        for Passage { line, text, kind } in passages(&file.text) {
            add(
                line,
                match kind {
                    Kind::Code => paths(tree, file, &text).into_iter().chain(commands::faults(tree, &text)).collect(),
                    Kind::Link => link(tree, file, &text).into_iter().collect(),
                    Kind::Test => test(tree, &text).into_iter().collect(),
                },
            );
        }
    }
    for file in tree.files.iter().filter(|file| file.path.starts_with("configs/") && file.path.ends_with(".toml")) {
        for (index, line) in file.text.lines().enumerate() {
            let comment = line.strip_prefix('#').map(|text| text.trim().trim_start_matches("command:").trim());
            let command = comment.filter(|text| text.starts_with("cargo ") || text.starts_with("jest "));
            found.extend(
                command
                    .iter()
                    .flat_map(|text| commands::faults(tree, text))
                    .map(|message| (file.path.clone(), index + 1, message)),
            );
        }
    }
    found
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A span in backticks or a line of a fenced block.
    Code,
    /// The target of a link.
    Link,
    /// A span in backticks after `Held by`.
    Test,
}

/// A part of a document that makes a checkable statement.
struct Passage {
    line: usize,
    text: String,
    kind: Kind,
}

fn passages(text: &str) -> Vec<Passage> {
    let mut found = Vec::new();
    // Inside a fence: whether its lines are read (Rust blocks are compiled by the documentation tests instead).
    let mut fence: Option<bool> = None;
    let mut continued = String::new();
    for (index, line) in text.lines().enumerate() {
        let mut add = |text: &str, kind| found.push(Passage { line: index + 1, text: text.to_string(), kind });
        match (line.trim_start().strip_prefix("```"), fence) {
            (Some(language), None) => fence = Some(!language.trim().starts_with("rust")),
            (Some(_), Some(_)) => fence = None,
            (None, Some(true)) => {
                continued.push_str(line);
                if continued.ends_with('\\') {
                    continued.pop();
                } else {
                    add(&std::mem::take(&mut continued), Kind::Code);
                }
            }
            (None, Some(false)) => {}
            (None, None) if line.starts_with("    ") => add(line, Kind::Code),
            (None, None) => {
                let held = line.find(HELD_BY).unwrap_or(line.len());
                spans(&line[..held]).for_each(|span| add(span, Kind::Code));
                spans(&line[held..]).for_each(|span| add(span, Kind::Test));
                line.split("](")
                    .skip(1)
                    .filter_map(|rest| rest.split(')').next())
                    .for_each(|target| add(target, Kind::Link));
            }
        }
    }
    found
}

/// Texts between pairs of backticks.
fn spans(line: &str) -> impl Iterator<Item = &str> {
    let closed = line.matches('`').count() / 2;
    line.split('`').skip(1).step_by(2).take(closed)
}

/// Paths of the repository in a piece of code that lead nowhere.
fn paths(tree: &Tree, file: &File, text: &str) -> Vec<String> {
    // `a::b` joins two data sources.
    let words = text.split("::").flat_map(|text| {
        text.split(|c: char| c.is_whitespace() || matches!(c, '=' | '"' | '\'' | '(' | ')' | '│' | '|'))
    });
    let words =
        words.map(|word| word.trim_matches([',', ';', ':', '`']).trim_end_matches('.').trim_start_matches("./"));
    let mut found = Vec::new();
    for word in words.filter(|word| is_ours(tree, word)) {
        // `path:line` points into a file.
        let path =
            word.rsplit_once(':').filter(|(_, line)| line.parse::<usize>().is_ok()).map_or(word, |(path, _)| path);
        let beside = file.path.rsplit_once('/').map_or(String::new(), |(folder, _)| format!("{folder}/"));
        let there = |path: &str| matches(tree, path) || matches(tree, &format!("{beside}{path}"));
        found.extend(
            alternatives(path).into_iter().filter(|path| !there(path)).map(|path| format!("there is no `{path}`")),
        );
    }
    found
}

/// Whether a word claims to be a path of this repository: it starts in a top-level folder, or is a document's name.
fn is_ours(tree: &Tree, word: &str) -> bool {
    match word.split_once('/') {
        Some((first, _)) => {
            !first.is_empty() && !MADE.contains(&first) && tree.file(first).is_none() && tree.exists(first)
        }
        None => word.ends_with(".md") && word.len() > 3,
    }
}

/// `a/{b,c}` as `a/b` and `a/c`; a range in braces stands for anything.
fn alternatives(path: &str) -> Vec<String> {
    let Some((head, rest)) = path.split_once('{') else { return vec![path.to_string()] };
    let Some((group, tail)) = rest.split_once('}') else { return vec![path.to_string()] };
    let parts: Vec<&str> = if group.contains("..") { vec!["*"] } else { group.split(',').collect() };
    parts.iter().flat_map(|part| alternatives(&format!("{head}{}{tail}", part.trim()))).collect()
}

/// Whether a path exists, where `*` and `<name>` stand for anything within one component.
fn matches(tree: &Tree, path: &str) -> bool {
    let pattern: Vec<String> = path.trim_end_matches('/').split('/').map(wildcards).collect();
    let fits = |file: &&File| {
        let parts: Vec<&str> = file.path.split('/').collect();
        parts.len() >= pattern.len() && pattern.iter().zip(&parts).all(|(pattern, part)| component_fits(pattern, part))
    };
    tree.files.iter().any(|file| fits(&file))
}

/// `<name>` as `*`.
fn wildcards(component: &str) -> String {
    match (component.find('<'), component.rfind('>')) {
        (Some(open), Some(close)) if open < close => format!("{}*{}", &component[..open], &component[close + 1..]),
        _ => component.to_string(),
    }
}

fn component_fits(pattern: &str, part: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == part,
        Some((head, tail)) => part.len() >= head.len() + tail.len() && part.starts_with(head) && part.ends_with(tail),
    }
}

/// A link into the repository that leads nowhere.
fn link(tree: &Tree, file: &File, target: &str) -> Option<String> {
    let path = target.split('#').next().unwrap_or("");
    if path.is_empty() || target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let folder = file.path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let there = resolve(folder, path).is_some_and(|path| tree.exists(&path));
    (!there).then(|| format!("link to `{target}` leads nowhere"))
}

/// A test, a test file or a rule of tidy that is named and not there.
fn test(tree: &Tree, name: &str) -> Option<String> {
    if let Some(rule) = name.strip_prefix("tidy: ") {
        return (!super::RULES.iter().any(|known| known.name == rule)).then(|| format!("tidy has no rule `{rule}`"));
    }
    let last = name.rsplit("::").next().unwrap_or(name);
    let (function, file) = (format!("fn {last}("), format!("/tests/{last}.rs"));
    // Attributes stand between the end of what comes before and the function.
    let is_test =
        |before: &str| before.rsplit(['{', '}', ';']).next().is_some_and(|between| between.contains("#[test]"));
    let defines = |code: &str| code.match_indices(&function).any(|(at, _)| is_test(&code[..at]));
    let there =
        |other: &File| other.path.ends_with(&file) || other.source.as_ref().is_some_and(|source| defines(&source.code));
    (!tree.files.iter().any(there)).then(|| format!("there is no test `{name}`"))
}

#[cfg(test)]
#[path = "docs_tests.rs"]
mod tests;

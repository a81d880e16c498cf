//! `cargo xtask tidy`: what the house rules say about text, held by a program.
//!
//! A rule is a function from a [`Tree`] (paths and texts, from disk or planted by a test) to findings. What a rule must
//! let pass stands in [`exceptions::EXCEPTIONS`] with a reason; an exception that no longer lets anything pass is a
//! finding too.

mod ambient;
mod arrows;
mod commands;
mod docs;
mod exceptions;
mod floor_plan;
mod ground;
mod limits;
mod manifest;
mod one_loop;
mod oracles;
mod source;
mod tree;
mod unfinished;

use crate::workspace;
use tree::Tree;

/// One breach of one rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    path: String,
    /// Counted from 1; 0 for a finding about a whole file or a missing one.
    line: usize,
    rule: &'static str,
    message: String,
}

/// A named check of the whole tree.
struct Rule {
    name: &'static str,
    check: fn(&Tree) -> Vec<(String, usize, String)>,
}

const RULES: [Rule; 10] = [
    Rule { name: "limits", check: limits::check },
    Rule { name: "floor_plan", check: floor_plan::check },
    Rule { name: "rooms", check: floor_plan::check_rooms },
    Rule { name: "oracles", check: oracles::check },
    Rule { name: "arrows", check: arrows::check },
    Rule { name: "unfinished", check: unfinished::check },
    Rule { name: "ambient", check: ambient::check },
    Rule { name: "one_loop", check: one_loop::check },
    Rule { name: "docs", check: docs::check },
    Rule { name: "ground", check: ground::check },
];

/// Prints every finding of the workspace as `file:line: rule: message`; exit code 1 if there is one.
pub fn run(args: &[String]) -> u8 {
    if let Some(argument) = args.first() {
        eprintln!("xtask tidy takes no arguments, got `{argument}`");
        return crate::USAGE;
    }
    let tree = match Tree::read(&workspace::root()) {
        Ok(tree) => tree,
        Err(error) => {
            eprintln!("xtask tidy: cannot read the workspace: {error}");
            return 1;
        }
    };
    let findings = findings(&tree);
    for Finding { path, line, rule, message } in &findings {
        println!("{path}:{line}: {rule}: {message}");
    }
    println!("tidy: {} files, {} rules, {} findings", tree.files.len(), RULES.len(), findings.len());
    u8::from(!findings.is_empty())
}

/// Findings of all rules, in the order of paths and lines, after exceptions.
fn findings(tree: &Tree) -> Vec<Finding> {
    let all = RULES.iter().flat_map(|rule| {
        (rule.check)(tree).into_iter().map(|(path, line, message)| Finding { path, line, rule: rule.name, message })
    });
    let mut left = exceptions::apply(all.collect(), &exceptions::EXCEPTIONS);
    left.sort();
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_of_all_rules_come_together_in_order() {
        let tree = Tree::of(&[
            ("jest-data/src/b.rs", "fn f() { todo!() }\n"),
            ("jest-data/src/a.rs", "\nfn f() { std::env::args(); }\n"),
        ]);
        let found = findings(&tree);
        let in_sources: Vec<_> =
            found.iter().filter(|f| f.path.starts_with("jest-data/src")).map(|f| (f.line, f.rule)).collect();
        assert_eq!(in_sources, [(2, "ambient"), (1, "unfinished")]);
    }
}

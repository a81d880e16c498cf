//! Tests of the rule `docs`, on planted documents.

use super::*;

/// Lines of the findings in a document at `path`.
fn lines_at(path: &str, text: &str) -> Vec<usize> {
    let cli = "#[derive(Subcommand)] enum Verb { Train }";
    let tree = Tree::of(&[
        (path, text),
        ("docs/guide.md", ""),
        ("configs/a.toml", ""),
        (
            "jest-kernels/src/ops/gelu/mod.rs",
            "fn f() {}\n#[cfg(test)]\nmod tests {\n  /// A; b.\n  #[test]\n  fn holds() {}\n  fn helps() {}\n}",
        ),
        ("jest-train/src/cli.rs", cli),
        ("jest-train/tests/resume.rs", ""),
        ("Cargo.toml", ""),
    ]);
    check(&tree).into_iter().map(|(_, line, _)| line).collect()
}

fn lines(text: &str) -> Vec<usize> {
    lines_at("README.md", text)
}

#[test]
fn paths_and_links_that_exist_pass() {
    for text in [
        "see `docs/guide.md`, `configs/a.toml:3`, `configs/*.toml` and `jest-kernels/src/ops/<op>/`",
        "`jest-kernels/src/{ops,ops/gelu}/` and `runs/quickstart/report.html`, `google/siglip`, `mod.rs`",
        "```sh\njest train --train-data docs/guide.md::configs/a.toml\n```",
        "[guide](docs/guide.md#top) [top](#top) [out](https://a.org/docs/none.md)",
        "```sh\njest train --config configs/a.toml --out runs/x\n```",
        "```rust\nlet a = \"docs/none.md\";\n```",
        "an odd ` backtick docs/none.md",
        "prose `a` names docs/none.md `b`",
    ] {
        assert_eq!(lines(text), [0; 0], "{text}");
    }
}

#[test]
fn paths_and_links_that_lead_nowhere_are_found() {
    for text in [
        "\nsee `docs/none.md`",
        "\n`NOTES.md`",
        "\n`jest-kernels/src/ops/gelu/{mod,cpu}.rs`",
        "\n[guide](guide.md)",
        "\n[out](../docs/guide.md)",
        "\n`configs/b*.toml`",
        "\n    cat docs/none.md",
    ] {
        assert_eq!(lines(text), [2], "{text}");
    }
    assert_eq!(lines("```\ncat docs/none.md\n```\n"), [2]);
    assert_eq!(lines_at("docs/other.md", "[a](guide.md) [b](../configs/a.toml) [c](../guide.md)"), [1]);
}

#[test]
fn commands_in_documents_and_configs_are_checked() {
    assert_eq!(lines("`cargo xtask tidy` and\n`cargo xtask tydi`"), [2]);
    assert_eq!(lines("```sh\n$ cargo run --release \\\n  --bin jets -- train\n```"), [3]);
    assert_eq!(
        lines_at("configs/b.toml", "# command: cargo xtask trian\n# cargo is a program\na = 1 # cargo xtask trian\n"),
        [1, 2]
    );
}

#[test]
fn invariants_name_tests_that_exist() {
    for held in ["`tidy: arrows`", "`holds`", "`jest_kernels::ops::gelu::holds`", "`resume`", "the types"] {
        assert_eq!(lines(&format!("1. True. Held by {held}.")), [0; 0], "{held}");
    }
    for planted in ["`tidy: arrow`", "`falls`", "`helps`", "`jest_train::nothing`"] {
        assert_eq!(lines(&format!("1. True. Held by `holds`, {planted}.")), [1], "{planted}");
    }
}

#[test]
fn history_may_name_what_is_gone() {
    assert_eq!(lines_at("CHANGELOG.md", "removed `docs/none.md`"), [0; 0]);
}

//! The files of the workspace, as rules see them.

use std::fs;
use std::io;
use std::path::Path;

use super::source::Source;

/// One file: its path from the root with `/`, its text, and for Rust and WGSL the text split into code and prose.
pub struct File {
    pub path: String,
    pub text: String,
    pub source: Option<Source>,
}

impl File {
    fn new(path: String, text: String) -> Self {
        let source = (path.ends_with(".rs") || path.ends_with(".wgsl")).then(|| Source::of(&text));
        Self { path, text, source }
    }

    /// Whether the file is a test, a benchmark or an example as a whole; unit tests may stand in `tests.rs` or
    /// `*_tests.rs`.
    pub fn is_test(&self) -> bool {
        let folder = |name: &str| self.path.split('/').rev().skip(1).any(|part| part == name);
        folder("tests")
            || folder("benches")
            || folder("examples")
            || self.path.ends_with("/tests.rs")
            || self.path.ends_with("_tests.rs")
    }

    /// Lines of code (comments and the contents of strings blanked) outside unit tests, counted from 1.
    pub fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let all = self.source.iter().flat_map(|source| source.code.lines().zip(&source.in_test).enumerate());
        all.filter(|(_, (_, in_test))| !**in_test).map(|(index, (line, _))| (index + 1, line))
    }

    /// Lines with tests included: code, prose.
    pub fn code_and_prose(&self) -> impl Iterator<Item = (usize, &str, &str)> {
        let all = self.source.iter().flat_map(|source| source.code.lines().zip(source.prose.lines()).enumerate());
        all.map(|(index, (code, prose))| (index + 1, code, prose))
    }
}

/// All files that belong to the repository.
pub struct Tree {
    pub files: Vec<File>,
}

impl Tree {
    /// Reads everything below `root` but `.git` and what the root's `.gitignore` names.
    pub fn read(root: &Path) -> io::Result<Self> {
        let ignored = fs::read_to_string(root.join(".gitignore")).unwrap_or_default();
        let mut ignored: Vec<&str> =
            ignored.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
        ignored.push(".git");
        let mut files = Vec::new();
        walk(root, "", &ignored, &mut files)?;
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Self { files })
    }

    /// A tree planted by a test.
    #[cfg(test)]
    pub fn of(files: &[(&str, &str)]) -> Self {
        Self { files: files.iter().map(|(path, text)| File::new((*path).to_string(), (*text).to_string())).collect() }
    }

    /// The file at exactly this path.
    pub fn file(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|file| file.path == path)
    }

    /// Whether a file or a folder has this path; `""` is the root.
    pub fn exists(&self, path: &str) -> bool {
        let path = path.trim_end_matches('/');
        let below =
            |file: &File| file.path.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        path.is_empty() || self.files.iter().any(below)
    }

    /// Files whose path ends so.
    pub fn ending<'a>(&'a self, end: &'a str) -> impl Iterator<Item = &'a File> {
        self.files.iter().filter(move |file| file.path.ends_with(end))
    }
}

/// Whether a line of `.gitignore` names this path: `/top` at the root, a bare `name` anywhere, `*.end` by its end.
fn is_ignored(path: &str, name: &str, ignored: &[&str]) -> bool {
    ignored.iter().any(|pattern| {
        let pattern = pattern.trim_end_matches('/');
        match (pattern.strip_prefix('/'), pattern.strip_prefix('*')) {
            (Some(top), _) => path == top,
            (_, Some(end)) => name.ends_with(end),
            _ => name == pattern,
        }
    })
}

fn walk(root: &Path, folder: &str, ignored: &[&str], files: &mut Vec<File>) -> io::Result<()> {
    for entry in fs::read_dir(root.join(folder))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
        if is_ignored(&path, &name, ignored) {
            continue;
        }
        let kind = entry.file_type()?;
        if kind.is_dir() {
            walk(root, &path, ignored, files)?;
        } else {
            // Links, pictures and tensors are part of the tree by name only.
            let bytes = if kind.is_file() { fs::read(entry.path())? } else { Vec::new() };
            files.push(File::new(path, String::from_utf8(bytes).unwrap_or_default()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_exist_through_their_files() {
        let tree = Tree::of(&[("docs/guide/a.md", "")]);
        for (path, exists) in
            [("docs", true), ("docs/guide/", true), ("docs/guide/a.md", true), ("doc", false), ("docs/guide/a", false)]
        {
            assert_eq!(tree.exists(path), exists, "{path}");
        }
    }

    #[test]
    fn ignored_names_are_read_as_git_reads_them() {
        let ignored = ["/target", "__pycache__/", "*.pyc"];
        let cases = [
            ("target", true),
            ("docs/target", false),
            ("scripts/data/__pycache__", true),
            ("scripts/a.pyc", true),
            ("a.py", false),
        ];
        for (path, expected) in cases {
            let name = path.rsplit('/').next().unwrap();
            assert_eq!(is_ignored(path, name, &ignored), expected, "{path}");
        }
    }

    #[test]
    fn tests_are_known_by_their_place() {
        let cases =
            [("a/tests/b.rs", true), ("a/benches/b.rs", true), ("a/src/b/tests.rs", true), ("a/src/b_tests.rs", true)];
        for (path, expected) in
            cases.into_iter().chain([("a/src/b.rs", false), ("a/src/testing.rs", false), ("a/src/contests.rs", false)])
        {
            assert_eq!(Tree::of(&[(path, "")]).files[0].is_test(), expected, "{path}");
        }
    }

    #[test]
    fn unit_tests_are_not_part_of_the_code() {
        let tree = Tree::of(&[("a.rs", "fn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() {}\n}\nfn c() {}\n")]);
        let lines: Vec<usize> = tree.files[0].code().map(|(line, _)| line).collect();
        assert_eq!(lines, [1, 6]);
    }
}

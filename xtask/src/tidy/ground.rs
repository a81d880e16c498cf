//! The repository stands on its own ground: no path of the machine it was written on, none that leaves the checkout.

use super::tree::{File, Tree};

/// First folders of absolute paths under which checkouts and home folders lie.
const CHECKOUTS: [&str; 6] = ["home", "root", "Users", "mnt", "work", "workspace"];

/// Rule `ground`: text outside licences names no absolute path below such a folder, and every path with `..` finds
/// something in the repository, from its file's folder, its package or the root.
pub fn check(tree: &Tree) -> Vec<(String, usize, String)> {
    let mut found = Vec::new();
    for file in tree.files.iter().filter(|file| !file.path.starts_with("LICENSE")) {
        let literal =
            |line: usize| file.source.as_ref().is_none_or(|source| !source.in_test.get(line).copied().unwrap_or(false));
        for (index, line) in file.text.lines().enumerate().filter(|(index, _)| literal(*index)) {
            for path in paths(line) {
                if let Some(message) = fault(tree, file, path) {
                    found.push((file.path.clone(), index + 1, message));
                }
            }
        }
    }
    found
}

/// Stretches of a line that could be paths.
fn paths(line: &str) -> impl Iterator<Item = &str> {
    // A closing bracket belongs to a path that goes on from a variable, `{folder}/home/x`: not absolute.
    let is_path = |c: char| c.is_alphanumeric() || matches!(c, '/' | '.' | '_' | '-' | '}' | '>');
    line.split(move |c| !is_path(c)).filter(|word| word.contains('/'))
}

fn fault(tree: &Tree, file: &File, path: &str) -> Option<String> {
    if let Some((first, below)) = path.strip_prefix('/').and_then(|rest| rest.split_once('/')) {
        let named = CHECKOUTS.contains(&first) && below.starts_with(|c: char| c.is_alphanumeric());
        return named.then(|| format!("`{path}` is a path of one machine"));
    }
    if !path.starts_with("../") || file.is_test() {
        return None;
    }
    let folder = file.path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let package = file.path.split_once('/').map_or("", |(package, _)| package);
    let inside = [folder, package, ""].iter().any(|base| resolve(base, path).is_some_and(|path| tree.exists(&path)));
    (!inside).then(|| format!("`{path}` finds nothing in the repository"))
}

/// The path from the root; `None` if it leaves the repository.
pub fn resolve(base: &str, path: &str) -> Option<String> {
    let mut parts: Vec<&str> = base.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> usize {
        check(&Tree::of(&[("fixtures/a.bin", ""), ("jest-data/src/b.rs", text), ("jest-data/src/c.rs", "")])).len()
    }

    #[test]
    fn paths_of_one_machine_are_found() {
        for planted in ["\"/home/ann/data\"", "// see /workspace/notes", "`/root/x`", "(/mnt/a/b)"] {
            assert_eq!(found(planted), 1, "{planted}");
        }
        for fine in [
            "/usr/share/vulkan",
            "GFLOP/s, a/home/b",
            "https://a.org/home/b",
            "</data>",
            "/data/",
            "a //home/x",
            "{dir}/root/a",
        ] {
            assert_eq!(found(fine), 0, "{fine}");
        }
    }

    #[test]
    fn paths_that_leave_the_repository_are_found() {
        for planted in ["\"../../../elsewhere/a\"", "\"../elsewhere\""] {
            assert_eq!(found(planted), 1, "{planted}");
        }
        for fine in [
            "include!(\"../../fixtures/a.bin\")",
            "concat!(root, \"/../fixtures/a.bin\")",
            "\"../fixtures\"",
            "..=5/2",
            "../..",
        ] {
            assert_eq!(found(fine), 0, "{fine}");
        }
    }

    #[test]
    fn paths_resolve_inside_the_repository() {
        for (base, path, expected) in [("a/b", "../c", Some("a/c")), ("", "../c", None), ("a", "./b//c", Some("a/b/c"))]
        {
            assert_eq!(resolve(base, path).as_deref(), expected, "{base} {path}");
        }
    }
}

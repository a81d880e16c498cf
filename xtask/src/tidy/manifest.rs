//! The few lines of a `Cargo.toml` that rules need.

use super::tree::Tree;

/// One entry of a dependency table.
#[derive(Debug, PartialEq, Eq)]
pub struct Dependency {
    /// The package, where a key renames it.
    pub package: String,
    pub line: usize,
}

/// Manifests of the workspace's packages: folder and text.
pub fn packages(tree: &Tree) -> impl Iterator<Item = (&str, &str)> {
    tree.files
        .iter()
        .filter_map(|file| file.path.strip_suffix("/Cargo.toml").map(|folder| (folder, file.text.as_str())))
}

/// All dependencies, of every kind and target.
pub fn dependencies(manifest: &str) -> Vec<Dependency> {
    let mut section = String::new();
    let mut found = Vec::new();
    for (index, line) in manifest.lines().enumerate() {
        let line = line.split(" #").next().unwrap_or("").trim();
        if let Some(header) = line.strip_prefix('[') {
            section = header.trim_matches(['[', ']']).to_string();
            // `[dependencies.name]` is an entry by itself.
            if let Some((table, name)) = section.rsplit_once('.').filter(|(table, _)| is_table(table)) {
                found.push(Dependency { package: unquoted(name), line: index + 1 });
                section = format!("{table} {name}");
            }
        } else if is_table(&section) && !line.starts_with('#') && line.contains('=') {
            let key = line.split(['=', '.', ' ']).next().unwrap_or("");
            found.push(Dependency { package: renamed(line).unwrap_or_else(|| unquoted(key)), line: index + 1 });
        }
    }
    found
}

/// Names of the `[[bin]]` targets.
pub fn binaries(manifest: &str) -> Vec<&str> {
    let tables = manifest.split("[[bin]]").skip(1);
    tables.filter_map(|table| table.split("\n[").next()?.split_once("name")?.1.split('"').nth(1)).collect()
}

fn is_table(section: &str) -> bool {
    let last = section.rsplit('.').next().unwrap_or("");
    matches!(last, "dependencies" | "dev-dependencies" | "build-dependencies")
}

fn renamed(line: &str) -> Option<String> {
    let (_, value) = line.split_once("package")?;
    value.trim_start().strip_prefix('=')?.split('"').nth(1).map(String::from)
}

fn unquoted(name: &str) -> String {
    name.trim().trim_matches('"').to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_of_every_kind_are_read() {
        let manifest = "[package]\nname = \"a\"\n[dependencies]\nb.workspace = true\nc = { version = \"1\", package = \"real\" } # why\n\
                        # d = \"1\"\n[dependencies.e]\nversion = \"1\"\n[dev-dependencies]\nf = \"1\"\n\
                        [target.'cfg(unix)'.dependencies]\n\"g\" = \"1\"\n[lints]\nworkspace = true\n";
        let found: Vec<(String, usize)> = dependencies(manifest).into_iter().map(|d| (d.package, d.line)).collect();
        let expected =
            [("b", 4), ("real", 5), ("e", 7), ("f", 10), ("g", 12)].map(|(name, line)| (name.to_string(), line));
        assert_eq!(found, expected);
    }

    #[test]
    fn binaries_are_read() {
        assert_eq!(
            binaries(
                "[package]\nname = \"a\"\n[[bin]]\nname = \"jest\"\npath = \"x\"\n[[bin]]\npath = \"y\"\nname = \"b\"\n"
            ),
            ["jest", "b"]
        );
    }
}

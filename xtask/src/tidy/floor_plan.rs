//! Where things live: the top level, and the rooms of the operations.

use std::collections::BTreeSet;

use super::tree::{File, Tree};

/// What the root must hold.
const REQUIRED: [&str; 15] = [
    "jest-kernels",
    "jest-model",
    "jest-select",
    "jest-data",
    "jest-train",
    "xtask",
    "Cargo.toml",
    "Cargo.lock",
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "LICENSE-MIT",
    "LICENSE-APACHE",
    ".ci",
];

/// What the root may hold besides.
const ALLOWED: [&str; 11] = [
    "configs",
    "fixtures",
    "assets",
    "docs",
    "benches",
    "scripts",
    ".cargo",
    ".gitignore",
    ".github",
    "rustfmt.toml",
    "clippy.toml",
];

/// Lists every kernel variant that can run.
const CATALOG: &str = "jest-kernels/src/catalog.rs";
/// The folder whose folders are operations.
const OPS: &str = "jest-kernels/src/ops/";
/// Files of every operation besides its shader.
const ROOM: [&str; 3] = ["mod.rs", "cpu.rs", "oracle.rs"];

/// Rule `floor_plan`: nothing required is missing at the top level, and nothing else is there.
pub fn check(tree: &Tree) -> Vec<(String, usize, String)> {
    let present: BTreeSet<&str> = tree.files.iter().filter_map(|file| file.path.split('/').next()).collect();
    let missing = REQUIRED.iter().filter(|name| !present.contains(*name));
    let extra = present.iter().filter(|name| !REQUIRED.contains(name) && !ALLOWED.contains(name));
    let missing = missing.map(|name| ((*name).to_string(), 0, "missing at the top level".to_string()));
    missing
        .chain(extra.map(|name| {
            ((*name).to_string(), 0, "has no place at the top level; move it into a folder of the plan".to_string())
        }))
        .collect()
}

/// Rule `rooms`: every operation has its API, its native form, its oracle and a shader named after it (parts may have
/// other names) and is in the catalogue; every shader on disk is compiled in.
pub fn check_rooms(tree: &Tree) -> Vec<(String, usize, String)> {
    let in_rooms = || tree.files.iter().filter_map(|file| file.path.strip_prefix(OPS)?.split_once('/'));
    let rooms: BTreeSet<&str> = in_rooms().map(|(room, _)| room).collect();
    if rooms.is_empty() {
        return vec![(OPS.to_string(), 0, "holds no operation".to_string())];
    }
    let mut found = Vec::new();
    for op in rooms {
        let folder = format!("{OPS}{op}/");
        let files: Vec<&str> = in_rooms().filter(|(room, _)| *room == op).map(|(_, name)| name).collect();
        let shaders = || files.iter().filter(|name| name.ends_with(".wgsl"));
        for name in ROOM.iter().filter(|name| !files.contains(*name)) {
            found.push((folder.clone(), 0, format!("operation `{op}` has no {name}")));
        }
        if !shaders().any(|name| name.starts_with(op)) {
            found.push((folder.clone(), 0, format!("operation `{op}` has no shader {op}*.wgsl")));
        }
        let listed = |catalog: &File| catalog.code().any(|(_, code)| code.contains(&format!("{op}::")));
        if shaders().next().is_some() && !tree.file(CATALOG).is_some_and(listed) {
            found.push((
                CATALOG.to_string(),
                0,
                format!("operation `{op}` is not in the catalogue, so nothing validates its kernels"),
            ));
        }
    }
    found.extend(unused_shaders(tree));
    found
}

/// Shaders that no `include_str!` of their crate names.
fn unused_shaders(tree: &Tree) -> Vec<(String, usize, String)> {
    let included = |name: &str| {
        let ends = [format!("\"{name}\")"), format!("/{name}\")")];
        tree.ending(".rs").any(|file| ends.iter().any(|end| file.text.contains(end)))
    };
    let shaders = tree.ending(".wgsl").filter(|file| file.path.starts_with("jest-kernels/src/"));
    let unused = shaders.filter(|file| !file.path.rsplit('/').next().is_some_and(included));
    unused.map(|file| (file.path.clone(), 0, "no `include_str!` names this shader".to_string())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole() -> Vec<(&'static str, &'static str)> {
        REQUIRED.iter().map(|name| (*name, "")).collect()
    }

    #[test]
    fn the_top_level_holds_the_plan_and_no_more() {
        assert_eq!(check(&Tree::of(&whole())), []);
        let mut planted = whole();
        planted.retain(|(name, _)| *name != "LICENSE-MIT");
        planted.extend([("notes.txt", ""), ("crates/a/Cargo.toml", ""), ("docs/a.md", "")]);
        let found: Vec<String> = check(&Tree::of(&planted)).into_iter().map(|(path, ..)| path).collect();
        assert_eq!(found, ["LICENSE-MIT", "crates", "notes.txt"]);
    }

    /// Messages of `check_rooms` for a complete room, less the file at `without`, plus `extra`.
    fn rooms(without: &str, extra: &[(&'static str, &'static str)]) -> Vec<String> {
        let mut files = vec![
            ("jest-kernels/src/catalog.rs", "fn all() { ops::gelu::variants() }"),
            (
                "jest-kernels/src/ops/gelu/mod.rs",
                "const A: &str = include_str!(\"gelu.wgsl\");\nconst B: &str = include_str!(\"../gelu/gelu_tanh.wgsl\");",
            ),
            ("jest-kernels/src/ops/gelu/cpu.rs", ""),
            ("jest-kernels/src/ops/gelu/oracle.rs", ""),
            ("jest-kernels/src/ops/gelu/gelu.wgsl", ""),
            ("jest-kernels/src/ops/gelu/gelu_tanh.wgsl", ""),
        ];
        files.retain(|(path, _)| !path.ends_with(without) || without.is_empty());
        files.extend(extra);
        check_rooms(&Tree::of(&files)).into_iter().map(|(.., message)| message).collect()
    }

    fn check_room(without: &str, extra: &[(&'static str, &'static str)], expected: &[&str]) {
        let found = rooms(without, extra);
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for (message, part) in found.iter().zip(expected) {
            assert!(message.contains(part), "{message} has no {part}");
        }
    }

    #[test]
    fn an_operation_has_its_four_files() {
        check_room("", &[], &[]);
        check_room("/gelu.wgsl", &[], &[]);
        check_room("/cpu.rs", &[], &["no cpu.rs"]);
        check_room("/oracle.rs", &[], &["no oracle.rs"]);
        check_room(".wgsl", &[], &["no shader gelu*.wgsl"]);
        assert_eq!(check_rooms(&Tree::of(&[])).len(), 1);
    }

    #[test]
    fn every_shader_is_listed_and_used() {
        check_room("", &[("jest-kernels/src/ops/gelu/tanh.wgsl", "")], &["include_str"]);
        check_room("", &[("jest-kernels/src/wgsl/reduce.wgsl", "")], &["include_str"]);
        check_room("/catalog.rs", &[], &["not in the catalogue"]);
    }
}

//! Who may depend on whom.

use super::manifest::{Dependency, dependencies};
use super::tree::Tree;

/// Every package and those of ours that it may depend on, for any purpose.
const ARROWS: [(&str, &[&str]); 6] = [
    ("jest-kernels", &[]),
    ("jest-model", &["jest-kernels"]),
    ("jest-select", &[]),
    ("jest-data", &[]),
    ("jest-train", &["jest-kernels", "jest-model", "jest-select", "jest-data"]),
    ("xtask", &[]),
];

/// The one package that sees the graphics library.
const WGPU_OWNER: &str = "jest-kernels";
/// The package that builds where nothing has been built yet.
const BARE: &str = "xtask";

/// Rule `arrows`: dependencies between our packages, wgpu in one manifest, xtask without any.
pub fn check(tree: &Tree) -> Vec<(String, usize, String)> {
    let mut found = Vec::new();
    for (package, allowed) in ARROWS {
        let path = format!("{package}/Cargo.toml");
        let Some(manifest) = tree.file(&path) else {
            found.push((path, 0, "missing manifest".to_string()));
            continue;
        };
        let entries = dependencies(&manifest.text);
        for Dependency { package: name, line } in &entries {
            let ours = ARROWS.iter().any(|(ours, _)| ours == name);
            let reason = match () {
                () if package == BARE => "it uses the standard library alone",
                () if ours && !allowed.contains(&name.as_str()) => "the arrow points the other way, or nowhere",
                () if is_wgpu(name) && package != WGPU_OWNER => "only jest-kernels sees wgpu",
                () => continue,
            };
            found.push((path.clone(), *line, format!("{package} may not depend on {name}: {reason}")));
        }
        if package == WGPU_OWNER && !entries.iter().any(|entry| entry.package == "wgpu") {
            found.push((path, 0, "jest-kernels does not name wgpu; has it moved?".to_string()));
        }
    }
    found
}

fn is_wgpu(name: &str) -> bool {
    name == "wgpu" || name.starts_with("wgpu-")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Findings when `extra` is added to the manifest of `package` and everything else is in order.
    fn found(package: &str, extra: &str) -> usize {
        let text = |name: &str| {
            let own = if name == WGPU_OWNER { "[dependencies]\nwgpu.workspace = true\n" } else { "[dependencies]\n" };
            format!("{own}{}\n", if name == package { extra } else { "" })
        };
        let files: Vec<(String, String)> =
            ARROWS.iter().map(|(name, _)| (format!("{name}/Cargo.toml"), text(name))).collect();
        check(&Tree::of(&files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect::<Vec<_>>())).len()
    }

    #[test]
    fn arrows_point_one_way() {
        assert_eq!(found("jest-train", "jest-model.workspace = true\njest-data.workspace = true"), 0);
        assert_eq!(found("jest-model", "jest-kernels.workspace = true"), 0);
        for (package, name) in [
            ("jest-kernels", "jest-model"),
            ("jest-select", "jest-kernels"),
            ("jest-data", "jest-select"),
            ("jest-model", "jest-train"),
        ] {
            assert_eq!(found(package, &format!("{name}.workspace = true")), 1, "{package} on {name}");
            assert_eq!(
                found(package, &format!("[dev-dependencies]\n{name}.workspace = true")),
                1,
                "{package} tests on {name}"
            );
        }
    }

    #[test]
    fn one_manifest_names_wgpu() {
        assert_eq!(found("jest-train", "wgpu.workspace = true"), 1);
        assert_eq!(found("jest-select", "gpu = { package = \"wgpu-core\", version = \"30\" }"), 1);
        assert_eq!(check(&Tree::of(&[("jest-kernels/Cargo.toml", "[dependencies]\n")])).len(), 6);
    }

    #[test]
    fn the_task_runner_depends_on_nothing() {
        assert_eq!(found("xtask", "serde = \"1\""), 1);
    }
}

//! One training loop.

use super::tree::{File, Tree};

/// The file with the loop.
const LOOP: &str = "jest-train/src/run_loop.rs";
/// What a loop draws from, and words of which one stands where it changes parameters.
const DRAW: &str = "next_super_batch";
const UPDATE: [&str; 2] = ["Optimizer", "optimizer"];

/// Rule `one_loop`: the loop's file is there once the crate has more than its root and binary, and no other file
/// outside tests both draws super-batches and names the optimiser.
pub fn check(tree: &Tree) -> Vec<(String, usize, String)> {
    let in_crate = |file: &&File| {
        file.path.starts_with("jest-train/src/") && !file.path.contains("/bin/") && !file.path.ends_with("/lib.rs")
    };
    let mut found = Vec::new();
    if tree.file(LOOP).is_none() && tree.ending(".rs").any(|file| in_crate(&file)) {
        found.push((LOOP.to_string(), 0, "missing: the training loop lives here".to_string()));
    }
    for file in
        tree.ending(".rs").filter(|file| file.path != LOOP && !file.is_test() && !file.path.starts_with("xtask/"))
    {
        let first = |words: &[&str]| {
            file.code().find(|(_, code)| words.iter().any(|word| code.contains(word))).map(|(line, _)| line)
        };
        if let (Some(draw), Some(_)) = (first(&[DRAW]), first(&UPDATE)) {
            found.push((
                file.path.clone(),
                draw,
                format!("draws super-batches and names the optimizer; the one loop is {LOOP}"),
            ));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &str = "fn f() {\n  let batch = loader.next_super_batch();\n  self.optimizer.update(&grads);\n}\n";

    #[test]
    fn a_second_loop_is_found() {
        let tree = Tree::of(&[(LOOP, BODY), ("jest-train/src/tune.rs", BODY), ("jest-train/tests/a.rs", BODY)]);
        let found: Vec<_> = check(&tree).into_iter().map(|(path, line, _)| (path, line)).collect();
        assert_eq!(found, [("jest-train/src/tune.rs".to_string(), 2)]);
    }

    #[test]
    fn the_loop_has_its_file() {
        assert_eq!(check(&Tree::of(&[("jest-train/src/lib.rs", "")])), []);
        assert_eq!(check(&Tree::of(&[("jest-train/src/step.rs", "")])).len(), 1);
        assert_eq!(check(&Tree::of(&[("jest-train/src/step.rs", ""), (LOOP, BODY)])), []);
    }
}

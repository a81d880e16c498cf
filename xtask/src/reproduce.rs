//! `cargo xtask reproduce NAME [ARGS]`: the binary's `reproduce`, release build, in the workspace root.

use crate::workspace;

/// Becomes `cargo run --release -p jest-train --bin jest -- reproduce ARGS`.
pub fn run(args: &[String]) -> u8 {
    workspace::replace(&mut workspace::cargo(&command_line(args)))
}

fn command_line(args: &[String]) -> Vec<String> {
    let fixed = "run --release -p jest-train --bin jest -- reproduce".split(' ').map(String::from);
    fixed.chain(args.iter().cloned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_go_to_the_binary() {
        let args = ["fig3", "--budget", "2h"].map(String::from);
        assert_eq!(
            command_line(&args).join(" "),
            "run --release -p jest-train --bin jest -- reproduce fig3 --budget 2h"
        );
    }
}

//! The `jest` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    jest_train::main(std::env::args_os())
}

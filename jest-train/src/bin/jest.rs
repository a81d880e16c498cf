//! The `jest` command.

fn main() {}

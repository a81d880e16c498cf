//! Lines for whoever reads, if someone does: `jest ... | head` ends neither a run nor a listing with a panic.

use std::fmt::Arguments;
use std::io::{ErrorKind, Write, stderr, stdout};

/// Prints a line on standard output.
macro_rules! say {
    ($($text:tt)*) => { $crate::say::out(format_args!($($text)*)) };
}

/// Prints a line on standard error.
macro_rules! tell {
    ($($text:tt)*) => { $crate::say::err(format_args!($($text)*)) };
}

pub(crate) use {say, tell};

pub(crate) fn out(line: Arguments<'_>) {
    match writeln!(stdout(), "{line}") {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => tell!("warning: standard output: {error}"),
        _ => (),
    }
}

pub(crate) fn err(line: Arguments<'_>) {
    // Where standard error cannot be written, nobody is left to be told.
    writeln!(stderr(), "{line}").ok();
}

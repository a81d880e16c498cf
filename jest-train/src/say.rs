//! Lines for whoever reads, if someone does: `jest ... | head` ends neither a run nor a listing with a panic.

use std::fmt::Arguments;
use std::io::{ErrorKind, Write, stderr, stdout};
use std::sync::atomic::{AtomicBool, Ordering};

/// Prints a line on standard output.
macro_rules! say {
    ($($text:tt)*) => { $crate::say::out(format_args!($($text)*)) };
}

/// Prints a line on standard error.
macro_rules! tell {
    ($($text:tt)*) => { $crate::say::err(format_args!($($text)*)) };
}

pub(crate) use {say, tell};

/// A line of standard output was lost though somebody reads it.
static LOST: AtomicBool = AtomicBool::new(false);

pub(crate) fn out(line: Arguments<'_>) {
    let Err(error) = writeln!(stdout(), "{line}") else { return };
    if error.kind() != ErrorKind::BrokenPipe && !LOST.swap(true, Ordering::Relaxed) {
        tell!("error: standard output cannot be written: {error}");
    }
}

pub(crate) fn err(line: Arguments<'_>) {
    // Where standard error cannot be written, nobody is left to be told.
    writeln!(stderr(), "{line}").ok();
}

/// Whether a line of standard output was lost, as on a full disk.
pub(crate) fn lost() -> bool {
    LOST.load(Ordering::Relaxed)
}

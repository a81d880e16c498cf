//! The `jest` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Mesa's layer that orders devices for desktops asks for a display and complains on machines without one; devices
    // are ordered here anyway.
    if std::env::var_os("NODEVICE_SELECT").is_none() {
        // SAFETY: no other thread runs yet.
        unsafe { std::env::set_var("NODEVICE_SELECT", "1") };
    }
    jest_train::main(std::env::args_os())
}

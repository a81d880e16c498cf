//! Where the workspace is and how its commands are run.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

/// Exit code when a command could not be started at all, as in a shell.
const NOT_STARTED: u8 = 127;

/// The workspace root: the folder above this package.
pub fn root() -> PathBuf {
    let package =
        env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    package.parent().map_or_else(|| package.clone(), Path::to_path_buf)
}

/// Where cargo puts what it builds.
pub fn target_dir() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |dir| root().join(dir))
}

/// The cargo that runs this program, with arguments, in the workspace root.
pub fn cargo<S: AsRef<str>>(args: &[S]) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args.iter().map(AsRef::as_ref)).current_dir(root());
    command
}

/// Runs a command, with its output as it comes, and returns its exit code.
pub fn status(command: &mut Command) -> u8 {
    match command.status() {
        Ok(status) => exit_code(status),
        Err(error) => not_started(command, &error),
    }
}

/// Becomes the command, so that signals reach it directly (a run that saves before it stops must receive them).
#[cfg(unix)]
pub fn replace(command: &mut Command) -> u8 {
    use std::os::unix::process::CommandExt;
    let error = command.exec();
    not_started(command, &error)
}

/// Runs the command and returns its exit code; only Unix can replace a process.
#[cfg(not(unix))]
pub fn replace(command: &mut Command) -> u8 {
    status(command)
}

fn not_started(command: &Command, error: &std::io::Error) -> u8 {
    eprintln!("xtask: cannot start {}: {error}", command.get_program().to_string_lossy());
    NOT_STARTED
}

/// The code of a status; 128 + signal for a process that a signal ended, as in a shell.
fn exit_code(status: ExitStatus) -> u8 {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        return u8::try_from(128 + signal).unwrap_or(u8::MAX);
    }
    status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_holds_the_workspace_manifest() {
        let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
        assert!(manifest.contains("[workspace]"));
    }

    #[cfg(unix)]
    #[test]
    fn exit_codes_and_signals_pass_through() {
        for (script, code) in [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137)] {
            assert_eq!(status(Command::new("sh").args(["-c", script])), code, "{script}");
        }
        assert_eq!(status(&mut Command::new("no-such-program-here")), NOT_STARTED);
    }
}

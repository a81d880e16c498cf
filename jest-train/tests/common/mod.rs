//! The `jest` binary at work in a folder of its own: configurations, shards, processes, records.
// Each test file uses some of it, and helpers fail as tests do.
#![allow(dead_code, clippy::unwrap_used)]

pub mod shards;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// A file or folder of the data that is shipped with the repository.
pub fn sample(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets/sample").join(path)
}

/// A model that takes no time.
const TINY: &str =
    "preset = 'mu'\nimage_size = 16\nwidth = 16\ndepth = 1\nnum_heads = 2\nmlp_dim = 32\ntext_tokens = 8\n";

/// A reference, a learner that selects by it, and one that does not.
pub const THREE_RUNS: &str = "
[[run]]
name = 'reference'
data.train = 'curated=DATA/curated'
[[run]]
name = 'jest'
reference = 'reference'
selection.super_batch = 32
selection.chunks = 4
[[run]]
name = 'uniform'
";

/// What a process printed and how it ended.
#[derive(Debug)]
pub struct Ran {
    /// Exit code; none after a signal.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Ran {
    fn of(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let ran = Self { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) };
        assert!(!ran.err.contains("panicked"), "{}", ran.err);
        ran
    }

    /// It ended well.
    pub fn well(self) -> Self {
        assert_eq!(self.code, Some(0), "{}\n{}", self.out, self.err);
        self
    }

    /// It ended with this code, and its last line says these things.
    pub fn refused(self, code: i32, says: &[&str]) -> Self {
        let last = self.err.lines().last().unwrap_or_default().to_owned();
        assert_eq!(self.code, Some(code), "{}", self.err);
        assert!(last.starts_with("error: "), "{}", self.err);
        says.iter().for_each(|part| assert!(last.contains(part), "`{part}` is not in: {last}"));
        self
    }

    /// Standard error says these things.
    pub fn tells(self, says: &[&str]) -> Self {
        says.iter().for_each(|part| assert!(self.err.contains(part), "`{part}` is not in: {}", self.err));
        self
    }
}

/// Runs it to its end with nobody at the other end of what it prints.
pub fn unread(command: &mut Command) -> ExitStatus {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    command.stderr(writer.try_clone().unwrap()).stdout(writer).status().unwrap()
}

/// Runs `jest` with these arguments to its end.
pub fn jest<S: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = S>) -> Ran {
    Ran::of(Command::new(env!("CARGO_BIN_EXE_jest")).args(args).output().unwrap())
}

/// A folder with shards, a configuration and run folders.
pub struct Place(TempDir);

impl Place {
    /// Shards `pool` of 100 examples and `curated` of 24, and a configuration that ends with `runs`, in which `DATA`
    /// is the folder.
    pub fn new(runs: &str) -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        for (name, first, n) in [("pool/0.tar", 0, 50), ("pool/1.tar", 50, 50), ("curated/0.tar", 100, 24)] {
            shards::write(&place.path(name), &shards::good(first..first + n));
        }
        place.configure("", runs);
        place
    }

    /// Writes the configuration anew, with `keys` at its top.
    pub fn configure(&self, keys: &str, runs: &str) {
        let tokenizer = sample("tokenizer.json");
        let shared = format!(
            "device = 'cpu'\nthreads = 2\nbatch_size = 8\nsteps = 6\ntext.tokenizer = '{}'\ndata.train = 'pool=DATA/pool'\n\
             checkpoint.every = 1\naugmentation = {{ scale = [0.5, 1.0], flip = 0.5 }}\n{keys}\n[model]\n{TINY}\n{runs}",
            tokenizer.display()
        );
        fs::write(self.path("config.toml"), shared.replace("DATA", &self.path("").display().to_string())).unwrap();
    }

    /// A path in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The command that [`train`](Self::train) runs.
    pub fn command(&self, out: &str, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_jest"));
        let (config, out) = (self.path("config.toml"), self.path(out));
        command.arg("train").arg("--config").arg(config).arg("--out").arg(out).args(args);
        command
    }

    /// `jest train` with the configuration, in the run folder `out`.
    pub fn train(&self, out: &str, args: &[&str]) -> Ran {
        Ran::of(self.command(out, args).output().unwrap())
    }

    /// As [`train`](Self::train), where a file may have this many bytes and no more, as if the disk were full.
    #[cfg(unix)]
    pub fn train_on_small_disk(&self, out: &str, bytes: usize, args: &[&str]) -> Ran {
        let inner = self.command(out, args);
        // The signal ignored, a write over the limit is refused like one to a full disk. POSIX counts blocks of 512.
        let script = format!("trap '' XFSZ; ulimit -f {}; exec \"$@\"", bytes.div_ceil(512));
        let mut shell = Command::new("sh");
        shell.args(["-c", &script, "sh"]).arg(inner.get_program()).args(inner.get_args());
        Ran::of(shell.output().unwrap())
    }

    /// Starts `jest train` and leaves it running.
    pub fn start(&self, out: &str, args: &[&str]) -> Running {
        let mut command = self.command(out, args);
        Running(Some(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()))
    }

    /// A file of a run folder.
    pub fn read(&self, out: &str, name: &str) -> String {
        fs::read_to_string(self.path(out).join(name)).unwrap_or_default()
    }

    /// The record of a run folder.
    pub fn metrics(&self, out: &str) -> String {
        self.read(out, "metrics.jsonl")
    }

    /// `summary.json` without what depends on the clock, the memory and the threads.
    pub fn timeless_summary(&self, out: &str) -> Value {
        let mut summary: Value = serde_json::from_str(&self.read(out, "summary.json")).unwrap();
        summary["threads"].take();
        for run in summary["runs"].as_array_mut().unwrap() {
            run["seconds"].take();
            run["peak_rss_mb"].take();
        }
        summary
    }

    /// Files of the newest checkpoint of a run that depend on no clock.
    pub fn weights(&self, out: &str, run: &str) -> Vec<Vec<u8>> {
        let folder = self.newest(out, run);
        ["model.safetensors", "optimizer.safetensors", "config.json", "tokenizer.json"]
            .map(|name| fs::read(folder.join(name)).unwrap())
            .to_vec()
    }

    /// Names in the checkpoint folder of a run, sorted.
    pub fn checkpoints(&self, out: &str, run: &str) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.path(out).join("checkpoints").join(run)) else { return Vec::new() };
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// The newest checkpoint of a run.
    pub fn newest(&self, out: &str, run: &str) -> PathBuf {
        let name = self.checkpoints(out, run).pop().unwrap();
        self.path(out).join("checkpoints").join(run).join(name)
    }
}

/// A process under way; killed where a test fails.
pub struct Running(Option<Child>);

impl Running {
    /// Looks until `seen` holds or the process has ended; whether it was seen first.
    pub fn wait_until(&mut self, mut seen: impl FnMut() -> bool) -> bool {
        loop {
            if seen() {
                return true;
            }
            if self.0.as_mut().unwrap().try_wait().unwrap().is_some() {
                return false;
            }
            std::thread::yield_now();
        }
    }

    /// SIGKILL; whether that ended it.
    pub fn kill(mut self) -> bool {
        let mut child = self.0.take().unwrap();
        child.kill().ok();
        child.wait().unwrap().code().is_none()
    }

    /// SIGTERM, then waits for the end.
    #[cfg(unix)]
    pub fn terminate(mut self) -> Ran {
        let child = self.0.take().unwrap();
        let kill = format!("kill -TERM {}", child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
        Ran::of(child.wait_with_output().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

/// Flips a bit in the middle of a file.
pub fn damage(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
}

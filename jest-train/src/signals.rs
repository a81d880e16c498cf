//! Signals set a flag that the loop reads between steps.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::Result;

/// Set once by SIGINT, SIGTERM or SIGUSR1: finish the step, save, stop. Clones share one flag.
#[derive(Debug, Clone, Default)]
pub struct StopFlag(Arc<AtomicBool>);

impl StopFlag {
    /// A flag that no signal sets.
    pub fn manual() -> Self {
        Self::default()
    }

    /// Sets the flag at the first signal; a second one ends the process at once with code 128 + its number.
    ///
    /// Call it once a process. Where SIGUSR1 does not exist, it listens to the other two.
    ///
    /// # Errors
    /// `Signals`, where the system refuses a handler.
    pub fn install() -> Result<Self> {
        use signal_hook::consts::{SIGINT, SIGTERM};
        let stop = Self::default();
        stop.listen(SIGINT)?;
        stop.listen(SIGTERM)?;
        #[cfg(unix)]
        stop.listen(signal_hook::consts::SIGUSR1)?;
        Ok(stop)
    }

    /// The order matters: the handler that exits reads the flag before the handler that sets it has run.
    fn listen(&self, signal: i32) -> Result<()> {
        let refused = |source| crate::TrainError::Signals { signal, source };
        signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&self.0)).map_err(refused)?;
        signal_hook::flag::register(signal, Arc::clone(&self.0)).map_err(refused)?;
        Ok(())
    }

    /// Whether to stop after this step.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Asks the loop to stop after this step.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_share_the_flag() {
        let flag = StopFlag::manual();
        let other = flag.clone();
        assert!(!flag.is_set());
        other.set();
        assert!(flag.is_set());
    }

    #[cfg(unix)]
    #[test]
    fn a_first_signal_only_sets_the_flag() {
        let flag = StopFlag::install().unwrap();
        signal_hook::low_level::raise(signal_hook::consts::SIGUSR1).unwrap();
        assert!(flag.is_set());
    }

    /// Plays the process that is told to stop twice, when the test below starts this binary anew.
    #[cfg(unix)]
    #[test]
    fn told_to_stop_twice() {
        if std::env::var_os("JEST_TOLD_TO_STOP_TWICE").is_some() {
            let flag = StopFlag::install().unwrap();
            signal_hook::low_level::raise(signal_hook::consts::SIGTERM).unwrap();
            assert!(flag.is_set());
            signal_hook::low_level::raise(signal_hook::consts::SIGTERM).unwrap();
            panic!("the second signal ends the process");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_second_signal_ends_the_process_at_once() {
        let status = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "signals::tests::told_to_stop_twice"])
            .env("JEST_TOLD_TO_STOP_TWICE", "1")
            .output()
            .unwrap()
            .status;
        assert_eq!(status.code(), Some(128 + signal_hook::consts::SIGTERM));
    }
}

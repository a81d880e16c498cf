//! Where events go: files in the run folder, the terminal, several of them at once.

mod json_lines;
mod profile_files;
mod summary_file;
mod tensorboard;
mod terminal;

pub use json_lines::{JsonLines, METRICS, TIMING};
pub use profile_files::{PROFILES, ProfileFiles};
pub use summary_file::{SUMMARY, SummaryFile};
pub use tensorboard::TensorBoard;
pub use terminal::Terminal;

use crate::error::Result;
use crate::events::{Event, Events};

/// Hands every event to each of its sinks, in their order; a sink that fails keeps it from those behind.
#[derive(Default)]
pub struct Fanout(Vec<Box<dyn Events>>);

impl Fanout {
    /// The sinks, first to last.
    pub fn new(sinks: Vec<Box<dyn Events>>) -> Self {
        Self(sinks)
    }
}

impl Events for Fanout {
    fn emit(&mut self, event: &Event) -> Result<()> {
        self.0.iter_mut().try_for_each(|sink| sink.emit(event))
    }
}

/// Keeps events, for tests and for callers that read them afterwards.
#[derive(Debug, Default)]
pub struct Collect(pub Vec<Event>);

impl Events for Collect {
    fn emit(&mut self, event: &Event) -> Result<()> {
        self.0.push(event.clone());
        Ok(())
    }
}

impl<E: Events + ?Sized> Events for std::rc::Rc<std::cell::RefCell<E>> {
    /// A shared sink, so that its owner can read it while a [`Fanout`] writes it.
    fn emit(&mut self, event: &Event) -> Result<()> {
        self.borrow_mut().emit(event)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::*;
    use crate::events::samples;

    #[test]
    fn every_sink_hears_every_event() {
        let (one, two) = (Rc::new(RefCell::new(Collect::default())), Rc::new(RefCell::new(Collect::default())));
        let mut all = Fanout::new(vec![Box::new(Rc::clone(&one)), Box::new(Rc::clone(&two))]);
        all.emit(&Event::Step(samples::step("jest", 1, 0.1))).unwrap();
        all.emit(&Event::Step(samples::step("jest", 2, 0.1))).unwrap();
        assert_eq!(one.borrow().0.len(), 2);
        assert_eq!(one.borrow().0, two.borrow().0);
    }
}

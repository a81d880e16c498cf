//! Reads one object: a thread fetches ahead, and begins again where the last connection ended.

use super::RemoteOptions;
use super::stores::Located;
use crossbeam_channel::{Receiver, Sender, bounded};
use futures_util::StreamExt;
use object_store::{Error, GetOptions, GetRange, ObjectStore};
use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};

/// Pieces that wait to be read, at most; a piece is what one read of the connection gives, some KiB.
const AHEAD: usize = 256;
/// Larger pieces are cut, so that what waits is bounded.
const PIECE: usize = 64 << 10;
const LONGEST_WAIT: Duration = Duration::from_secs(10);

type Piece = io::Result<Vec<u8>>;

/// The bytes of an object, in order.
pub(super) struct Fetched {
    pieces: Receiver<Piece>,
    current: Vec<u8>,
    read: usize,
    failed: bool,
}

/// Begins to fetch, and waits for the first bytes.
///
/// # Errors
/// `NotFound` if there is no such object; the last failure if no attempt gave a byte.
pub(super) fn start(located: Located, url: &str, options: &Arc<RemoteOptions>) -> io::Result<Fetched> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let (send, pieces) = bounded(AHEAD);
    let fetcher =
        Fetcher { located, url: url.to_string(), options: options.clone(), runtime, send, position: 0, size: None };
    std::thread::Builder::new().name("jest-data fetch".to_string()).spawn(move || fetcher.run())?;
    let mut fetched = Fetched { pieces, current: Vec::new(), read: 0, failed: false };
    fetched.refill()?;
    Ok(fetched)
}

impl Fetched {
    fn refill(&mut self) -> io::Result<()> {
        match self.pieces.recv() {
            Ok(Ok(piece)) => (self.current, self.read) = (piece, 0),
            Ok(Err(e)) => {
                self.failed = true;
                return Err(e);
            }
            // The thread has sent all there is.
            Err(_) => (self.current, self.read) = (Vec::new(), 0),
        }
        Ok(())
    }

    /// Whether reading ended for another reason than the end.
    pub fn failed(&self) -> bool {
        self.failed
    }
}

impl Read for Fetched {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.read == self.current.len() {
            self.refill()?;
        }
        let n = out.len().min(self.current.len() - self.read);
        out[..n].copy_from_slice(&self.current[self.read..self.read + n]);
        self.read += n;
        Ok(n)
    }
}

/// Why an attempt ended.
enum Ended {
    /// All bytes are sent.
    Whole,
    /// Nobody reads any more.
    Dropped,
    /// It may go better next time.
    Failed(io::Error),
    /// It will not.
    Refused(io::Error),
}

struct Fetcher {
    located: Located,
    url: String,
    options: Arc<RemoteOptions>,
    runtime: Runtime,
    send: Sender<Piece>,
    position: u64,
    size: Option<u64>,
}

impl Fetcher {
    fn run(mut self) {
        let (mut failures, mut wait) = (0, self.options.backoff);
        loop {
            let before = self.position;
            let error = match self.attempt() {
                Ended::Whole | Ended::Dropped => return,
                Ended::Failed(error) if self.position > before => {
                    (failures, wait) = (1, self.options.backoff);
                    error
                }
                Ended::Failed(error) => {
                    failures += 1;
                    error
                }
                Ended::Refused(error) => return self.give_up(error),
            };
            if failures > self.options.retries {
                let text = format!("given up at byte {} after {failures} attempts: {error}", self.position);
                return self.give_up(io::Error::new(error.kind(), text));
            }
            std::thread::sleep(wait);
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    fn give_up(&self, error: io::Error) {
        // Where nobody reads any more, nobody needs to know.
        self.send.send(Err(error)).ok();
    }

    /// One connection, from where the last one ended.
    fn attempt(&mut self) -> Ended {
        if self.size == Some(self.position) {
            return Ended::Whole;
        }
        let range = (self.position > 0).then_some(GetRange::Offset(self.position));
        let options = GetOptions { range, ..GetOptions::default() };
        let stall = self.options.stall;
        let stalled = || io::Error::new(io::ErrorKind::TimedOut, format!("no byte for {} ms", stall.as_millis()));
        let (store, path) = (self.located.store.clone(), self.located.path.clone());
        let asked = async { tokio::time::timeout(stall, store.get_opts(&path, options)).await };
        let answer = match self.runtime.block_on(asked) {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return self.refusal(error),
            Err(_) => return Ended::Failed(stalled()),
        };
        self.size = Some(answer.meta.size);
        let mut stream = answer.into_stream();
        loop {
            let next = async { tokio::time::timeout(stall, stream.next()).await };
            match self.runtime.block_on(next) {
                Ok(Some(Ok(bytes))) => {
                    for piece in bytes.chunks(PIECE) {
                        self.position += piece.len() as u64;
                        if self.send.send(Ok(piece.to_vec())).is_err() {
                            return Ended::Dropped;
                        }
                    }
                }
                Ok(Some(Err(error))) => return Ended::Failed(io::Error::other(root(&error))),
                Ok(None) if self.size == Some(self.position) => return Ended::Whole,
                Ok(None) => return Ended::Failed(io::Error::other("the connection ended early")),
                Err(_) => return Ended::Failed(stalled()),
            }
        }
    }

    fn refusal(&self, error: Error) -> Ended {
        let text = root(&error);
        match error {
            Error::NotFound { .. } => {
                Ended::Refused(io::Error::new(io::ErrorKind::NotFound, format!("{} is not there", self.url)))
            }
            Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => {
                Ended::Refused(io::Error::new(io::ErrorKind::PermissionDenied, text))
            }
            Error::NotSupported { .. } => Ended::Refused(io::Error::new(io::ErrorKind::Unsupported, text)),
            _ => Ended::Failed(io::Error::other(text)),
        }
    }
}

/// The words of the innermost cause, which say what happened.
fn root(error: &Error) -> String {
    let mut inner: &dyn std::error::Error = error;
    while let Some(cause) = inner.source() {
        inner = cause;
    }
    inner.to_string()
}

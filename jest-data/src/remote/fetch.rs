//! Reads one object: a thread fetches ahead, and begins again where the last connection ended.

use super::RemoteOptions;
use super::stores::{self, Located};
use bytes::{Buf, Bytes};
use crossbeam_channel::{Receiver, Sender, bounded};
use futures_util::{Stream, StreamExt};
use object_store::{Error, GetOptions, GetRange, ObjectMeta, ObjectStore};
use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};

/// Pieces that wait to be read, at most.
const AHEAD: usize = 128;
/// Larger pieces are cut, without copying them, so that what waits is bounded.
const PIECE: usize = 64 << 10;
const LONGEST_WAIT: Duration = Duration::from_secs(10);

type Piece = io::Result<Bytes>;

/// The bytes of an object, in order.
pub(super) struct Fetched {
    pieces: Receiver<Piece>,
    current: Bytes,
    failed: bool,
    /// Whether the thread has said that it sent all there is.
    ended: bool,
}

/// Begins to fetch, and waits for nothing.
pub(super) fn start(url: &str, options: &Arc<RemoteOptions>) -> io::Result<Fetched> {
    let (send, pieces) = bounded(AHEAD);
    let (url, options) = (url.to_string(), options.clone());
    let body = move || {
        let outcome = Fetcher::new(&url, options, &send).and_then(|mut fetcher| fetcher.run());
        let last = match outcome {
            Ok(()) => Ok(Bytes::new()),
            Err(error) => Err(io::Error::new(error.kind(), format!("{url}: {error}"))),
        };
        // Where nobody reads any more, nobody needs to know.
        send.send(last).ok();
    };
    std::thread::Builder::new().name("jest-data fetch".to_string()).spawn(body)?;
    Ok(Fetched { pieces, current: Bytes::new(), failed: false, ended: false })
}

impl Fetched {
    /// Waits for the first bytes.
    ///
    /// # Errors
    /// `NotFound` if there is no such object; the last failure if no attempt gave a byte.
    pub fn first(&mut self) -> io::Result<()> {
        self.refill()
    }

    fn refill(&mut self) -> io::Result<()> {
        if self.ended || self.failed {
            return Ok(());
        }
        match self.pieces.recv() {
            Ok(Ok(piece)) => {
                self.ended = piece.is_empty();
                self.current = piece;
                Ok(())
            }
            Ok(Err(error)) => {
                self.failed = true;
                Err(error)
            }
            Err(_) => {
                self.failed = true;
                Err(io::Error::other("the thread that fetches is gone"))
            }
        }
    }

    /// Whether reading ended for another reason than the end.
    pub fn failed(&self) -> bool {
        self.failed
    }
}

impl Read for Fetched {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.current.is_empty() {
            self.refill()?;
        }
        let n = out.len().min(self.current.len());
        out[..n].copy_from_slice(&self.current.split_to(n));
        Ok(n)
    }
}

/// Why an attempt ended.
enum Ended {
    /// All bytes are sent, or nobody reads any more.
    Done,
    /// It may go better next time.
    Failed(io::Error),
    /// It will not.
    Refused(io::Error),
}

struct Fetcher<'a> {
    located: Located,
    options: Arc<RemoteOptions>,
    runtime: Runtime,
    send: &'a Sender<Piece>,
    /// Bytes sent.
    position: u64,
    /// Size and version of the object, as the first answer said.
    object: Option<(u64, Option<String>)>,
    /// Whether the server can begin in the middle, as far as is known.
    ranges: bool,
}

impl<'a> Fetcher<'a> {
    fn new(url: &str, options: Arc<RemoteOptions>, send: &'a Sender<Piece>) -> io::Result<Fetcher<'a>> {
        let located = stores::open(url, &options.settings).map_err(|error| io::Error::other(root(&error)))?;
        let runtime = Builder::new_current_thread().enable_all().build()?;
        Ok(Fetcher { located, options, runtime, send, position: 0, object: None, ranges: true })
    }

    fn run(&mut self) -> io::Result<()> {
        let (mut failures, mut wait) = (0, self.options.backoff);
        loop {
            let before = self.position;
            let error = match self.attempt() {
                Ended::Done => return Ok(()),
                Ended::Refused(error) => return Err(error),
                Ended::Failed(error) => error,
            };
            if self.position - before >= self.options.least_bytes {
                (failures, wait) = (0, self.options.backoff);
            }
            failures += 1;
            if failures > self.options.retries {
                let text = format!("given up at byte {} after {failures} attempts: {error}", self.position);
                return Err(io::Error::new(error.kind(), text));
            }
            std::thread::sleep(wait);
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    /// One connection, from where the last one ended.
    fn attempt(&mut self) -> Ended {
        let range = (self.position > 0 && self.ranges).then_some(GetRange::Offset(self.position));
        // Of a server that begins anew, what has arrived before is left out.
        let mut known = if range.is_some() { 0 } else { self.position };
        let (stall, least) = (self.options.stall, self.options.least_bytes);
        let options = GetOptions { range, ..GetOptions::default() };
        let (store, path) = (self.located.store.clone(), self.located.path.clone());
        let asked = async { tokio::time::timeout(stall, store.get_opts(&path, options)).await };
        let answer = match self.runtime.block_on(asked) {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return self.refusal(&error),
            Err(_) => return Ended::Failed(stalled(stall, "no answer")),
        };
        let size = answer.meta.size;
        if let Err(error) = self.recognise(&answer.meta) {
            return Ended::Refused(error);
        }
        let mut stream = answer.into_stream();
        loop {
            let mut pieces = Vec::new();
            let some = async { tokio::time::timeout(stall, gather(&mut stream, least, &mut pieces)).await };
            let more = self.runtime.block_on(some);
            for mut bytes in pieces {
                let skip = usize::try_from(known).unwrap_or(usize::MAX).min(bytes.len());
                known -= skip as u64;
                bytes.advance(skip);
                while !bytes.is_empty() {
                    let piece = bytes.split_to(bytes.len().min(PIECE));
                    self.position += piece.len() as u64;
                    if self.send.send(Ok(piece)).is_err() {
                        return Ended::Done;
                    }
                }
            }
            match more {
                Ok(Ok(true)) => {}
                Ok(Ok(false)) if self.position == size => return Ended::Done,
                Ok(Ok(false)) => return Ended::Failed(io::Error::other("the connection ended early")),
                Ok(Err(_)) if self.position == size => return Ended::Done,
                Ok(Err(error)) => return Ended::Failed(io::Error::other(root(&error))),
                Err(_) => return Ended::Failed(stalled(stall, &format!("less than {least} bytes"))),
            }
        }
    }

    /// Refuses to go on with another object than the one that was begun.
    fn recognise(&mut self, now: &ObjectMeta) -> io::Result<()> {
        let Some((size, tag)) = &self.object else {
            self.object = Some((now.size, now.e_tag.clone()));
            return Ok(());
        };
        let other = tag.is_some() && now.e_tag.is_some() && *tag != now.e_tag;
        if *size == now.size && !other {
            return Ok(());
        }
        let text = format!("changed on the server while it was read: {size} bytes before, now {}", now.size);
        Err(io::Error::other(format!("{text}; byte {} and all behind it are left out", self.position)))
    }

    fn refusal(&mut self, error: &Error) -> Ended {
        let text = root(error);
        match error {
            Error::NotFound { .. } => Ended::Refused(io::Error::new(io::ErrorKind::NotFound, "is not there")),
            Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => {
                Ended::Refused(io::Error::new(io::ErrorKind::PermissionDenied, text))
            }
            Error::NotSupported { .. } if self.position > 0 && self.ranges => {
                self.ranges = false;
                Ended::Failed(io::Error::other(text))
            }
            Error::NotSupported { .. } => Ended::Refused(io::Error::new(io::ErrorKind::Unsupported, text)),
            _ => Ended::Failed(io::Error::other(text)),
        }
    }
}

/// Takes pieces until they are `least` bytes; whether there may be more.
async fn gather(
    stream: &mut (impl Stream<Item = Result<Bytes, Error>> + Unpin),
    least: u64,
    pieces: &mut Vec<Bytes>,
) -> Result<bool, Error> {
    let mut bytes = 0;
    while bytes < least {
        let Some(piece) = stream.next().await.transpose()? else { return Ok(false) };
        bytes += piece.len() as u64;
        pieces.push(piece);
    }
    Ok(true)
}

fn stalled(stall: Duration, what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("{what} in {} ms", stall.as_millis()))
}

/// The words of the innermost cause, which say what happened.
fn root(error: &Error) -> String {
    let mut inner: &dyn std::error::Error = error;
    while let Some(cause) = inner.source() {
        inner = cause;
    }
    inner.to_string()
}

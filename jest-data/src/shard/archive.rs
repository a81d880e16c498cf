//! Members of a tar stream, with every size checked before memory is taken for it.
//!
//! Headers are parsed by the `tar` crate; the walk from header to header is ours, because damage must be reported with its byte
//! offset and because a long-name record must obey a limit too.

use super::Broken;
use crate::SkipReason;
use std::io::{ErrorKind, Read};
use tar::{EntryType, Header};

const BLOCK: usize = 512;
/// Largest long-name or PAX record.
const MAX_RECORD: u64 = 64 << 10;
/// Padding behind the end mark that is read; tar writes up to 10 KiB.
const TAIL: u64 = 64 << 10;
/// A member larger than this many times the limit is not even skipped: the shard is abandoned.
const SKIP_FACTOR: u64 = 16;

/// A regular file of the archive, its content not yet read.
#[derive(Debug)]
pub(super) struct Member {
    pub name: String,
    pub size: u64,
    /// Byte offset of its header in the (decompressed) archive.
    pub offset: u64,
}

/// Walks over the members; each content is read, or skipped by the next call of `next_member`.
pub(super) struct Archive<R> {
    input: R,
    position: u64,
    /// Content and padding of the current member not read yet.
    pending: u64,
    member_bytes: u64,
    ended: bool,
}

impl<R: Read> Archive<R> {
    pub fn new(input: R, member_bytes: u64) -> Archive<R> {
        Archive { input, position: 0, pending: 0, member_bytes, ended: false }
    }

    /// The next regular file; none at the end mark. After an error the archive has ended.
    pub fn next_member(&mut self) -> Result<Option<Member>, Broken> {
        if self.ended {
            return Ok(None);
        }
        let member = self.walk();
        self.ended = !matches!(member, Ok(Some(_)));
        member
    }

    fn walk(&mut self) -> Result<Option<Member>, Broken> {
        let (mut long_name, mut long_size) = (None, None);
        loop {
            self.skip_pending()?;
            let offset = self.position;
            let mut block = [0u8; BLOCK];
            match self.fill(&mut block)? {
                0 => {
                    let broken = Broken::new(SkipReason::TarTruncated, format!("no end mark at byte {offset}"));
                    return Err(Broken { between_members: true, ..broken });
                }
                BLOCK => {}
                _ => return Err(self.truncated()),
            }
            if block.iter().all(|b| *b == 0) {
                self.drain();
                return Ok(None);
            }
            let header = Header::from_byte_slice(&block);
            let sum = checksum(&block);
            let sizes = header.cksum().ok().filter(|stated| *stated == sum).and_then(|_| header.entry_size().ok());
            let Some(size) = sizes else { return Err(damaged(offset, "header checksum or size")) };
            let kind = header.entry_type();
            if kind.is_gnu_longname() || kind == EntryType::XHeader {
                let record = self.record(size, offset)?;
                if kind.is_gnu_longname() {
                    let end = record.iter().position(|b| *b == 0).unwrap_or(record.len());
                    long_name = Some(String::from_utf8_lossy(&record[..end]).into_owned());
                } else {
                    let pax = pax_fields(&record).ok_or_else(|| damaged(offset, "PAX record"))?;
                    long_name = pax.path.or(long_name);
                    long_size = pax.size.or(long_size);
                }
                continue;
            }
            let size = long_size.take().unwrap_or(size);
            self.begin(size, offset)?;
            let name = long_name.take().unwrap_or_else(|| String::from_utf8_lossy(&header.path_bytes()).into_owned());
            if kind.is_file() && !name.ends_with('/') {
                return Ok(Some(Member { name, size, offset }));
            }
        }
    }

    /// Reads the padding behind the end mark, so that who hands on a shard sees that it was read whole.
    fn drain(&mut self) {
        std::io::copy(&mut self.input.by_ref().take(TAIL), &mut std::io::sink()).ok();
    }

    /// Leaves the content of the current member out by other means than reading.
    pub fn leave_out(&mut self, skip: impl FnOnce(&mut R, u64) -> std::io::Result<()>) -> Result<(), Broken> {
        let bytes = std::mem::take(&mut self.pending);
        self.position += bytes;
        skip(&mut self.input, bytes).map_err(|e| self.failed(&e))
    }

    /// The first `size` bytes of the current member, which the caller has found few enough.
    pub fn content(&mut self, size: u64) -> Result<Vec<u8>, Broken> {
        let mut bytes = vec![0; size as usize];
        if self.fill(&mut bytes)? < bytes.len() {
            self.ended = true;
            return Err(self.truncated());
        }
        self.pending = self.pending.saturating_sub(size);
        Ok(bytes)
    }

    fn record(&mut self, size: u64, offset: u64) -> Result<Vec<u8>, Broken> {
        if size > MAX_RECORD {
            return Err(Broken::new(
                SkipReason::MemberTooLarge,
                format!("name record of {size} bytes at byte {offset}"),
            ));
        }
        self.begin(size, offset)?;
        self.content(size)
    }

    fn begin(&mut self, size: u64, offset: u64) -> Result<(), Broken> {
        if size > self.member_bytes.saturating_mul(SKIP_FACTOR) {
            let detail =
                format!("member of {size} bytes at byte {offset}, limit {}; shard abandoned", self.member_bytes);
            return Err(Broken::new(SkipReason::MemberTooLarge, detail));
        }
        self.pending = size.div_ceil(BLOCK as u64) * BLOCK as u64;
        Ok(())
    }

    fn skip_pending(&mut self) -> Result<(), Broken> {
        let mut scratch = [0u8; 16 << 10];
        while self.pending > 0 {
            let want = self.pending.min(scratch.len() as u64) as usize;
            if self.fill(&mut scratch[..want])? < want {
                return Err(self.truncated());
            }
            self.pending -= want as u64;
        }
        Ok(())
    }

    /// Fills `out` as far as the input reaches.
    fn fill(&mut self, out: &mut [u8]) -> Result<usize, Broken> {
        let mut done = 0;
        while done < out.len() {
            match self.input.read(&mut out[done..]) {
                Ok(0) => break,
                Ok(n) => (done, self.position) = (done + n, self.position + n as u64),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(self.failed(&e)),
            }
        }
        Ok(done)
    }

    fn failed(&mut self, error: &std::io::Error) -> Broken {
        self.ended = true;
        let reason = match error.kind() {
            ErrorKind::UnexpectedEof => SkipReason::TarTruncated,
            ErrorKind::InvalidInput | ErrorKind::InvalidData => SkipReason::GzDamaged,
            _ => SkipReason::ReadError,
        };
        Broken::new(reason, format!("{error} at byte {}", self.position))
    }

    fn truncated(&self) -> Broken {
        Broken::new(SkipReason::TarTruncated, format!("ends at byte {}", self.position))
    }
}

fn damaged(offset: u64, what: &str) -> Broken {
    Broken::new(SkipReason::TarDamaged, format!("bad {what} at byte {offset}"))
}

/// Sum of the header's bytes, its checksum field read as spaces.
fn checksum(block: &[u8; BLOCK]) -> u32 {
    block.iter().enumerate().map(|(i, b)| if (148..156).contains(&i) { 32 } else { u32::from(*b) }).sum()
}

#[derive(Default)]
struct Pax {
    path: Option<String>,
    size: Option<u64>,
}

/// `path` and `size` of a PAX record, lines of `LENGTH KEY=VALUE\n`; none if it is malformed.
fn pax_fields(mut record: &[u8]) -> Option<Pax> {
    let mut pax = Pax::default();
    while !record.is_empty() {
        let space = record.iter().position(|b| *b == b' ')?;
        let length: usize = std::str::from_utf8(&record[..space]).ok()?.parse().ok()?;
        let line = record.get(space + 1..length.checked_sub(1)?)?;
        let equals = line.iter().position(|b| *b == b'=')?;
        let value = String::from_utf8_lossy(&line[equals + 1..]);
        match &line[..equals] {
            b"path" => pax.path = Some(value.into_owned()),
            b"size" => pax.size = Some(value.parse().ok()?),
            _ => {}
        }
        record = record.get(length..)?;
    }
    Some(pax)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pax_lines() {
        let pax = pax_fields(b"18 path=some/x.png\n12 size=1234\n").map(|p| (p.path, p.size));
        assert!(pax.is_none(), "a wrong length is refused");
        let pax = pax_fields(b"19 path=some/x.png\n13 size=1234\n").unwrap();
        assert_eq!((pax.path.as_deref(), pax.size), (Some("some/x.png"), Some(1234)));
        assert!(pax_fields(b"0 =").is_none());
    }
}

//! Consecutive members with one key become one raw sample.

use super::archive::{Archive, Member};
use super::open::Skim;
use super::{Beside, Broken};
use crate::source::{ClassCaptions, TarShard};
use crate::{Limits, SkipReason};
use std::collections::{HashMap, VecDeque};
use std::io::Read;
use std::sync::Arc;

/// The members of one sample, undecoded; or the reason why there is none.
#[derive(Debug, Default)]
pub(crate) struct RawSample {
    pub key: String,
    /// How many earlier samples of the shard have the same key; of a table, the row.
    pub repeat: u32,
    pub image: Option<Vec<u8>>,
    /// Texts that say the same thing, each of which may be the caption.
    pub captions: Vec<Vec<u8>>,
    pub json: Option<Vec<u8>>,
    pub class: Option<Vec<u8>>,
    /// Files that are to be read first.
    pub beside: Option<Beside>,
    /// Set if a member was refused.
    pub refused: Option<Broken>,
}

impl RawSample {
    /// A sample of which only the key is known.
    pub fn of(key: impl Into<String>) -> RawSample {
        RawSample { key: key.into(), ..RawSample::default() }
    }
}

/// What a shard yields, in its order.
#[derive(Debug)]
pub(crate) enum Found {
    Sample(RawSample),
    /// Something about the shard or a key that is counted but is no sample.
    Note(Option<String>, Broken),
}

/// Reads the samples of one shard. Memory: one sample, and the hash of every key seen.
pub(crate) struct SampleReader<R> {
    archive: Archive<R>,
    limits: Limits,
    /// Whether every line of a text is a caption.
    lines: bool,
    classes: Option<Arc<ClassCaptions>>,
    open: Option<RawSample>,
    extensions: Vec<String>,
    seen: HashMap<[u8; 16], u32>,
    ready: VecDeque<Found>,
    ended: bool,
}

impl<R: Read> SampleReader<R> {
    pub fn new(input: R, limits: Limits, what: &TarShard) -> SampleReader<R> {
        let mut ready = VecDeque::new();
        if what.unfinished {
            let detail = "no `_stats.json` beside it: img2dataset has not finished it";
            ready.push_back(Found::Note(None, Broken::new(SkipReason::ShardUnfinished, detail)));
        }
        SampleReader {
            archive: Archive::new(input, limits.member_bytes),
            limits,
            lines: what.lines,
            classes: what.classes.clone(),
            open: None,
            extensions: Vec::new(),
            seen: HashMap::new(),
            ready,
            ended: false,
        }
    }

    fn step(&mut self) {
        match self.archive.next_member() {
            Ok(Some(member)) => {
                if let Err(broken) = self.take(&member) {
                    let key = self.open.take().map(|sample| sample.key);
                    self.abandon(key, broken);
                }
            }
            Ok(None) => self.end(),
            Err(broken) => {
                // Its other members may lie behind the damage, so a sample that has not both already goes with it.
                let whole = |open: &RawSample| open.image.is_some() && !open.captions.is_empty();
                if broken.between_members || self.open.as_ref().is_some_and(whole) {
                    self.close();
                }
                let key = self.open.take().map(|sample| sample.key);
                self.abandon(key, broken);
            }
        }
    }

    fn end(&mut self) {
        self.close();
        self.ended = true;
    }

    fn abandon(&mut self, key: Option<String>, broken: Broken) {
        self.ready.push_back(Found::Note(key, broken));
        self.ended = true;
    }

    fn take(&mut self, member: &Member) -> Result<(), Broken> {
        let Some((key, extension)) = split_key(&member.name) else { return Ok(()) };
        let same = self.open.as_ref().is_some_and(|open| open.key == key);
        if !same || self.extensions.contains(&extension) {
            self.close();
            self.begin(key);
        }
        let slot = Slot::of(&extension);
        self.extensions.push(extension);
        let Some(slot) = slot else { return Ok(()) };
        if member.size > self.limits.member_bytes {
            let detail = format!("`{}` of {} bytes at byte {}", member.name, member.size, member.offset);
            self.refuse(SkipReason::MemberTooLarge, detail);
            return Ok(());
        }
        // One byte over the limit shows that a caption is to be cut; the rest of it is never held.
        let most = if slot == Slot::Caption { self.limits.caption_bytes as u64 + 1 } else { u64::MAX };
        let bytes = self.archive.content(member.size.min(most))?;
        let Some(open) = self.open.as_mut() else { return Ok(()) };
        match slot {
            Slot::Image => open.image = open.image.take().or(Some(bytes)),
            Slot::Caption if self.lines => {
                let lines = bytes.split(|b| *b == b'\n').filter(|line| !line.trim_ascii().is_empty());
                open.captions = lines.map(<[u8]>::to_vec).collect();
            }
            Slot::Caption => open.captions = vec![bytes],
            Slot::Json => open.json = Some(bytes),
            Slot::Class => open.class = Some(bytes),
        }
        Ok(())
    }

    fn begin(&mut self, key: &str) {
        let times = self.seen.entry(key_hash(key)).or_default();
        let repeat = *times;
        *times += 1;
        if repeat > 0 {
            let detail = "the key occurs again; members of one sample must be adjacent, each extension once";
            self.ready.push_back(Found::Note(Some(key.to_string()), Broken::new(SkipReason::WdsOrder, detail)));
        }
        self.extensions.clear();
        self.open = Some(RawSample { repeat, ..RawSample::of(key) });
    }

    fn refuse(&mut self, reason: SkipReason, detail: String) {
        if let Some(open) = self.open.as_mut() {
            open.refused.get_or_insert(Broken::new(reason, detail));
        }
    }

    fn close(&mut self) {
        if let Some(mut sample) = self.open.take() {
            if let (true, Some(classes), Some(class)) = (sample.captions.is_empty(), &self.classes, &sample.class) {
                let class = std::str::from_utf8(class).ok().and_then(|class| class.trim().parse().ok());
                sample.captions = class.map(|class| classes.of(class)).unwrap_or_default();
            }
            self.ready.push_back(Found::Sample(sample));
        }
    }
}

impl<R: Read> Iterator for SampleReader<R> {
    type Item = Found;

    fn next(&mut self) -> Option<Found> {
        while self.ready.is_empty() && !self.ended {
            self.step();
        }
        self.ready.pop_front()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Slot {
    Image,
    Caption,
    Json,
    Class,
}

impl Slot {
    fn of(extension: &str) -> Option<Slot> {
        match extension {
            "jpg" | "jpeg" | "png" | "webp" => Some(Slot::Image),
            "txt" => Some(Slot::Caption),
            "json" => Some(Slot::Json),
            "cls" => Some(Slot::Class),
            _ => None,
        }
    }
}

/// Samples with a picture, from names alone, as far as the archive can be read.
pub(super) fn count_keys(input: Skim) -> u64 {
    let mut archive = Archive::new(input, u64::MAX / 32);
    let (mut count, mut open, mut extensions) = (0, String::new(), Vec::new());
    while let Ok(Some(member)) = archive.next_member() {
        if archive.leave_out(Skim::skip).is_err() {
            break;
        }
        let Some((key, extension)) = split_key(&member.name) else { continue };
        if open != key || extensions.contains(&extension) {
            open = key.to_string();
            extensions.clear();
        }
        let pictures = |known: &[String]| known.iter().any(|e| Slot::of(e) == Some(Slot::Image));
        if Slot::of(&extension) == Some(Slot::Image) && !pictures(&extensions) {
            count += 1;
        }
        extensions.push(extension);
    }
    count
}

/// Key and lower-case extension, split at the first dot of the last path part; none for names that are no part of a sample.
fn split_key(name: &str) -> Option<(&str, String)> {
    let meta = |part: &str| part.len() >= 4 && part.starts_with("__") && part.ends_with("__");
    if name.split('/').any(meta) {
        return None;
    }
    let last = name.rfind('/').map_or(0, |slash| slash + 1);
    let dot = last + name[last..].find('.')?;
    (dot > last).then(|| (&name[..dot], name[dot + 1..].to_ascii_lowercase()))
}

fn key_hash(key: &str) -> [u8; 16] {
    let mut short = [0; 16];
    short.copy_from_slice(&blake3::hash(key.as_bytes()).as_bytes()[..16]);
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys() {
        let check = |name, expected: Option<(&str, &str)>| {
            assert_eq!(split_key(name).as_ref().map(|(k, e)| (*k, e.as_str())), expected, "{name}");
        };
        check("a/b.seg.PNG", Some(("a/b", "seg.png")));
        check("x.y/b.jpg", Some(("x.y/b", "jpg")));
        check("../../etc/passwd.txt", Some(("../../etc/passwd", "txt")));
        check("no_dot", None);
        check("a/.hidden", None);
        check("__MACOSX__/a.jpg", None);
        check("a/__meta__", None);
        check("a.", Some(("a", "")));
    }
}

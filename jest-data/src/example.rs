//! One image-caption pair: its id, and the way from raw members to it.

use crate::shard::RawSample;
use crate::source::texts;
use crate::{CaptionChoice, Captions, Limits, Preprocess, Skip, SkipReason, Tokenizer, decode_rgb};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// 128 bits that name an example: a hash of source name, shard name and key, never of a path.
///
/// Written as 32 hexadecimal digits, also by serde.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExampleId([u8; 16]);

impl ExampleId {
    /// The id of the sample `key` in shard `shard` of source `source`; `repeat` counts earlier samples of the shard with that key.
    pub fn new(source: &str, shard: &str, key: &str, repeat: u32) -> ExampleId {
        let mut hash = blake3::Hasher::new();
        for part in [source, shard, key] {
            hash.update(&(part.len() as u64).to_le_bytes());
            hash.update(part.as_bytes());
        }
        if repeat > 0 {
            hash.update(&repeat.to_le_bytes());
        }
        let mut id = [0; 16];
        id.copy_from_slice(&hash.finalize().as_bytes()[..16]);
        ExampleId(id)
    }

    /// The id of the same sample with its caption number `index` in place of the first, which this is.
    pub(crate) fn of_caption(self, index: usize) -> ExampleId {
        if index == 0 { self } else { self.with(&(index as u64).to_le_bytes()) }
    }

    /// The id of the same sample with captions from elsewhere.
    fn with(self, what: &[u8]) -> ExampleId {
        let mut hash = blake3::Hasher::new();
        hash.update(&self.0).update(what);
        let mut id = [0; 16];
        id.copy_from_slice(&hash.finalize().as_bytes()[..16]);
        ExampleId(id)
    }

    /// The id with these bytes.
    pub fn from_bytes(bytes: [u8; 16]) -> ExampleId {
        ExampleId(bytes)
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for ExampleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ExampleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an example id is 32 hexadecimal digits")]
pub struct BadExampleId;

impl FromStr for ExampleId {
    type Err = BadExampleId;

    fn from_str(text: &str) -> Result<ExampleId, BadExampleId> {
        if text.len() != 32 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(BadExampleId);
        }
        u128::from_str_radix(text, 16).map(|id| ExampleId(id.to_be_bytes())).map_err(|_| BadExampleId)
    }
}

impl Serialize for ExampleId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ExampleId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ExampleId, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A decoded, resized, tokenised pair.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Example {
    pub id: ExampleId,
    /// Its id with the first of its captions.
    pub base: ExampleId,
    pub key: String,
    pub source: Arc<str>,
    pub caption: String,
    pub json: Option<String>,
    pub label: Option<u32>,
    pub rgb: Vec<u8>,
    pub tokens: Vec<u32>,
    pub length: u32,
    /// All its captions, where there are several and another may be drawn next time, or all are asked for.
    pub choices: Vec<String>,
}

impl Example {
    /// Bytes it takes in memory, about.
    pub fn cost(&self) -> u64 {
        let choices: usize = self.choices.iter().map(|text| text.len() + size_of::<String>()).sum();
        let text = self.key.len() + self.caption.len() + self.json.as_ref().map_or(0, String::len) + choices;
        (size_of::<Example>() + text + self.rgb.len() + 4 * self.tokens.len()) as u64
    }
}

/// What becomes of a raw sample.
pub(crate) type Outcome = Result<Example, Skip>;

/// What a sample must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Needs {
    Caption,
    /// A label below this; the caption may be absent.
    Label(u32),
}

/// Source and shard of a sample, by name.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub source: Arc<str>,
    pub shard: Arc<str>,
}

impl Place {
    pub fn skip(&self, reason: SkipReason, key: Option<String>, detail: impl Into<String>) -> Skip {
        Skip { reason, source: self.source.clone(), shard: self.shard.clone(), key, detail: detail.into() }
    }
}

impl RawSample {
    /// The id of the example that it becomes, with its first caption.
    pub fn id(&self, place: &Place) -> ExampleId {
        ExampleId::new(&place.source, &place.shard, &self.key, self.repeat)
    }
}

/// Everything that decides what a raw sample turns into.
#[derive(Clone)]
pub(crate) struct Recipe {
    pub preprocess: Preprocess,
    pub tokenizer: Arc<Tokenizer>,
    pub text_tokens: usize,
    pub limits: Limits,
    pub needs: Needs,
    pub captions: Captions,
    /// Whether all captions are kept, whichever is chosen.
    pub every: bool,
    pub seed: u64,
}

type Refusal = (SkipReason, String);

impl Recipe {
    /// The example that a sample is in this epoch, or why it is none.
    pub fn prepare(&self, place: &Place, raw: RawSample, epoch: u64) -> Outcome {
        let id = self.captions.json_keys.iter().fold(raw.id(place), |id, key| id.with(key.as_bytes()));
        let key = raw.key.clone();
        self.fill(id, place, raw, epoch).map_err(|(reason, detail)| place.skip(reason, Some(key), detail))
    }

    /// The same example with the caption of another epoch.
    pub fn redraw(&self, place: &Place, example: &Example, epoch: u64) -> Outcome {
        let repeat = |(reason, detail)| place.skip(reason, Some(example.key.clone()), detail);
        let index = self.drawn(example.base, example.choices.len(), epoch);
        let caption = example.choices[index].clone();
        let (tokens, length) = self.tokens(&caption).map_err(repeat)?;
        Ok(Example { id: example.base.of_caption(index), caption, tokens, length, ..example.clone() })
    }

    fn fill(&self, base: ExampleId, place: &Place, mut raw: RawSample, epoch: u64) -> Result<Example, Refusal> {
        raw.load(&self.limits);
        if let Some(broken) = raw.refused {
            return Err((broken.reason, broken.detail));
        }
        let image = raw.image.ok_or_else(|| (SkipReason::NoImage, String::new()))?;
        let json = raw.json.and_then(|json| String::from_utf8(json).ok());
        let mut choices = self.choices(raw.captions, json.as_deref())?;
        let label = label(raw.class.as_deref(), json.as_deref());
        if let Needs::Label(classes) = self.needs
            && label.is_none_or(|label| label >= classes)
        {
            return Err((SkipReason::BadLabel, format!("{label:?} of {classes} classes")));
        }
        let index = self.drawn(base, choices.len(), epoch);
        let kept = (self.every || self.captions.choice == CaptionChoice::Random) && choices.len() > 1;
        let caption = if kept { choices[index].clone() } else { choices.swap_remove(index) };
        if !kept {
            choices.clear();
        }
        let (tokens, length) = self.tokens(&caption)?;
        let rgb = self.preprocess.resize(&decode_rgb(&image, &self.limits)?);
        let (id, source) = (base.of_caption(index), place.source.clone());
        Ok(Example { id, base, key: raw.key, source, caption, json, label, rgb, tokens, length, choices })
    }

    fn tokens(&self, caption: &str) -> Result<(Vec<u32>, u32), Refusal> {
        let tokens = self.tokenizer.encode(caption, self.text_tokens);
        tokens.map(|tokens| (tokens.ids, tokens.length)).map_err(|e| (SkipReason::TokenizeError, e.to_string()))
    }

    /// Which of `n` captions an example has in this epoch: the first, or one drawn by (seed, epoch, id).
    fn drawn(&self, id: ExampleId, n: usize, epoch: u64) -> usize {
        if self.captions.choice == CaptionChoice::First || n < 2 {
            return 0;
        }
        let mut hash = blake3::Hasher::new();
        hash.update(b"caption").update(&self.seed.to_le_bytes()).update(&epoch.to_le_bytes()).update(id.as_bytes());
        let mut word = [0; 8];
        word.copy_from_slice(&hash.finalize().as_bytes()[..8]);
        ((u128::from(u64::from_le_bytes(word)) * n as u128) >> 64) as usize
    }

    /// The texts that may be the caption, one at least; those that cannot be used are left out where another can.
    fn choices(&self, captions: Vec<Vec<u8>>, json: Option<&str>) -> Result<Vec<String>, Refusal> {
        let (captions, detail) = match self.captions.json_keys.as_slice() {
            [] => (captions, String::new()),
            keys => (from_json(json, keys), format!("no text under `{}`", keys.join("`, `"))),
        };
        let first = self.captions.choice == CaptionChoice::First && !self.every;
        let (mut usable, mut refused) = (Vec::new(), None);
        for bytes in captions {
            match self.caption(&bytes) {
                Ok(caption) => usable.push(caption),
                Err(refusal) => refused = refused.or(Some(refusal)),
            }
            if first && !usable.is_empty() {
                break;
            }
        }
        match (usable.is_empty(), refused) {
            (false, _) => Ok(usable),
            (true, None) if self.needs == Needs::Caption => Err((SkipReason::NoCaption, detail)),
            (true, None) => Ok(vec![String::new()]),
            (true, Some(refusal)) => Err(refusal),
        }
    }

    /// The caption without byte order mark, NULs and outer white space, cut to the limit at a character.
    fn caption(&self, bytes: &[u8]) -> Result<String, Refusal> {
        let cut = &bytes[..bytes.len().min(self.limits.caption_bytes)];
        let text = match std::str::from_utf8(cut) {
            Ok(text) => text,
            Err(e) if e.error_len().is_none() && cut.len() < bytes.len() => {
                std::str::from_utf8(&cut[..e.valid_up_to()]).unwrap_or_default()
            }
            Err(e) => return Err((SkipReason::CaptionNotUtf8, format!("at byte {}", e.valid_up_to()))),
        };
        let caption = text.trim_start_matches('\u{feff}').replace('\0', " ").trim().to_string();
        if self.needs == Needs::Caption && self.tokenizer.is_blank(&caption) {
            return Err((SkipReason::EmptyCaption, format!("{caption:?}")));
        }
        Ok(caption)
    }
}

/// The texts under the first key that holds one, or a list of them.
fn from_json(json: Option<&str>, keys: &[String]) -> Vec<Vec<u8>> {
    let object = json.and_then(|json| serde_json::from_str::<serde_json::Value>(json).ok()).unwrap_or_default();
    keys.iter().find_map(|key| texts(object.get(key)?).filter(|texts| !texts.is_empty())).unwrap_or_default()
}

#[derive(Deserialize)]
struct Meta {
    label: Option<u32>,
}

/// The class index: the `cls` member, else `label` in the `json` member.
fn label(class: Option<&[u8]>, json: Option<&str>) -> Option<u32> {
    match class {
        Some(class) => std::str::from_utf8(class).ok()?.trim().parse().ok(),
        None => serde_json::from_str::<Meta>(json?).ok()?.label,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_stable_and_read_back() {
        let id = ExampleId::new("train", "00000.tar", "000000001", 0);
        assert_eq!(id.to_string().parse::<ExampleId>().unwrap(), id);
        assert_ne!(id, ExampleId::new("train", "00000.tar", "000000001", 1));
        assert_ne!(ExampleId::new("a", "bc", "", 0), ExampleId::new("ab", "c", "", 0));
        assert!("+123".repeat(8).parse::<ExampleId>().is_err());
    }

    #[test]
    fn labels() {
        assert_eq!(label(Some(b"7\n"), Some(r#"{"label":3}"#)), Some(7));
        assert_eq!(label(None, Some(r#"{"label":3,"x":[1]}"#)), Some(3));
        assert_eq!(label(None, Some("{}")), None);
        assert_eq!(label(None, Some("not json")), None);
    }
}

//! One image-caption pair: its id, and the way from raw members to it.

use crate::shard::RawSample;
use crate::{Limits, Preprocess, Skip, SkipReason, Tokenizer, decode_rgb};
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
    pub key: String,
    pub source: Arc<str>,
    pub caption: String,
    pub json: Option<String>,
    pub label: Option<u32>,
    pub rgb: Vec<u8>,
    pub tokens: Vec<u32>,
    pub length: u32,
}

impl Example {
    /// Bytes it takes in memory, about.
    pub fn cost(&self) -> u64 {
        let text = self.key.len() + self.caption.len() + self.json.as_ref().map_or(0, String::len);
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

/// Everything that decides what a raw sample turns into.
#[derive(Clone)]
pub(crate) struct Recipe {
    pub preprocess: Preprocess,
    pub tokenizer: Arc<Tokenizer>,
    pub text_tokens: usize,
    pub limits: Limits,
    pub needs: Needs,
}

type Refusal = (SkipReason, String);

impl Recipe {
    pub fn prepare(&self, place: &Place, raw: RawSample) -> Outcome {
        let id = ExampleId::new(&place.source, &place.shard, &raw.key, raw.repeat);
        let key = raw.key.clone();
        self.fill(id, place, raw).map_err(|(reason, detail)| place.skip(reason, Some(key), detail))
    }

    fn fill(&self, id: ExampleId, place: &Place, raw: RawSample) -> Result<Example, Refusal> {
        if let Some(broken) = raw.refused {
            return Err((broken.reason, broken.detail));
        }
        let image = raw.image.ok_or_else(|| (SkipReason::NoImage, String::new()))?;
        let json = raw.json.and_then(|json| String::from_utf8(json).ok());
        let caption = self.caption(raw.caption)?;
        let label = label(raw.class.as_deref(), json.as_deref());
        if let Needs::Label(classes) = self.needs
            && label.is_none_or(|label| label >= classes)
        {
            return Err((SkipReason::BadLabel, format!("{label:?} of {classes} classes")));
        }
        let refused = |e: crate::DataError| (SkipReason::TokenizeError, e.to_string());
        let tokens = self.tokenizer.encode(&caption, self.text_tokens).map_err(refused)?;
        let rgb = self.preprocess.resize(&decode_rgb(&image, &self.limits)?);
        let source = place.source.clone();
        Ok(Example { id, key: raw.key, source, caption, json, label, rgb, tokens: tokens.ids, length: tokens.length })
    }

    /// The caption without byte order mark, NULs and outer white space, cut to the limit at a character.
    fn caption(&self, bytes: Option<Vec<u8>>) -> Result<String, Refusal> {
        let optional = self.needs != Needs::Caption;
        let Some(bytes) = bytes else {
            return if optional { Ok(String::new()) } else { Err((SkipReason::NoCaption, String::new())) };
        };
        let cut = &bytes[..bytes.len().min(self.limits.caption_bytes)];
        let text = match std::str::from_utf8(cut) {
            Ok(text) => text,
            Err(e) if e.error_len().is_none() && cut.len() < bytes.len() => {
                std::str::from_utf8(&cut[..e.valid_up_to()]).unwrap_or_default()
            }
            Err(e) => return Err((SkipReason::CaptionNotUtf8, format!("at byte {}", e.valid_up_to()))),
        };
        let caption = text.trim_start_matches('\u{feff}').replace('\0', " ").trim().to_string();
        if !optional && self.tokenizer.is_blank(&caption) {
            return Err((SkipReason::EmptyCaption, format!("{caption:?}")));
        }
        Ok(caption)
    }
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

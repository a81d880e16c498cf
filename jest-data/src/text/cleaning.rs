//! The part of a tokenizer's cleaning that is done here, exactly as its sources do it.

use super::canonicalize::Canonicalize;
use super::charsmap::{Charsmap, from_base64};
use super::tokenizer::failed;
use crate::{DataError, Result};
use serde::Deserialize;
use serde_json::Value;
use std::borrow::Cow;
use tokenizers::normalizers::Sequence;
use tokenizers::{NormalizedString, Normalizer, NormalizerWrapper};

/// The steps up to the last that is done here: rules by their marks, and SentencePiece's replacements, which the library finds by the
/// shortest match instead of the longest.
pub(super) struct Cleaning(Vec<Step>);

enum Step {
    Rule(Canonicalize),
    Charsmap(Charsmap),
    Library(Box<NormalizerWrapper>),
}

impl Cleaning {
    /// Takes these steps out of a tokenizer's normalisers; those behind them stay, in their order.
    ///
    /// # Errors
    /// `Tokenizer` if replacements are damaged.
    pub(super) fn take(inner: &mut tokenizers::Tokenizer) -> Result<Cleaning> {
        let mut all = Vec::new();
        inner.get_normalizer().into_iter().for_each(|step| flatten(step, &mut all));
        let native = |step: &NormalizerWrapper| {
            matches!(step, NormalizerWrapper::Precompiled(_)) || Canonicalize::named_by(step).is_some()
        };
        let rest = all.split_off(all.iter().rposition(native).map_or(0, |last| last + 1));
        inner.with_normalizer((!rest.is_empty()).then(|| Sequence::new(rest))).map_err(failed("set the normaliser"))?;
        all.into_iter().map(Step::of).collect::<Result<_>>().map(Cleaning)
    }

    /// The text as these steps leave it.
    ///
    /// # Errors
    /// `Tokenizer` if the library refuses a step of its own.
    pub(super) fn apply<'a>(&self, text: &'a str) -> Result<Cow<'a, str>> {
        self.0.iter().try_fold(Cow::Borrowed(text), |text, step| Ok(Cow::Owned(step.apply(&text)?)))
    }
}

impl Step {
    fn of(step: NormalizerWrapper) -> Result<Step> {
        if let Some(rule) = Canonicalize::named_by(&step) {
            return Ok(Step::Rule(rule));
        }
        let NormalizerWrapper::Precompiled(replacements) = &step else { return Ok(Step::Library(Box::new(step))) };
        let json = serde_json::to_value(replacements).map_err(|e| failed("read the replacements")(e.into()))?;
        Ok(Step::Charsmap(charsmap(&json["precompiled_charsmap"])?))
    }

    fn apply(&self, text: &str) -> Result<String> {
        Ok(match self {
            Step::Rule(rule) => rule.apply(text),
            Step::Charsmap(charsmap) => charsmap.normalize(text),
            Step::Library(step) => {
                let mut cleaned = NormalizedString::from(text);
                step.normalize(&mut cleaned).map_err(failed("clean a text"))?;
                cleaned.get().to_string()
            }
        })
    }
}

/// The steps of sequences within sequences, in order.
fn flatten(step: &NormalizerWrapper, all: &mut Vec<NormalizerWrapper>) {
    match step {
        NormalizerWrapper::Sequence(sequence) => sequence.as_ref().iter().for_each(|step| flatten(step, all)),
        one => all.push(one.clone()),
    }
}

/// Refuses a tokenizer.json with damaged replacements, which the library does not survive.
pub(super) fn check(json: &[u8]) -> Result<()> {
    #[derive(Deserialize)]
    struct File {
        #[serde(default)]
        normalizer: Value,
    }
    let file: File = serde_json::from_slice(json).map_err(|e| failed("read tokenizer.json")(e.into()))?;
    check_normalizer(&file.normalizer)
}

fn check_normalizer(step: &Value) -> Result<()> {
    match step {
        Value::Object(fields) => fields.iter().try_for_each(|(name, value)| match name.as_str() {
            "precompiled_charsmap" => charsmap(value).map(drop),
            _ => check_normalizer(value),
        }),
        Value::Array(steps) => steps.iter().try_for_each(check_normalizer),
        _ => Ok(()),
    }
}

fn charsmap(base64: &Value) -> Result<Charsmap> {
    let parsed = base64.as_str().and_then(from_base64).and_then(|bytes| Charsmap::parse(&bytes));
    parsed.ok_or_else(|| DataError::Tokenizer {
        action: "read the replacements",
        source: "precompiled_charsmap is empty or damaged; take the file anew from where it came".into(),
    })
}

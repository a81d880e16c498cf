//! Rules by which captions are cleaned before they are cut into tokens.

use super::clean::{basic_clean, is_space};
use super::tokenizer::failed;
use crate::Result;
use serde::{Deserialize, Serialize};
use tokenizers::NormalizerWrapper;
use tokenizers::normalizers::replace::ReplacePattern;
use tokenizers::normalizers::{Lowercase, Replace, Strip};

/// How text is cleaned before it is cut into tokens; becomes part of the tokenizer and of its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Canonicalize {
    /// Lower case only, as SigLIP 2.
    Lower,
    /// `_` to space, ASCII punctuation removed, lower case, white space collapsed: SigLIP 1 as big_vision cleans it.
    BigVision,
    /// Wrong encodings, curly quotes and HTML references put right (ftfy), then as `BigVision`: SigLIP as open_clip cleans it.
    OpenClip,
    /// As `BigVision`, but `_` is removed with the punctuation: transformers' `SiglipTokenizer`.
    Hf,
    /// ftfy and HTML references, white space collapsed, lower case: CLIP as open_clip cleans it.
    Clip,
}

/// Begins the pattern that names a rule in a tokenizer.json; no text has it, so that it changes nothing elsewhere.
const MARK: &str = "\0canonicalize=";

impl Canonicalize {
    /// The text as this rule leaves it.
    ///
    /// # Source
    /// open_clip 3.3.0 `get_clean_fn` and `canonicalize_text`; transformers 5.23 `SiglipTokenizer.canonicalize_text`.
    pub fn apply(self, text: &str) -> String {
        match self {
            Canonicalize::Lower => text.to_lowercase(),
            Canonicalize::BigVision => words(&without_punctuation(&text.replace('_', " ")).to_lowercase()),
            Canonicalize::OpenClip => Canonicalize::BigVision.apply(&basic_clean(text)),
            Canonicalize::Hf => words(&without_punctuation(&text.to_lowercase())),
            Canonicalize::Clip => words(&basic_clean(text)).to_lowercase(),
        }
    }

    /// The word it has in files and configurations.
    fn word(self) -> &'static str {
        match self {
            Canonicalize::Lower => "lower",
            Canonicalize::BigVision => "big_vision",
            Canonicalize::OpenClip => "open_clip",
            Canonicalize::Hf => "hf",
            Canonicalize::Clip => "clip",
        }
    }

    /// The rule that a normaliser names.
    pub(super) fn named_by(normalizer: &NormalizerWrapper) -> Option<Canonicalize> {
        let all = [Canonicalize::BigVision, Canonicalize::OpenClip, Canonicalize::Hf, Canonicalize::Clip];
        all.into_iter().find(|rule| rule.mark().is_ok_and(|mark| same(&mark, normalizer)))
    }

    fn mark(self) -> Result<NormalizerWrapper> {
        Ok(Replace::new(format!("{MARK}{}", self.word()), "").map_err(failed("build the normaliser"))?.into())
    }

    /// The rule in the words of tokenizer.json, its name first: other readers clean by these, which lack ftfy and the final sigma.
    pub(super) fn steps(self) -> Result<Vec<NormalizerWrapper>> {
        let mut steps = normalizers(self)?;
        if self != Canonicalize::Lower {
            steps.insert(0, self.mark()?);
        }
        Ok(steps)
    }
}

fn same(a: &NormalizerWrapper, b: &NormalizerWrapper) -> bool {
    matches!((a, b), (NormalizerWrapper::Replace(a), NormalizerWrapper::Replace(b)) if a == b)
}

fn without_punctuation(text: &str) -> String {
    text.replace(|c: char| c.is_ascii_punctuation(), "")
}

/// Python's `" ".join(text.split())`.
fn words(text: &str) -> String {
    text.split(is_space).filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

/// What of a rule tokenizer.json has words for.
pub(super) fn normalizers(rule: Canonicalize) -> Result<Vec<NormalizerWrapper>> {
    let regex = |pattern: &str, content: &str| {
        Replace::new(ReplacePattern::Regex(pattern.to_string()), content).map_err(failed("build the normaliser"))
    };
    let punctuation = || regex(r"[!-/:-@\[-`{-~]", "");
    let spaces = || regex(r"\s+", " ");
    let ends = || Strip::new(true, true);
    let underscore = || Replace::new("_", " ").map_err(failed("build the normaliser"));
    Ok(match rule {
        Canonicalize::Lower => vec![Lowercase.into()],
        Canonicalize::BigVision | Canonicalize::OpenClip => {
            vec![underscore()?.into(), punctuation()?.into(), Lowercase.into(), spaces()?.into(), ends().into()]
        }
        Canonicalize::Hf => vec![Lowercase.into(), punctuation()?.into(), spaces()?.into(), ends().into()],
        Canonicalize::Clip => vec![spaces()?.into(), ends().into(), Lowercase.into()],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_differ_where_their_sources_do() {
        let text = " Caf\u{e9}_\u{201c}A\u{201d} &amp; B\u{1f} ΣΑΣ ";
        for (rule, expected) in [
            (Canonicalize::BigVision, "caf\u{e9} \u{201c}a\u{201d} amp b σας"),
            (Canonicalize::OpenClip, "caf\u{e9} a b σας"),
            (Canonicalize::Hf, "caf\u{e9}\u{201c}a\u{201d} amp b σας"),
            (Canonicalize::Clip, "caf\u{e9}_\"a\" & b σας"),
            (Canonicalize::Lower, " caf\u{e9}_\u{201c}a\u{201d} &amp; b\u{1f} σας "),
        ] {
            assert_eq!(rule.apply(text), expected, "{rule:?}");
        }
    }

    #[test]
    fn the_word_is_that_of_the_configuration() {
        for rule in
            [Canonicalize::Lower, Canonicalize::BigVision, Canonicalize::OpenClip, Canonicalize::Hf, Canonicalize::Clip]
        {
            assert_eq!(serde_json::to_string(&rule).unwrap(), format!("\"{}\"", rule.word()));
        }
    }
}

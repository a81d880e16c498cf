//! Names, character maps and expressions that cleaning looks things up in; `scripts/text/make_tables.py` writes them.

use regex::{Match, Regex};
use serde::Deserialize;
use std::collections::{HashMap, HashSet};
use std::sync::OnceLock;

/// What `tables.json` holds.
#[derive(Default, Deserialize)]
pub struct Tables {
    /// HTML5's names and their characters.
    pub entities: HashMap<String, String>,
    /// Names that need no semicolon.
    pub bare_entities: HashSet<String>,
    charmaps: HashMap<String, String>,
    /// Letters of ligatures.
    pub ligatures: HashMap<char, String>,
    badness: String,
    detector: String,
    not_before_detector: String,
}

impl Tables {
    /// Windows' encoding of Western Europe; unassigned bytes are the control characters of their number.
    pub const WINDOWS_1252: &str = "sloppy-windows-1252";

    /// Characters of the bytes 0x80 to 0xff in an encoding.
    pub fn charmap(&self, name: &str) -> &str {
        self.charmaps.get(name).map_or("", String::as_str)
    }
}

/// Expressions that find text decoded wrongly; none is missing, which a test holds.
struct Expressions {
    badness: Option<Regex>,
    detector: Option<Regex>,
    not_before_detector: Option<Regex>,
}

/// The tables, read once.
pub fn tables() -> &'static Tables {
    static TABLES: OnceLock<Tables> = OnceLock::new();
    // The file is part of the program, and a test reads it.
    TABLES.get_or_init(|| serde_json::from_str(include_str!("tables.json")).unwrap_or_default())
}

/// The expressions, compiled once.
fn expressions() -> &'static Expressions {
    static EXPRESSIONS: OnceLock<Expressions> = OnceLock::new();
    let regex = |text: &str| Regex::new(text).ok();
    EXPRESSIONS.get_or_init(|| Expressions {
        badness: regex(&tables().badness),
        detector: regex(&tables().detector),
        not_before_detector: regex(&format!("^{}$", tables().not_before_detector)),
    })
}

/// Whether a text has neighbours that hardly occur in any text but such as was decoded wrongly.
pub fn is_bad(text: &str) -> bool {
    expressions().badness.as_ref().is_some_and(|badness| badness.is_match(text))
}

/// The first part from `at` on that looks like UTF-8 read in another encoding.
pub fn misread(text: &str, at: usize) -> Option<Match<'_>> {
    expressions().detector.as_ref()?.find_at(text, at)
}

/// Whether a part behind this character is not one.
pub fn rules_out_misread(c: char) -> bool {
    let not_before = expressions().not_before_detector.as_ref();
    not_before.is_some_and(|not_before| not_before.is_match(c.encode_utf8(&mut [0; 4])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_read_and_expressions_compile() {
        let tables = tables();
        assert_eq!((tables.entities.len(), tables.charmaps.len(), tables.ligatures.len()), (2125, 10, 22));
        assert!(tables.charmaps.values().all(|map| map.chars().count() == 128));
        let Expressions { badness, detector, not_before_detector } = expressions();
        assert!(badness.is_some() && detector.is_some() && not_before_detector.is_some());
    }
}

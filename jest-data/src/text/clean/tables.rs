//! Names, character maps and expressions that cleaning looks things up in; `scripts/text/make_tables.py` writes them.

use regex::Regex;
use serde::Deserialize;
use std::collections::{HashMap, HashSet};
use std::sync::OnceLock;

/// What `tables.json` holds.
#[derive(Deserialize)]
pub struct Tables {
    /// HTML5's names and their characters.
    pub entities: HashMap<String, String>,
    /// Names that need no semicolon.
    pub bare_entities: HashSet<String>,
    /// Characters of the bytes 0x80 to 0xff, by encoding.
    pub charmaps: HashMap<String, String>,
    /// Letters of ligatures.
    pub ligatures: HashMap<char, String>,
    badness: String,
    detector: String,
    not_before_detector: String,
}

impl Tables {
    /// Windows' encoding of Western Europe; unassigned bytes are the control characters of their number.
    pub const WINDOWS_1252: &str = "sloppy-windows-1252";
}

/// Expressions that find text decoded wrongly.
pub struct Expressions {
    /// Neighbours that hardly occur in any text but such.
    pub badness: Regex,
    /// What looks like UTF-8 read in another encoding.
    pub detector: Regex,
    /// A character that must not stand in front of it.
    pub not_before_detector: Regex,
}

/// The tables, read once.
pub fn tables() -> &'static Tables {
    static TABLES: OnceLock<Tables> = OnceLock::new();
    TABLES.get_or_init(|| serde_json::from_str(include_str!("tables.json")).expect("tables.json is valid"))
}

/// The expressions, compiled once.
pub fn expressions() -> &'static Expressions {
    static EXPRESSIONS: OnceLock<Expressions> = OnceLock::new();
    let regex = |text: &str| Regex::new(text).expect("tables.json holds valid expressions");
    EXPRESSIONS.get_or_init(|| Expressions {
        badness: regex(&tables().badness),
        detector: regex(&tables().detector),
        not_before_detector: regex(&format!("^{}$", tables().not_before_detector)),
    })
}

//! HTML character references, as Python's `html.unescape` and as ftfy read them.

use super::tables::{Tables, tables};

/// Longest name that is looked up, in characters.
const LONGEST: usize = 32;

/// Every reference in `text` replaced, also one without its semicolon where HTML5 allows that.
///
/// # Source
/// Python 3.11 `html.unescape`.
pub fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let (length, replaced) = reference(rest);
        match replaced {
            Some(replaced) => out.push_str(&replaced),
            None => out.extend(['&']),
        }
        rest = &rest[length..];
    }
    out + rest
}

/// Bytes behind the `&` that are consumed, and what stands for them; nothing where it is no reference.
fn reference(rest: &str) -> (usize, Option<String>) {
    if let Some(number) = rest.strip_prefix('#') {
        let (prefix, radix) = if number.starts_with(['x', 'X']) { (2, 16) } else { (1, 10) };
        let digits = rest[prefix..].bytes().take_while(|b| char::from(*b).is_digit(radix)).count();
        if digits == 0 {
            return (0, None);
        }
        let end = prefix + digits;
        let closed = usize::from(rest[end..].starts_with(';'));
        // What overflows is beyond the last character, as 2^32 - 1 is.
        let code = u32::from_str_radix(&rest[prefix..end], radix).unwrap_or(u32::MAX);
        return (end + closed, Some(character(code)));
    }
    let stop = |c: char| matches!(c, '\t' | '\n' | '\x0c' | ' ' | '<' | '&' | '#' | ';');
    let ended = rest.char_indices().enumerate().find(|(n, (_, c))| *n == LONGEST || stop(*c));
    let name = &rest[..ended.map_or(rest.len(), |(_, (end, _))| end)];
    if name.is_empty() {
        return (0, None);
    }
    let closed = rest[name.len()..].starts_with(';');
    if closed && let Some(found) = tables().entities.get(name) {
        return (name.len() + 1, Some(found.clone()));
    }
    let bare = |end: &usize| tables().bare_entities.contains(&name[..*end]);
    let ends: Vec<usize> = name.char_indices().map(|(i, c)| i + c.len_utf8()).collect();
    match ends.iter().rev().find(|end| bare(end)) {
        Some(end) => (*end, tables().entities.get(&name[..*end]).cloned()),
        None => (0, None),
    }
}

/// The character of a number, with HTML5's exceptions; nothing for one that HTML5 calls invalid.
fn character(code: u32) -> String {
    let windows = |code: u32| tables().charmap(Tables::WINDOWS_1252).chars().nth(code as usize - 0x80);
    let invalid = matches!(code, 1..=8 | 0xb | 0xe..=0x1f | 0x7f | 0xfdd0..=0xfdef) || code & 0xfffe == 0xfffe;
    match code {
        0 => "\u{fffd}".to_string(),
        0x80..=0x9f => windows(code).into_iter().collect(),
        _ if code > 0x10_ffff || (0xd800..=0xdfff).contains(&code) => "\u{fffd}".to_string(),
        _ if invalid => String::new(),
        _ => char::from_u32(code).into_iter().collect(),
    }
}

/// References that ftfy takes for a mistake: closed, at most 24 letters and digits, also in capitals where that is no other name.
pub fn unescape_closed(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let marks = 1 + usize::from(rest[1..].starts_with('#'));
        let name = rest[marks..].bytes().take_while(u8::is_ascii_alphanumeric).count();
        let whole =
            if (1..=24).contains(&name) && rest[marks + name..].starts_with(';') { marks + name + 1 } else { 0 };
        match closed(&rest[..whole]) {
            Some(replaced) => out.push_str(&replaced),
            None => out.push_str(&rest[..whole.max(1)]),
        }
        rest = &rest[whole.max(1)..];
    }
    out + rest
}

fn closed(reference: &str) -> Option<String> {
    let name = reference.strip_prefix('&')?.strip_suffix(';')?;
    if name.starts_with('#') {
        // Only part of it was a number where the semicolon is left.
        return Some(unescape(reference)).filter(|replaced| !replaced.contains(';'));
    }
    if let Some(found) = tables().entities.get(name) {
        return Some(found.clone());
    }
    let lower = name.to_lowercase();
    if lower.to_uppercase() != name || unescape(reference) != reference {
        return None;
    }
    tables().entities.get(&lower).map(|found| found.to_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_as_python_reads_them() {
        for (text, expected) in [
            ("a &amp; b &lt &notit; &notin; &NotEqualTilde;", "a & b < ¬it; ∉ ≂̸"),
            ("&#65;&#x42;&#X43&#1;&#x80;&#xd800;&#99999999999;", "ABC€\u{fffd}\u{fffd}"),
            ("&;&&#;&#x;&nosuch; &", "&;&&#;&#x;&nosuch; &"),
            ("&ampamp;é&eacuteé", "&amp;éééé".strip_suffix('é').unwrap()),
        ] {
            assert_eq!(unescape(text), expected, "{text}");
        }
    }

    #[test]
    fn references_as_ftfy_reads_them() {
        for (text, expected) in [
            ("&ntilde; &Ntilde; &NTILDE; &nTILDE; &amp", "ñ Ñ Ñ &nTILDE; &amp"),
            ("BUNDESSTRA&SZLIG;E &#65; &#59; &#6x;", "BUNDESSTRASSE A &#59; &#6x;"),
        ] {
            assert_eq!(unescape_closed(text), expected, "{text}");
        }
    }
}

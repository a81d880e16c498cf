//! Text that was decoded in the wrong encoding, put right where that is beyond doubt.
//!
//! # Source
//! The steps and the heuristic of ftfy 6.3.1 (`fix_encoding`).

use super::tables::{Tables, is_bad, misread, rules_out_misread, tables};
use regex::bytes::Regex as Bytes;
use std::sync::OnceLock;

/// Encodings that are tried, in this order.
const ENCODINGS: [&str; 10] = [
    "latin-1",
    Tables::WINDOWS_1252,
    "sloppy-windows-1251",
    "sloppy-windows-1250",
    "sloppy-windows-1253",
    "sloppy-windows-1254",
    "sloppy-windows-1257",
    "iso-8859-2",
    "macroman",
    "cp437",
];

/// UTF-8 with a space where the byte A0 belongs.
const ALTERED: &str = r"(?-u)[\xc2\xc3\xc5\xce\xd0\xd9] |[\xe2\xe3] [\x80-\x84\x86-\x9f\xa1-\xbf]|[\xe0-\xe3][\x80-\x84\x86-\x9f\xa1-\xbf] |\xf0 [\x80-\xbf][\x80-\xbf]|\xf0[\x80-\xbf] [\x80-\xbf]|\xf0[\x80-\xbf][\x80-\xbf] ";
/// UTF-8 of which a byte was lost.
const LOSSY: &str = r"(?-u)[\xc2-\xdf]\x1a|[\xc2-\xc3][?]|\xed[\xa0-\xaf][\x1a?]\xed[\xb0-\xbf][\x1a?\x80-\xbf]|\xed[\xa0-\xaf][\x1a?\x80-\xbf]\xed[\xb0-\xbf][\x1a?]|[\xe0-\xef][\x1a?][\x1a\x80-\xbf]|[\xe0-\xef][\x1a\x80-\xbf][\x1a?]|[\xf0-\xf4][\x1a?][\x1a\x80-\xbf][\x1a\x80-\xbf]|[\xf0-\xf4][\x1a\x80-\xbf][\x1a?][\x1a\x80-\xbf]|[\xf0-\xf4][\x1a\x80-\xbf][\x1a\x80-\xbf][\x1a?]|\x1a";

/// `text` in the encoding it was meant in, or as it is.
pub fn fix(text: &str) -> String {
    let mut text = text.to_string();
    loop {
        match step(&text) {
            Some(fixed) if fixed != text => text = fixed,
            _ => return text,
        }
    }
}

fn step(text: &str) -> Option<String> {
    if text.is_ascii() || !is_bad(text) {
        return None;
    }
    let mut latin = None;
    for name in ENCODINGS {
        let Some(bytes) = encode(text, name) else { continue };
        if name == "latin-1" {
            latin = Some(bytes.clone());
        }
        if let Some(decoded) = decode(repair(bytes, name)) {
            return Some(decoded);
        }
    }
    let embedded = fix_embedded(text);
    if embedded != text {
        return Some(embedded);
    }
    let unassigned = |b: &u8| matches!(b, 0x81 | 0x8d | 0x8f | 0x90 | 0x9d);
    if let Some(bytes) = latin.filter(|bytes| !bytes.iter().any(unassigned)) {
        let windows = read_windows_1252(&bytes);
        if windows != text {
            return Some(windows);
        }
    }
    Some(fix_c1_controls(text))
}

/// The bytes of a text in a one-byte encoding, if it has them all; a lost character is the byte 1A.
fn encode(text: &str, name: &str) -> Option<Vec<u8>> {
    let (map, sloppy) = (tables().charmap(name), name.starts_with("sloppy"));
    let mut bytes = Vec::with_capacity(text.len());
    for c in text.chars() {
        bytes.push(match c {
            '\x1a' if sloppy => return None,
            '\u{fffd}' if sloppy => 0x1a,
            _ if c.is_ascii() => c as u8,
            _ => 0x80 + map.chars().position(|known| known == c)? as u8,
        });
    }
    Some(bytes)
}

fn repair(bytes: Vec<u8>, name: &str) -> Vec<u8> {
    let (altered, lossy) = utf8();
    let mut bytes = bytes;
    // In MacRoman an en dash and a space would match.
    if let Some(altered) = altered
        && name != "macroman"
        && altered.is_match(&bytes)
    {
        let words = restore_a_grave(&bytes);
        let restore = |found: &regex::bytes::Captures<'_>| {
            found[0].iter().map(|b| if *b == b' ' { 0xa0 } else { *b }).collect::<Vec<u8>>()
        };
        bytes = altered.replace_all(&words, restore).into_owned();
    }
    if let Some(lossy) = lossy
        && name.starts_with("sloppy")
    {
        bytes = lossy.replace_all(&bytes, &b"\xef\xbf\xbd"[..]).into_owned();
    }
    bytes
}

/// The expressions, compiled once; neither is missing, which a test holds.
fn utf8() -> &'static (Option<Bytes>, Option<Bytes>) {
    static UTF8: OnceLock<(Option<Bytes>, Option<Bytes>)> = OnceLock::new();
    UTF8.get_or_init(|| (Bytes::new(ALTERED).ok(), Bytes::new(LOSSY).ok()))
}

/// The word `à` that has lost its second byte to a space gets it back and keeps the space, Portuguese contractions apart.
fn restore_a_grave(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() + 8);
    for (i, byte) in bytes.iter().enumerate() {
        let behind = bytes.get(i + 2..).unwrap_or_default();
        let contraction = [&b" "[..], b"quele", b"quela", b"quilo", b"s "].iter().any(|word| behind.starts_with(word));
        out.push(*byte);
        if bytes[i..].starts_with(b"\xc3 ") && !contraction {
            out.push(0xa0);
        }
    }
    out
}

/// UTF-8, also with pairs of surrogates and with NUL in two bytes.
fn decode(bytes: Vec<u8>) -> Option<String> {
    if !bytes.contains(&0xed) && !bytes.contains(&0xc0) {
        return String::from_utf8(bytes).ok();
    }
    let (mut out, mut rest) = (String::new(), &bytes[..]);
    while !rest.is_empty() {
        match rest {
            [0xc0, 0x80, behind @ ..] => {
                out.push('\0');
                rest = behind;
            }
            [0xed, b @ 0xa0..=0xaf, c @ 0x80..=0xbf, 0xed, e @ 0xb0..=0xbf, f @ 0x80..=0xbf, behind @ ..] => {
                let bits = |byte: &u8, mask: u8| u32::from(byte & mask);
                let code = (bits(b, 15) << 16) + (bits(c, 63) << 10) + (bits(e, 15) << 6) + bits(f, 63) + 0x1_0000;
                out.push(char::from_u32(code)?);
                rest = behind;
            }
            _ => {
                let length = match rest[0] {
                    0..=0x7f => 1,
                    0xc2..=0xdf => 2,
                    0xe0..=0xef => 3,
                    _ => 4,
                };
                out.push_str(std::str::from_utf8(rest.get(..length)?).ok()?);
                rest = &rest[length..];
            }
        }
    }
    Some(out)
}

/// Parts that look like UTF-8 put right each on its own.
fn fix_embedded(text: &str) -> String {
    let (mut out, mut copied, mut at) = (String::new(), 0, 0);
    while let Some(part) = misread(text, at) {
        let before = text[..part.start()].chars().next_back();
        if before.is_some_and(rules_out_misread) {
            at = part.start() + text[part.start()..].chars().next().map_or(1, char::len_utf8);
            continue;
        }
        out.push_str(&text[copied..part.start()]);
        let whole = part.len() == text.len();
        let bad = !whole && is_bad(part.as_str());
        out.push_str(&if bad { fix(part.as_str()) } else { part.as_str().to_string() });
        (copied, at) = (part.end(), part.end());
    }
    out + &text[copied..]
}

fn read_windows_1252(bytes: &[u8]) -> String {
    let map: Vec<char> = tables().charmap(Tables::WINDOWS_1252).chars().collect();
    let of_byte = |b: &u8| map.get(usize::from(*b).wrapping_sub(0x80)).copied().unwrap_or(char::from(*b));
    bytes.iter().map(of_byte).collect()
}

/// Control characters that Latin-1 has where Windows has letters become those.
pub fn fix_c1_controls(text: &str) -> String {
    let fixed = |c: char| match c {
        '\u{80}'..='\u{9f}' => read_windows_1252(&[c as u8]),
        _ => c.to_string(),
    };
    if text.chars().any(|c| ('\u{80}'..='\u{9f}').contains(&c)) {
        text.chars().map(fixed).collect()
    } else {
        text.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_compile_and_encodings_are_there() {
        assert!(utf8().0.is_some() && utf8().1.is_some());
        assert!(ENCODINGS.iter().all(|name| tables().charmap(name).chars().count() == 128));
    }
}

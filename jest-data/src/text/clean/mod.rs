//! What open_clip does to a text before anything else: ftfy, then HTML references, then no outer white space.

mod encoding;
mod html;
mod tables;

use std::borrow::Cow;
use tables::tables;
use tokenizers::NormalizedString;

/// Characters after which ftfy cuts a line without an end.
const LONGEST_LINE: usize = 1_000_000;

/// `html.unescape(html.unescape(ftfy.fix_text(text))).strip()`.
///
/// # Source
/// `basic_clean` of open_clip 3.3.0, with ftfy 6.3.1.
pub fn basic_clean(text: &str) -> String {
    let fixed = fix_text(text);
    html::unescape(&html::unescape(&fixed)).trim_matches(is_space).to_string()
}

/// White space to Python: Unicode's, and the separators 1C to 1F.
pub fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

/// ftfy with its defaults, line by line. From a line with a `<` on, references are left alone.
fn fix_text(text: &str) -> String {
    let (mut out, mut references) = (String::with_capacity(text.len()), true);
    for line in text.split_inclusive('\n') {
        let mut rest = line;
        while !rest.is_empty() {
            let end = rest.char_indices().nth(LONGEST_LINE).map_or(rest.len(), |(end, _)| end);
            references &= !rest[..end].contains('<');
            out.push_str(&fix_segment(&rest[..end], references));
            rest = &rest[end..];
        }
    }
    out
}

fn fix_segment(text: &str, references: bool) -> Cow<'_, str> {
    let plain = |b: u8| matches!(b, b' '..=b'~' | b'\t' | b'\n' | b'\x0c') && b != b'&';
    if text.bytes().all(plain) {
        return Cow::Borrowed(text);
    }
    let mut text = text.to_string();
    loop {
        let mut fixed = if references { html::unescape_closed(&text) } else { text.clone() };
        fixed = encoding::fix_c1_controls(&encoding::fix(&fixed));
        fixed = fixed.chars().map(substitute).collect::<Vec<_>>().concat();
        fixed = fixed.replace("\r\n", "\n").replace(['\r', '\u{2028}', '\u{2029}', '\u{85}'], "\n");
        fixed = remove_terminal_escapes(&fixed).replace(is_control, "");
        fixed = composed(fixed, NormalizedString::nfc);
        if fixed == text {
            return Cow::Owned(text);
        }
        text = fixed;
    }
}

/// Ligatures as letters, forms of another width in the usual one, curly quotes straight: in this order, each on what it is given.
fn substitute(c: char) -> Cow<'static, str> {
    let straight = |c: char| match c {
        '\u{201c}'..='\u{201f}' => '"',
        '\u{2bc}' | '\u{2018}'..='\u{201b}' => '\'',
        c => c,
    };
    if let Some(letters) = tables().ligatures.get(&c) {
        return Cow::Owned(letters.chars().map(straight).collect());
    }
    match c {
        '\u{3000}' => Cow::Borrowed(" "),
        '\u{ff01}'..='\u{ffef}' => {
            Cow::Owned(composed(c.to_string(), NormalizedString::nfkc).chars().map(straight).collect())
        }
        c => Cow::Owned(straight(c).to_string()),
    }
}

fn composed(text: String, form: fn(&mut NormalizedString) -> &mut NormalizedString) -> String {
    if text.is_ascii() {
        return text;
    }
    let mut text = NormalizedString::from(text);
    form(&mut text);
    text.get().to_string()
}

/// Without `ESC [ digits letter`, which colours a terminal.
fn remove_terminal_escapes(text: &str) -> Cow<'_, str> {
    if !text.contains("\x1b[") {
        return Cow::Borrowed(text);
    }
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = rest.find("\x1b[") {
        let codes = rest[at + 2..].find(|c: char| !c.is_ascii_digit() && c != ';');
        let letter = codes.map(|codes| at + 2 + codes).filter(|end| rest.as_bytes()[*end].is_ascii_alphabetic());
        out.push_str(&rest[..at]);
        if letter.is_none() {
            out.push_str("\x1b[");
        }
        rest = &rest[letter.map_or(at + 2, |end| end + 1)..];
    }
    Cow::Owned(out + rest)
}

/// Characters that show nothing and are hardly ever meant.
fn is_control(c: char) -> bool {
    matches!(c, '\0'..='\x08' | '\x0b' | '\x0e'..='\x1f' | '\x7f' | '\u{206a}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffc}')
}

//! Rust and WGSL text split into code and prose, by a scanner that knows strings, characters and comments.

/// Two views of a text with the same bytes in the same places, each blank where the other kind stands.
pub struct Source {
    /// Code; comments and the contents of strings and characters are spaces.
    pub code: String,
    /// Comments; all else is spaces.
    pub prose: String,
    /// For each line whether it belongs to an item under `#[cfg(test)]`.
    pub in_test: Vec<bool>,
}

/// What a stretch of text is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Code,
    Literal,
    Comment,
}

impl Source {
    pub fn of(text: &str) -> Self {
        let bytes = text.as_bytes();
        let (mut code, mut prose) = (Vec::with_capacity(bytes.len()), Vec::with_capacity(bytes.len()));
        let mut at = 0;
        while at < bytes.len() {
            let (kind, end) = stretch(bytes, at);
            for &byte in &bytes[at..end] {
                let keep = |wanted: Kind| if byte == b'\n' || kind == wanted { byte } else { b' ' };
                code.push(keep(Kind::Code));
                prose.push(keep(Kind::Comment));
            }
            at = end;
        }
        let code = String::from_utf8_lossy(&code).into_owned();
        let in_test = test_lines(&code);
        Self { code, prose: String::from_utf8_lossy(&prose).into_owned(), in_test }
    }
}

/// The kind of what starts at `at`, and where it ends.
fn stretch(bytes: &[u8], at: usize) -> (Kind, usize) {
    let rest = &bytes[at..];
    if rest.starts_with(b"//") {
        return (Kind::Comment, at + rest.iter().position(|&b| b == b'\n').unwrap_or(rest.len()));
    }
    if rest.starts_with(b"/*") {
        return (Kind::Comment, at + block_comment(rest));
    }
    match rest[0] {
        b'"' => (Kind::Literal, at + quoted(rest, b'"')),
        b'\'' => character(rest).map_or((Kind::Code, at + 1), |length| (Kind::Literal, at + length)),
        b'r' if !after_name(bytes, at) => {
            raw_string(rest).map_or((Kind::Code, at + 1), |length| (Kind::Literal, at + length))
        }
        _ => (Kind::Code, at + 1),
    }
}

/// Whether the byte before `at` belongs to a name, `b` and `c` of `br"..."` and `cr"..."` excepted.
fn after_name(bytes: &[u8], at: usize) -> bool {
    let is_name = |index: usize| bytes.get(index).is_some_and(|&b| b.is_ascii_alphanumeric() || b == b'_');
    let Some(before) = at.checked_sub(1) else { return false };
    let prefix = matches!(bytes[before], b'b' | b'c') && !before.checked_sub(1).is_some_and(is_name);
    is_name(before) && !prefix
}

/// Length of a block comment; Rust and WGSL both nest them.
fn block_comment(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        match &rest[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

/// Length of a literal up to its closing quote, escapes passed over.
fn quoted(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != quote {
        at += if rest[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(rest.len())
}

/// Length of a character literal; `None` for a lifetime.
fn character(rest: &[u8]) -> Option<usize> {
    let first = *rest.get(1)?;
    if first == b'\\' {
        // The escaped byte may itself be a quote.
        return Some(2 + quoted(rest.get(2..)?, b'\''));
    }
    let length = match first {
        0xf0.. => 4,
        0xe0.. => 3,
        0xc0.. => 2,
        _ => 1,
    };
    (rest.get(1 + length) == Some(&b'\'')).then_some(length + 2)
}

/// Length of `r"..."` or `r#"..."#`; `None` for a name that starts with r.
fn raw_string(rest: &[u8]) -> Option<usize> {
    let hashes = rest[1..].iter().take_while(|&&b| b == b'#').count();
    if rest.get(1 + hashes) != Some(&b'"') {
        return None;
    }
    let close: Vec<u8> = std::iter::once(b'"').chain(std::iter::repeat_n(b'#', hashes)).collect();
    let body = &rest[hashes + 2..];
    let end = body.windows(close.len()).position(|window| window == close.as_slice());
    Some(end.map_or(rest.len(), |end| hashes + 2 + end + close.len()))
}

/// The byte after the bracket that closes the one at `open`, for `{}` in code without literals.
pub fn after_block(code: &str, open: usize) -> usize {
    let mut depth = 0;
    for (at, byte) in code.bytes().enumerate().skip(open) {
        depth += i32::from(byte == b'{') - i32::from(byte == b'}');
        if depth == 0 {
            return at + 1;
        }
    }
    code.len()
}

/// The line, counted from 0, of a byte.
pub fn line_of(text: &str, at: usize) -> usize {
    text.as_bytes()[..at].iter().filter(|&&b| b == b'\n').count()
}

/// Marks the lines of each item under `#[cfg(test)]`, attribute included.
fn test_lines(code: &str) -> Vec<bool> {
    let mut marks = vec![false; code.lines().count()];
    for (start, attribute) in code.match_indices("#[cfg(test)]") {
        let item = start + attribute.len();
        let end = match code[item..].find(['{', ';']) {
            Some(length) if code.as_bytes()[item + length] == b'{' => after_block(code, item + length),
            Some(length) => item + length + 1,
            None => code.len(),
        };
        for mark in marks.iter_mut().take(line_of(code, end) + 1).skip(line_of(code, start)) {
            *mark = true;
        }
    }
    marks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, code: &str, prose: &str) {
        let source = Source::of(text);
        let squeeze = |view: &str| view.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(squeeze(&source.code), code, "code of {text}");
        assert_eq!(squeeze(&source.prose), prose, "prose of {text}");
        assert_eq!(source.code.lines().count(), text.lines().count(), "lines of {text}");
    }

    #[test]
    fn strings_and_comments_are_no_code() {
        check("a(\"x // {\") // b \"c\"\nd", "a( ) d", "// b \"c\"");
        check(r#"a("\"}", b"\\") /* { /* } */ */ c"#, "a( , b ) c", "/* { /* } */ */");
        check("let s = r#\"} \" {\"# + br\"{\" ;", "let s = + b ;", "");
        check("r(var\"}\")", "r(var )", "");
    }

    #[test]
    fn characters_are_told_from_lifetimes() {
        check("f::<'a>('{', '\\'', '}', b'{', 'é', '\\u{7b}', &'static x)", "f::<'a>( , , , b , , , &'static x)", "");
    }

    #[test]
    fn a_text_that_stops_inside_a_literal_is_read_to_its_end() {
        check("a \"b", "a", "");
        check("a /* b", "a", "/* b");
        check("a r#\"b", "a", "");
        check("a '\\", "a", "");
    }

    #[test]
    fn items_under_cfg_test_are_marked() {
        let text = "fn a() {}\n#[cfg(test)]\nmod tests {\n  fn b() { c(\"}\") }\n}\nfn d() {}\n#[cfg(test)]\nuse e;\nfn f() {}";
        assert_eq!(Source::of(text).in_test, [false, true, true, true, true, false, true, true, false]);
    }
}

//! Brace patterns as the shell and WebDataset write them: `{000..999}`, `{a,b}`, nested.

use crate::{DataError, Result};

/// More names than this in one pattern are taken for a typing error.
const MAX_NAMES: usize = 10_000_000;
/// Deeper nesting than this is refused.
const MAX_DEPTH: usize = 16;

/// Every name that a brace pattern stands for, in order.
///
/// `{08..11}` counts with the width of its wider zero-padded end, downwards too; `{a,b}` lists; both nest. Braces that hold
/// neither a range nor a comma stand for themselves, as in a shell.
///
/// # Errors
/// `Source` for an unclosed brace, for nesting deeper than 16, and for more than ten million names.
///
/// ```
/// let names = jest_data::expand_braces("{a,b}/{08..10}.tar")?;
/// assert_eq!(names, ["a/08.tar", "a/09.tar", "a/10.tar", "b/08.tar", "b/09.tar", "b/10.tar"]);
/// # Ok::<(), jest_data::DataError>(())
/// ```
pub fn expand_braces(pattern: &str) -> Result<Vec<String>> {
    let problem = |problem| DataError::Source { spec: pattern.to_string(), problem };
    expand(pattern, 0).map_err(problem)
}

type Names = std::result::Result<Vec<String>, &'static str>;

fn expand(pattern: &str, depth: usize) -> Names {
    if depth > MAX_DEPTH {
        return Err("braces are nested deeper than 16");
    }
    let mut names = vec![String::new()];
    let mut rest = pattern;
    while let Some(open) = rest.find('{') {
        let close = closing(&rest[open..]).ok_or("a `{` has no `}`")? + open;
        append(&mut names, &[rest[..open].to_string()])?;
        append(&mut names, &alternatives(&rest[open + 1..close], depth)?)?;
        rest = &rest[close + 1..];
    }
    append(&mut names, &[rest.to_string()])?;
    Ok(names)
}

/// Byte offset of the brace that closes the first one.
fn closing(text: &str) -> Option<usize> {
    let mut open = 0usize;
    for (at, c) in text.char_indices() {
        match c {
            '{' => open += 1,
            '}' if open == 1 => return Some(at),
            '}' => open -= 1,
            _ => {}
        }
    }
    None
}

/// `names` becomes every name followed by every ending.
fn append(names: &mut Vec<String>, endings: &[String]) -> std::result::Result<(), &'static str> {
    if names.len().saturating_mul(endings.len()) > MAX_NAMES {
        return Err("the braces stand for more than ten million names");
    }
    if let [ending] = endings {
        names.iter_mut().for_each(|name| name.push_str(ending));
    } else {
        *names = names.iter().flat_map(|name| endings.iter().map(move |ending| format!("{name}{ending}"))).collect();
    }
    Ok(())
}

fn alternatives(inner: &str, depth: usize) -> Names {
    let parts = split_commas(inner);
    if parts.len() > 1 {
        let mut all = Vec::new();
        for part in parts {
            all.extend(expand(part, depth + 1)?);
            if all.len() > MAX_NAMES {
                return Err("the braces stand for more than ten million names");
            }
        }
        return Ok(all);
    }
    if let Some(names) = range(inner)? {
        return Ok(names);
    }
    Ok(expand(inner, depth + 1)?.into_iter().map(|name| format!("{{{name}}}")).collect())
}

fn split_commas(inner: &str) -> Vec<&str> {
    let (mut parts, mut start, mut open) = (Vec::new(), 0, 0i32);
    for (at, c) in inner.char_indices() {
        match c {
            '{' => open += 1,
            '}' => open -= 1,
            ',' if open == 0 => {
                parts.push(&inner[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&inner[start..]);
    parts
}

/// The names of `first..last`; none if it is not a range.
fn range(inner: &str) -> std::result::Result<Option<Vec<String>>, &'static str> {
    let Some((first, last)) = inner.split_once("..") else { return Ok(None) };
    let number = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<u64>().ok()).flatten();
    let (Some(a), Some(b)) = (number(first), number(last)) else { return Ok(None) };
    if a.abs_diff(b) >= MAX_NAMES as u64 {
        return Err("the braces stand for more than ten million names");
    }
    let padded = |text: &str| if text.len() > 1 && text.starts_with('0') { text.len() } else { 0 };
    let width = padded(first).max(padded(last));
    let name = |i: u64| format!("{i:0width$}");
    Ok(Some(if a <= b { (a..=b).map(name).collect() } else { (b..=a).rev().map(name).collect() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, expected: &[&str]) {
        assert_eq!(expand_braces(pattern).unwrap(), expected, "{pattern}");
    }

    #[test]
    fn patterns() {
        check("plain.tar", &["plain.tar"]);
        check("", &[""]);
        check("{1..3}", &["1", "2", "3"]);
        check("{3..1}", &["3", "2", "1"]);
        check("{00009..00010}", &["00009", "00010"]);
        check("{9..010}", &["009", "010"]);
        check("{a,b{1,2}}", &["a", "b1", "b2"]);
        check("{{0..1},x}y", &["0y", "1y", "xy"]);
        check("{,a}", &["", "a"]);
        check("{x}", &["{x}"]);
        check("{a..}", &["{a..}"]);
        check("a}b", &["a}b"]);
    }

    #[test]
    fn refused() {
        for pattern in ["{1..2", "{0..99999999999}", "{0..9999}{0..9999}", &"{a,".repeat(40)] {
            assert!(expand_braces(pattern).is_err(), "{pattern}");
        }
    }
}

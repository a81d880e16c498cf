//! SentencePiece's normaliser: replacements by the longest match in a double array.

/// The rules of a `precompiled_charsmap`: bytes to look for, and what stands for them.
#[derive(Clone, Debug)]
pub struct Charsmap {
    units: Vec<u32>,
    replacements: String,
}

impl Charsmap {
    /// Reads the size of the double array, the array, and the replacements, each ended by NUL; nothing where they are damaged.
    pub fn parse(bytes: &[u8]) -> Option<Charsmap> {
        let (size, rest) = bytes.split_first_chunk()?;
        let (array, replacements) = rest.split_at_checked(u32::from_le_bytes(*size) as usize)?;
        let (units, []) = array.as_chunks() else { return None };
        let units: Vec<u32> = units.iter().map(|unit| u32::from_le_bytes(*unit)).collect();
        let replacements = String::from_utf8(replacements.to_vec()).ok()?;
        (!units.is_empty()).then_some(Charsmap { units, replacements })
    }

    /// Every longest match replaced; what matches nothing stays.
    ///
    /// # Source
    /// SentencePiece 0.2 `Normalizer::NormalizePrefix`.
    pub fn normalize(&self, text: &str) -> String {
        let (mut out, mut rest) = (String::with_capacity(text.len()), text);
        while let Some(first) = rest.chars().next() {
            let found = self.longest(rest.as_bytes()).filter(|(length, _)| rest.is_char_boundary(*length));
            match found.and_then(|(length, at)| Some((length, self.replacement(at)?))) {
                Some((length, replacement)) => {
                    out.push_str(replacement);
                    rest = &rest[length..];
                }
                None => {
                    out.push(first);
                    rest = &rest[first.len_utf8()..];
                }
            }
        }
        out
    }

    /// Length of the longest rule that `text` begins with, and where its replacement lies.
    fn longest(&self, text: &[u8]) -> Option<(usize, usize)> {
        let offset = |unit: u32| ((unit >> 10) << ((unit & (1 << 9)) >> 6)) as usize;
        let mut at = offset(*self.units.first()?);
        let mut found = None;
        for (i, byte) in text.iter().enumerate() {
            at ^= usize::from(*byte);
            let unit = *self.units.get(at)?;
            if unit & (1 << 31 | 0xff) != u32::from(*byte) {
                break;
            }
            at ^= offset(unit);
            if unit >> 8 & 1 == 1 {
                found = self.units.get(at).map(|leaf| (i + 1, (leaf & !(1 << 31)) as usize));
            }
        }
        found
    }

    fn replacement(&self, at: usize) -> Option<&str> {
        self.replacements.get(at..)?.split_once('\0').map(|(replacement, _)| replacement)
    }
}

/// The bytes of a text in base 64, as tokenizer.json holds such rules.
pub fn from_base64(text: &str) -> Option<Vec<u8>> {
    let (mut out, mut bits, mut count) = (Vec::with_capacity(text.len() / 4 * 3), 0u32, 0);
    for c in text.trim_end_matches('=').bytes() {
        let digit = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(digit);
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_charsmap_is_refused_or_changes_nothing() {
        assert!(Charsmap::parse(&[]).is_none());
        assert!(Charsmap::parse(&[0; 4]).is_none());
        assert!(Charsmap::parse(&[9, 0, 0, 0, 1]).is_none());
        assert!(Charsmap::parse(&[6, 0, 0, 0, 1, 2, 3, 4, 5, 6]).is_none());
        assert!(Charsmap::parse(&[4, 0, 0, 0, 1, 2, 3, 4, 255]).is_none());
        for bytes in [&[4, 0, 0, 0, 255, 255, 255, 255][..], &[8, 0, 0, 0, 0, 4, 0, 0, 1, 2, 3, 4]] {
            assert_eq!(Charsmap::parse(bytes).unwrap().normalize("a\0é"), "a\0é");
        }
    }

    #[test]
    fn base64() {
        assert_eq!(from_base64("AP+/aGk=").unwrap(), [0, 255, 191, b'h', b'i']);
        assert_eq!(from_base64("A-B"), None);
    }
}

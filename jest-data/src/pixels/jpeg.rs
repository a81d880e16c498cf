//! Finds out whether a JPEG file is whole: decoders paint what is missing grey and report success.

/// Whether the marker segments run from start to end-of-image without a gap.
pub(super) fn is_complete(bytes: &[u8]) -> bool {
    let mut at = 2;
    loop {
        let Some(marker) = next_marker(bytes, &mut at) else { return false };
        match marker {
            0xd9 => return true,
            // Stand-alone markers: restart, temporary, start of image.
            0x01 | 0xd0..=0xd8 => {}
            _ => match bytes.get(at..at + 2) {
                Some(&[high, low]) => at += usize::from(u16::from_be_bytes([high, low])).max(2),
                _ => return false,
            },
        }
    }
}

/// The next marker at or after `at`, over fill bytes and entropy-coded data; `at` moves behind it.
fn next_marker(bytes: &[u8], at: &mut usize) -> Option<u8> {
    loop {
        let rest = bytes.get(*at..)?;
        let escape = rest.iter().position(|b| *b == 0xff)?;
        let marker = *rest.get(escape + 1)?;
        *at += escape + if marker == 0xff { 1 } else { 2 };
        if marker != 0x00 && marker != 0xff {
            return Some(marker);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn completeness() {
        let whole = [
            0xff, 0xd8, 0xff, 0xe0, 0, 4, 0xff, 0xd9, 0xff, 0xda, 0, 2, 1, 0xff, 0, 2, 0xff, 0xd0, 3, 0xff, 0xff, 0xd9,
        ];
        assert!(is_complete(&whole));
        for end in 0..whole.len() - 1 {
            assert!(!is_complete(&whole[..end]), "cut at {end}");
        }
    }
}

//! Pictures inside the page.

use image::error::{ParameterError, ParameterErrorKind};
use image::imageops::{FilterType, resize};
use image::{ImageError, ImageFormat, RgbImage};

/// Side above which a picture is made smaller, in pixels.
const LARGEST: u32 = 128;

/// A square picture as a `data:` address of a PNG.
pub(super) fn data_address(rgb: &[u8], side: usize) -> Result<String, ImageError> {
    let wrong = || ImageError::Parameter(ParameterError::from_kind(ParameterErrorKind::DimensionMismatch));
    let side = u32::try_from(side).map_err(|_| wrong())?;
    let mut picture = RgbImage::from_raw(side, side, rgb.to_vec()).ok_or_else(wrong)?;
    if side > LARGEST {
        picture = resize(&picture, LARGEST, LARGEST, FilterType::Triangle);
    }
    let mut png = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut png, ImageFormat::Png)?;
    Ok(format!("data:image/png;base64,{}", base64(png.get_ref())))
}

/// RFC 4648, with padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for digit in 0..4 {
            let index = (bits >> (18 - 6 * digit) & 63) as usize;
            text.push(if digit <= chunk.len() { char::from(DIGITS[index]) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_as_in_the_rfc() {
        for (bytes, expected) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(bytes.as_bytes()), expected);
        }
        assert_eq!(base64(&[0xfb, 0xff, 0xbf]), "+/+/");
    }

    #[test]
    fn pictures_are_png_and_wrong_sizes_are_refused() {
        assert!(data_address(&[7; 3 * 4 * 4], 4).unwrap().starts_with("data:image/png;base64,iVBORw0KGgo"));
        assert!(data_address(&[7; 5], 4).is_err());
        let large = data_address(&[7; 3 * 256 * 256], 256).unwrap();
        assert!(large.len() < 2000, "{}", large.len());
    }
}

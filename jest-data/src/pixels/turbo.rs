//! JPEG by libjpeg-turbo, which Pillow uses too: the same pixels, byte for byte.

use turbojpeg::{Colorspace, Decompressor, Image, PixelFormat};

/// Scans of a progressive file that are read; a hostile one has thousands, each as slow as a picture.
const SCANS: u32 = 100;

/// The pixels of a file that libjpeg-turbo reads without a doubt, `[height, width, 3]`. None for what it refuses or warns of, and for
/// CMYK, which it leaves to others.
pub(super) fn rgb(bytes: &[u8], width: usize, height: usize) -> Option<Vec<u8>> {
    let mut decoder = Decompressor::new().ok()?;
    decoder.set_scan_limit(SCANS).ok()?;
    let header = decoder.read_header(bytes).ok()?;
    let plain = matches!(header.colorspace, Colorspace::RGB | Colorspace::YCbCr | Colorspace::Gray);
    if !plain || (header.width, header.height) != (width, height) {
        return None;
    }
    let mut pixels = vec![0; height.checked_mul(width)?.checked_mul(3)?];
    let out = Image { pixels: pixels.as_mut_slice(), width, pitch: width * 3, height, format: PixelFormat::RGB };
    decoder.decompress(bytes, out).ok()?;
    Some(pixels)
}

//! Image files to RGB bytes: the format is read from the bytes, the size from the header, before memory is taken.

use super::jpeg;
use crate::{Limits, SkipReason};
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader};
use std::io::Cursor;

/// Bytes a decoder may take beside the pixels.
const WORKSPACE: u64 = 64 << 20;

/// An image of 8-bit RGB pixels, rows from top to bottom, `[height, width, 3]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RgbImage {
    /// Pixels in a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `height * width * 3` bytes.
    pub data: Vec<u8>,
}

/// The picture in a PNG, JPEG or WebP file, converted to RGB as Pillow's `convert("RGB")` does it.
///
/// Grey is repeated, alpha is dropped (not blended), palettes are looked up, of 16 bits the high 8 are kept; the first frame of an
/// animation is taken and EXIF rotation is ignored. One difference: 16-bit grey keeps its high byte too, where Pillow clips at 255
/// and returns a white image. JPEG may be a few levels off, as its decoder is another one; with the feature `turbo` it is Pillow's.
///
/// # Errors
/// The reason to skip it: `unknown_format`; `image_too_large`, from the header; `decode_error` for whatever is truncated or corrupt.
pub fn decode_rgb(bytes: &[u8], limits: &Limits) -> Result<RgbImage, (SkipReason, String)> {
    let format = match image::guess_format(bytes) {
        Ok(format @ (ImageFormat::Png | ImageFormat::Jpeg | ImageFormat::WebP)) => format,
        Ok(other) => return Err((SkipReason::UnknownFormat, format!("{other:?}"))),
        Err(_) => return Err((SkipReason::UnknownFormat, first_bytes(bytes))),
    };
    // A decoder that panics on a hostile file costs one sample, not the run.
    let decoded = std::panic::catch_unwind(|| decode(bytes, format, limits));
    decoded.unwrap_or_else(|_| Err((SkipReason::DecodeError, "the decoder panicked".to_string())))
}

fn decode(bytes: &[u8], format: ImageFormat, limits: &Limits) -> Result<RgbImage, (SkipReason, String)> {
    let failed = |e: image::ImageError| (SkipReason::DecodeError, e.to_string());
    let mut allowed = image::Limits::no_limits();
    allowed.max_alloc = Some(limits.image_pixels.saturating_mul(8).saturating_add(WORKSPACE));
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(allowed.clone());
    let mut decoder = reader.into_decoder().map_err(failed)?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > limits.image_pixels {
        return Err((SkipReason::ImageTooLarge, format!("{width} x {height}, limit {} pixels", limits.image_pixels)));
    }
    if width == 0 || height == 0 {
        return Err((SkipReason::DecodeError, format!("{width} x {height} pixels")));
    }
    if format == ImageFormat::Jpeg && !jpeg::is_complete(bytes) {
        return Err((SkipReason::DecodeError, "JPEG ends before its end-of-image marker".to_string()));
    }
    #[cfg(feature = "turbo")]
    if format == ImageFormat::Jpeg
        && let Some(data) = super::turbo::rgb(bytes, width as usize, height as usize)
    {
        return Ok(RgbImage { width: width as usize, height: height as usize, data });
    }
    decoder.set_limits(allowed).map_err(failed)?;
    let image = DynamicImage::from_decoder(decoder).map_err(failed)?;
    Ok(RgbImage { width: width as usize, height: height as usize, data: to_rgb(image) })
}

fn to_rgb(image: DynamicImage) -> Vec<u8> {
    let high = |v: &u16| (v >> 8) as u8;
    match image {
        DynamicImage::ImageRgb8(image) => image.into_raw(),
        DynamicImage::ImageRgba8(image) => image.as_raw().chunks_exact(4).flat_map(|p| [p[0], p[1], p[2]]).collect(),
        DynamicImage::ImageLuma8(image) => image.as_raw().iter().flat_map(|l| [*l; 3]).collect(),
        DynamicImage::ImageLumaA8(image) => image.as_raw().chunks_exact(2).flat_map(|p| [p[0]; 3]).collect(),
        DynamicImage::ImageRgb16(image) => image.as_raw().iter().map(high).collect(),
        DynamicImage::ImageRgba16(image) => {
            image.as_raw().chunks_exact(4).flat_map(|p| [0, 1, 2].map(|c| high(&p[c]))).collect()
        }
        DynamicImage::ImageLuma16(image) => image.as_raw().iter().flat_map(|l| [high(l); 3]).collect(),
        DynamicImage::ImageLumaA16(image) => image.as_raw().chunks_exact(2).flat_map(|p| [high(&p[0]); 3]).collect(),
        other => other.into_rgb8().into_raw(),
    }
}

fn first_bytes(bytes: &[u8]) -> String {
    match bytes {
        [] => "empty file".to_string(),
        _ => format!("starts with {:?}", String::from_utf8_lossy(&bytes[..bytes.len().min(12)])),
    }
}

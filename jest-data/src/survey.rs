//! One look at every sample of a data set without decoding pictures: for statistics, and for writing shards anew.

use crate::example::Place;
use crate::shard::{Found, read_samples};
use crate::{ExampleId, Limits, Skip, SkipReason, Source};
use image::{ImageFormat, ImageReader};
use std::io::Cursor;

/// What a picture's header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PictureHeader {
    /// Usual ending of its format: `jpg`, `png` or `webp`.
    pub ending: &'static str,
    /// Pixels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
}

/// A sample as it lies on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Surveyed {
    /// The id of the example that it becomes.
    pub id: ExampleId,
    /// Its key within its shard.
    pub key: String,
    /// Bytes of the picture's file.
    pub image: Vec<u8>,
    /// What they say of themselves.
    pub header: PictureHeader,
    /// Its captions, one at least.
    pub captions: Vec<String>,
    /// Its JSON.
    pub json: Option<String>,
    /// Its label.
    pub class: Option<String>,
}

/// Hands every sample with a picture and a caption to `sample`, in order, and everything else to `skip`.
///
/// # Errors
/// What `sample` reports; the survey ends there.
pub fn survey<E>(
    source: &Source,
    limits: &Limits,
    mut sample: impl FnMut(Surveyed) -> std::result::Result<(), E>,
    mut skip: impl FnMut(Skip),
) -> std::result::Result<(), E> {
    for shard in source.shards() {
        let place = Place { source: source.shared_name(), shard: shard.name.clone() };
        let samples = match read_samples(shard, None, limits) {
            Ok(samples) => samples,
            Err(broken) => {
                skip(place.skip(broken.reason, None, broken.detail));
                continue;
            }
        };
        for found in samples {
            let raw = match found {
                Found::Sample(raw) => raw,
                Found::Note(key, broken) => {
                    skip(place.skip(broken.reason, key, broken.detail));
                    continue;
                }
            };
            let (id, key) = (raw.id(&place), raw.key.clone());
            match look(id, raw, limits) {
                Ok(surveyed) => sample(surveyed)?,
                Err((reason, detail)) => skip(place.skip(reason, Some(key), detail)),
            }
        }
    }
    Ok(())
}

fn look(
    id: ExampleId,
    mut raw: crate::shard::RawSample,
    limits: &Limits,
) -> std::result::Result<Surveyed, (SkipReason, String)> {
    raw.load(limits);
    if let Some(broken) = raw.refused {
        return Err((broken.reason, broken.detail));
    }
    let image = raw.image.ok_or((SkipReason::NoImage, String::new()))?;
    let header = picture_header(&image)?;
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).ok();
    if raw.captions.is_empty() {
        return Err((SkipReason::NoCaption, String::new()));
    }
    let captions: Vec<String> = raw.captions.into_iter().filter_map(text).collect();
    if captions.is_empty() {
        return Err((SkipReason::CaptionNotUtf8, String::new()));
    }
    let (json, class) = (raw.json.and_then(text), raw.class.and_then(text));
    Ok(Surveyed { id, key: raw.key, image, header, captions, json, class })
}

fn picture_header(bytes: &[u8]) -> std::result::Result<PictureHeader, (SkipReason, String)> {
    let unknown = || (SkipReason::UnknownFormat, format!("{} bytes", bytes.len()));
    let ending = match image::guess_format(bytes) {
        Ok(ImageFormat::Jpeg) => "jpg",
        Ok(ImageFormat::Png) => "png",
        Ok(ImageFormat::WebP) => "webp",
        _ => return Err(unknown()),
    };
    let reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|_| unknown())?;
    let (width, height) = reader.into_dimensions().map_err(|e| (SkipReason::DecodeError, e.to_string()))?;
    Ok(PictureHeader { ending, width, height })
}

//! Shards made on the spot.

use std::fs;
use std::ops::Range;
use std::path::Path;

use image::{ExtendedColorType, ImageEncoder};

const COLORS: [&str; 6] = ["red", "green", "blue", "white", "black", "brown"];
const THINGS: [&str; 7] = ["cat", "house", "tree", "boat", "clock", "bird", "shoe"];

/// Writes a file; makes its folder.
pub fn write(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// A picture that differs with its seed.
pub fn png(seed: u32) -> Vec<u8> {
    let rgb: Vec<u8> = (0..12 * 9 * 3u32)
        .map(|i| (i.wrapping_mul(2_654_435_761).wrapping_add(seed.wrapping_mul(40_503_001)) >> 13) as u8)
        .collect();
    let mut bytes = Vec::new();
    let encoder = image::codecs::png::PngEncoder::new(&mut bytes);
    encoder.write_image(&rgb, 12, 9, ExtendedColorType::Rgb8).unwrap();
    bytes
}

/// The header of a PNG that claims this many pixels a side, and nothing behind it.
pub fn bomb(side: u32) -> Vec<u8> {
    let mut bytes = png(0);
    for at in [16, 20] {
        bytes[at..at + 4].copy_from_slice(&side.to_be_bytes());
    }
    let crc = crc32(&bytes[12..29]);
    bytes[29..33].copy_from_slice(&crc.to_be_bytes());
    bytes
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    })
}

/// Members one after the other, without the end mark.
pub fn members<'a>(files: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, content).unwrap();
    }
    let mut bytes = archive.into_inner().unwrap();
    bytes.truncate(bytes.len() - 1024);
    bytes
}

/// The archive that ends here.
pub fn end(mut members: Vec<u8>) -> Vec<u8> {
    members.resize(members.len() + 1024, 0);
    members
}

/// Members of the examples of these numbers, without the end mark.
pub fn examples(numbers: Range<u32>) -> Vec<u8> {
    let one = |i: u32| {
        let (color, thing) = (COLORS[i as usize % 6], THINGS[i as usize % 7]);
        let caption = format!("a {color} {thing} number {i}");
        let json = format!("{{\"concept\": \"{thing}\", \"captions\": [\"{caption}\", \"a {thing}\"]}}");
        let [picture, text, data] = ["png", "txt", "json"].map(|extension| format!("{i:05}.{extension}"));
        members([(&*picture, &png(i)[..]), (&*text, caption.as_bytes()), (&*data, json.as_bytes())])
    };
    numbers.flat_map(one).collect()
}

/// An archive of the examples of these numbers.
pub fn good(numbers: Range<u32>) -> Vec<u8> {
    end(examples(numbers))
}

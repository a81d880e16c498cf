//! Pictures that nobody has to fetch: two coloured halves, and a caption that names them.

use super::{Shard, ShardKind};
use image::ImageEncoder;
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use std::path::PathBuf;

/// Samples of one shard.
const SHARD: u64 = 1024;
const SIZE: u32 = 32;
const COLOURS: [(&str, [u8; 3]); 8] = [
    ("red", [220, 30, 30]),
    ("green", [30, 160, 60]),
    ("blue", [40, 70, 220]),
    ("yellow", [240, 220, 40]),
    ("purple", [140, 40, 170]),
    ("orange", [250, 140, 20]),
    ("white", [245, 245, 245]),
    ("black", [15, 15, 15]),
];

pub(super) fn shards(count: u64) -> Vec<Shard> {
    let shard = |first| Shard {
        path: PathBuf::new(),
        name: "synthetic".into(),
        kind: ShardKind::Synthetic(first, SHARD.min(count - first)),
    };
    (0..count).step_by(SHARD as usize).map(shard).collect()
}

/// PNG and caption of synthetic example `i`: a function of `i` alone. `x over y` and the width of a frame, 64 kinds in 8 widths.
pub(crate) fn draw(i: u64) -> Option<(Vec<u8>, String)> {
    let pick = |shift: u32| COLOURS[(i >> shift) as usize % COLOURS.len()];
    let (above, below, frame) = (pick(0), pick(3), (i >> 6) as u32 % 8);
    let inside = |at: u32| (frame..SIZE - frame).contains(&at);
    let pixel = |at: u32| match (at % SIZE, at / SIZE) {
        (x, y) if !inside(x) || !inside(y) => [128; 3],
        (_, y) if y < SIZE / 2 => above.1,
        _ => below.1,
    };
    let rgb: Vec<u8> = (0..SIZE * SIZE).flat_map(pixel).collect();
    let mut png = Vec::new();
    let encoder = PngEncoder::new_with_quality(&mut png, CompressionType::Fast, FilterType::Up);
    encoder.write_image(&rgb, SIZE, SIZE, image::ExtendedColorType::Rgb8).ok()?;
    let frame = if frame == 0 { String::new() } else { format!(" in a grey frame of {frame} pixels") };
    Some((png, format!("{} over {}{frame}", above.0, below.0)))
}

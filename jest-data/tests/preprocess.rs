//! Pixels against Pillow's: `fixtures/preprocess`, made by the scripts named in `fixtures/README.md`.
// Helpers fail as tests do.
#![allow(clippy::unwrap_used)]

use jest_data::{Interpolation, Limits, Preprocess, ResizeMode, SkipReason, decode_rgb};
use safetensors::SafeTensors;
use std::path::{Path, PathBuf};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/preprocess")
}

#[test]
fn every_pixel_equals_pillows() {
    let bytes = std::fs::read(fixtures().join("expected.safetensors")).unwrap();
    let expected = SafeTensors::deserialize(&bytes).unwrap();
    let mut checked = 0;
    for (name, tensor) in expected.tensors() {
        let (file, size) = name.rsplit_once('.').unwrap();
        let pre = Preprocess::siglip(size.parse().unwrap());
        let image =
            decode_rgb(&std::fs::read(fixtures().join(format!("{file}.png"))).unwrap(), &Limits::default()).unwrap();
        let mut pixels = Vec::new();
        pre.normalize(&pre.resize(&image), &mut pixels);
        let want: Vec<f32> = tensor.data().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        assert_eq!(pixels.len(), want.len(), "{name}");
        let differing = pixels.iter().zip(&want).filter(|(a, b)| a.to_bits() != b.to_bits()).count();
        assert_eq!(differing, 0, "{name}: {differing} of {} values differ", want.len());
        checked += 1;
    }
    assert_eq!(checked, 15);
}

#[test]
fn every_square_equals_open_clips() {
    let bytes = std::fs::read(fixtures().join("squares.safetensors")).unwrap();
    let expected = SafeTensors::deserialize(&bytes).unwrap();
    for (name, tensor) in expected.tensors() {
        let [mode, filter, size, file] = name.splitn(4, '.').collect::<Vec<_>>()[..] else { panic!("{name}") };
        let word = |word: &str| format!("\"{word}\"");
        let pre = Preprocess {
            resize_mode: serde_json::from_str(&word(mode)).unwrap(),
            interpolation: serde_json::from_str(&word(filter)).unwrap(),
            ..Preprocess::siglip(size.parse().unwrap())
        };
        let bytes = std::fs::read(fixtures().join(format!("{file}.png"))).unwrap();
        let square = pre.resize(&decode_rgb(&bytes, &Limits::default()).unwrap());
        let differing = square.iter().zip(tensor.data()).filter(|(a, b)| a != b).count();
        assert_eq!((square.len(), differing), (tensor.data().len(), 0), "{name}");
    }
    assert_eq!(expected.len(), 70);
}

/// Fault 9: one pixel, one column, CMYK, 16 bits, palettes with transparency, animation, rotation in EXIF.
#[test]
fn unusual_modes_become_rgb_as_in_pillow() {
    let mut checked = 0;
    for entry in std::fs::read_dir(fixtures().join("modes")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_string();
        if name.ends_with(".rgb.png") {
            continue;
        }
        let found = decode_rgb(&std::fs::read(&path).unwrap(), &Limits::default()).unwrap();
        let want = decode_rgb(&std::fs::read(path.with_extension("rgb.png")).unwrap(), &Limits::default()).unwrap();
        assert_eq!((found.width, found.height), (want.width, want.height), "{name}");
        // Only JPEG leaves a decoder any freedom.
        let tolerance = if name.ends_with(".jpg") { 4 } else { 0 };
        let worst = found.data.iter().zip(&want.data).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
        assert!(worst <= tolerance, "{name}: off by {worst}, allowed {tolerance}");
        checked += 1;
    }
    assert_eq!(checked, 13);
}

#[test]
fn keys_differ_with_every_field() {
    let pre = Preprocess::siglip(32);
    let others = [
        Preprocess::siglip(48),
        Preprocess { mean: [0.5, 0.5, 0.4], ..pre },
        Preprocess { std: [0.5, 0.4, 0.5], ..pre },
        Preprocess { resize_mode: ResizeMode::Shortest, ..pre },
        Preprocess { interpolation: Interpolation::Bilinear, ..pre },
    ];
    assert!(others.iter().all(|other| other.key() != pre.key()));
    assert_eq!(pre.key(), Preprocess::siglip(32).key());
}

#[test]
fn a_small_limit_refuses_from_the_header() {
    let bytes = std::fs::read(fixtures().join("1_RGB.png")).unwrap();
    let limits = Limits { image_pixels: 200 * 120 - 1, ..Limits::default() };
    assert_eq!(decode_rgb(&bytes, &limits).unwrap_err().0, SkipReason::ImageTooLarge);
}

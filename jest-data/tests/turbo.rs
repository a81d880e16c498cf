//! JPEG by libjpeg-turbo: the pixels of Pillow, and what is broken as without it.
// Helpers fail as tests do.
#![allow(clippy::unwrap_used)]

use jest_data::{Limits, SkipReason, decode_rgb};
use safetensors::SafeTensors;
use std::path::Path;

/// A file and its pixels.
struct Golden {
    name: String,
    bytes: Vec<u8>,
    /// Height, width, 3.
    shape: Vec<usize>,
    rgb: Vec<u8>,
}

/// What `fixtures/preprocess/make_jpegs.py` has written.
fn fixtures() -> Vec<Golden> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/preprocess/jpegs.safetensors");
    let bytes = std::fs::read(path).unwrap();
    let all = SafeTensors::deserialize(&bytes).unwrap();
    let golden = |(file, tensor): (String, safetensors::tensor::TensorView<'_>)| {
        let name = file.strip_suffix(".jpg")?.to_string();
        let rgb = all.tensor(&format!("{name}.rgb")).unwrap();
        Some(Golden { name, bytes: tensor.data().to_vec(), shape: rgb.shape().to_vec(), rgb: rgb.data().to_vec() })
    };
    all.tensors().into_iter().filter_map(golden).collect()
}

#[test]
fn every_pixel_of_a_jpeg_equals_pillows() {
    let all = fixtures();
    assert_eq!(all.len(), 7);
    for Golden { name, bytes, shape, rgb: want } in all {
        let image = decode_rgb(&bytes, &Limits::default()).unwrap();
        assert_eq!((image.height, image.width), (shape[0], shape[1]), "{name}");
        let differing = image.data.iter().zip(&want).filter(|(a, b)| a != b).count();
        assert_eq!((image.data.len(), differing), (want.len(), 0), "{name}");
    }
}

#[test]
fn a_jpeg_that_is_cut_short_is_refused_at_every_byte() {
    for Golden { name, bytes, .. } in fixtures() {
        for cut in 3..bytes.len() - 1 {
            let reason = decode_rgb(&bytes[..cut], &Limits::default()).unwrap_err().0;
            assert_eq!(reason, SkipReason::DecodeError, "{name} cut at {cut}");
        }
    }
}

/// Any byte may be any other: a picture of the size that the header says, or an error that names why.
#[test]
fn flipped_bits_give_a_picture_or_an_error() {
    let limits = Limits { image_pixels: 100_000, ..Limits::default() };
    let (mut pictures, mut errors) = (0, 0);
    for Golden { name, bytes, .. } in fixtures() {
        for at in 0..bytes.len() {
            let mut broken = bytes.clone();
            broken[at] ^= 1 << (at % 8);
            match decode_rgb(&broken, &limits) {
                Ok(image) => {
                    pictures += 1;
                    assert_eq!(image.data.len(), image.width * image.height * 3, "{name} at {at}");
                }
                Err((reason, detail)) => {
                    errors += 1;
                    let known = [SkipReason::DecodeError, SkipReason::ImageTooLarge, SkipReason::UnknownFormat];
                    assert!(
                        known.contains(&reason) && !detail.contains("panicked"),
                        "{name} at {at}: {reason} {detail}"
                    );
                }
            }
        }
    }
    assert!(pictures > 100 && errors > 100, "{pictures} pictures, {errors} errors");
}

/// Where the marker segment `kind` begins.
fn segment(bytes: &[u8], kind: u8) -> usize {
    bytes.windows(2).position(|pair| pair == [0xff, kind]).unwrap()
}

#[test]
fn sizes_and_scans_of_a_bomb_cost_nothing() {
    let all = fixtures();
    let file = |name: &str| all.iter().find(|golden| golden.name == name).unwrap().bytes.clone();
    let mut huge = file("420");
    let frame = segment(&huge, 0xc0);
    huge[frame + 5..frame + 9].copy_from_slice(&[0xea, 0x60, 0xea, 0x60]);
    let (reason, detail) = decode_rgb(&huge, &Limits::default()).unwrap_err();
    assert!(reason == SkipReason::ImageTooLarge && detail.contains("60000 x 60000"), "{reason} {detail}");
    // The first scan, over and over: refused after so many, not decoded ten thousand times.
    let many = file("progressive");
    let (first, end) = (segment(&many, 0xda), many.len() - 2);
    let next = first + 2 + segment(&many[first + 2..], 0xc4);
    let bomb = [&many[..first], &many[first..next].repeat(10_000), &many[next..end], &many[end..]].concat();
    assert_eq!(decode_rgb(&bomb, &Limits::default()).unwrap_err().0, SkipReason::DecodeError);
}

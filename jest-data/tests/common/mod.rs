//! Shards and images made on the spot.
// Each test file uses some of it, and helpers fail as tests do.
#![allow(dead_code, clippy::unwrap_used)]

use image::{ExtendedColorType, ImageEncoder};
use jest_data::{LoaderConfig, Preprocess, ReadAll, SkipReport, Source, SuperBatch, Tokenizer, read_all};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// The sample data that is shipped with the repository.
pub fn sample() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets/sample")
}

pub fn tokenizer() -> Arc<Tokenizer> {
    static TOKENIZER: OnceLock<Arc<Tokenizer>> = OnceLock::new();
    TOKENIZER.get_or_init(|| Arc::new(Tokenizer::open(&sample()).unwrap())).clone()
}

/// A small picture that differs with its seed.
pub fn pixels(width: u32, height: u32, seed: u32) -> Vec<u8> {
    (0..width * height * 3)
        .map(|i| (i.wrapping_mul(2_654_435_761).wrapping_add(seed.wrapping_mul(97)) >> 13) as u8)
        .collect()
}

pub fn png(seed: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    let encoder = image::codecs::png::PngEncoder::new(&mut bytes);
    encoder.write_image(&pixels(12, 9, seed), 12, 9, ExtendedColorType::Rgb8).unwrap();
    bytes
}

pub fn jpeg(seed: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    let encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, 90);
    encoder.write_image(&pixels(40, 30, seed), 40, 30, ExtendedColorType::Rgb8).unwrap();
    bytes
}

/// A tar header with a right checksum.
pub fn header(name: &str, size: u64, kind: tar::EntryType) -> [u8; 512] {
    let mut header = tar::Header::new_gnu();
    header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_size(size);
    header.set_mode(0o644);
    header.set_entry_type(kind);
    header.set_cksum();
    *header.as_bytes()
}

/// Members one after the other, without the end mark.
pub fn members(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = Vec::new();
    for (name, content) in files {
        tar.extend(header(name, content.len() as u64, tar::EntryType::Regular));
        tar.extend_from_slice(content);
        tar.resize(tar.len().next_multiple_of(512), 0);
    }
    tar
}

/// A whole archive.
pub fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = members(files);
    tar.resize(tar.len() + 1024, 0);
    tar
}

/// An archive of `n` good samples with keys `PREFIX0`...
pub fn good(prefix: &str, n: u32) -> Vec<u8> {
    let mut tar = Vec::new();
    for i in 0..n {
        let caption = format!("picture {i} of {prefix}");
        tar.extend(members(&[
            (&format!("{prefix}{i}.png"), &png(i)),
            (&format!("{prefix}{i}.txt"), caption.as_bytes()),
        ]));
    }
    tar.resize(tar.len() + 1024, 0);
    tar
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, bytes).unwrap();
    encoder.finish().unwrap()
}

/// Writes shards into a fresh folder.
pub fn folder(shards: &[(&str, Vec<u8>)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in shards {
        std::fs::write(folder.path().join(name), bytes).unwrap();
    }
    folder
}

/// A configuration that tolerates any share of bad samples.
pub fn config(folder: &Path) -> LoaderConfig {
    let sources = vec![Source::parse(&format!("test={}", folder.display())).unwrap()];
    let mut config = LoaderConfig::new(sources, Preprocess::siglip(8), tokenizer(), 8);
    config.limits.max_skipped_share = 1.0;
    config
}

/// All batches of a pass and what was skipped.
pub fn read(config: &LoaderConfig) -> (Vec<SuperBatch>, SkipReport) {
    let mut pass: ReadAll = read_all(config, 7).unwrap();
    let batches: Vec<_> = pass.by_ref().collect::<Result<_, _>>().unwrap();
    (batches, pass.skips().clone())
}

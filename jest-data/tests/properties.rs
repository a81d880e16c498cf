//! Properties over random input: nothing panics, nothing hangs, nothing is lost.
// Helpers fail as tests do.
#![allow(clippy::unwrap_used)]

mod common;

use common::{config, folder, good, gzip};
use jest_data::{Interpolation, Limits, RgbImage, Source, decode_rgb, expand_braces, read_all, resize};
use proptest::prelude::*;

/// Reads a shard to its end; how many examples came out.
fn survive(shard: Vec<u8>) -> u64 {
    let folder = folder(&[("0.tar", shard)]);
    let mut config = config(folder.path());
    (config.workers, config.limits.member_bytes) = (1, 1 << 16);
    let mut pass = read_all(&config, 4).unwrap();
    while pass.next().is_some_and(|batch| batch.is_ok()) {}
    pass.skips().kept()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_are_no_shard(bytes in prop::collection::vec(any::<u8>(), 0..4096), zipped: bool) {
        prop_assert_eq!(survive(if zipped { gzip(&bytes) } else { bytes }), 0);
    }

    #[test]
    fn damaged_shards_give_at_most_what_was_in_them(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..12),
        cut in any::<prop::sample::Index>(),
        zipped: bool,
    ) {
        let mut shard = good("k", 5);
        if zipped {
            shard = gzip(&shard);
        }
        for (at, value) in flips {
            let at = at.index(shard.len());
            shard[at] = value;
        }
        shard.truncate(cut.index(shard.len()) + 1);
        // A damaged name can split one sample in two, but never make an image and a caption out of one.
        prop_assert!(survive(shard) <= 5);
    }

    #[test]
    fn headers_of_random_size_and_kind(kind: u8, size: u64, name in "[a-z./_]{1,40}", content in prop::collection::vec(any::<u8>(), 0..2000)) {
        let mut shard = common::header(&name, size, tar::EntryType::new(kind)).to_vec();
        shard.extend(content);
        prop_assert_eq!(survive(shard), 0);
    }

    #[test]
    fn any_bytes_behind_an_image_signature(which in 0usize..3, rest in prop::collection::vec(any::<u8>(), 0..600)) {
        let magic: &[u8] = [&b"\x89PNG\r\n\x1a\n"[..], b"\xff\xd8\xff", b"RIFF\x40\0\0\0WEBPVP8 "][which];
        prop_assert!(decode_rgb(&[magic, &rest].concat(), &Limits::default()).is_err());
    }

    #[test]
    fn brace_patterns_never_panic(pattern in "[{},.a0-9]{0,24}") {
        if let Ok(names) = expand_braces(&pattern) {
            prop_assert!(!names.is_empty());
        }
    }

    #[test]
    fn a_range_has_its_numbers_at_its_width(first in 0u64..2000, count in 0u64..50, width in 1usize..7) {
        let names = expand_braces(&format!("s{{{first:0width$}..{:0width$}}}.tar", first + count)).unwrap();
        prop_assert_eq!(names.len() as u64, count + 1);
        for (i, name) in names.iter().enumerate() {
            prop_assert_eq!(name, &format!("s{:0width$}.tar", first + i as u64));
        }
    }

    #[test]
    fn sources_never_panic(spec in "\\PC{0,40}") {
        // Braces aside, a source may name files that do not exist.
        Source::parse_list(&spec).ok();
    }

    #[test]
    fn resize_takes_any_shape_and_leaves_its_own_alone(
        width in 1usize..40, height in 1usize..40, to in (1usize..40, 1usize..40), seed: u32,
    ) {
        let data = common::pixels(width as u32, height as u32, seed);
        let out = resize(&RgbImage { width, height, data: data.clone() }, to.0, to.1, Interpolation::Bicubic);
        prop_assert_eq!(out.data.len(), to.0 * to.1 * 3);
        if (width, height) == to {
            prop_assert_eq!(out.data, data);
        }
    }
}

//! One test a fault: what a hostile or broken shard leads to. The numbers are those of the table in `docs/data.md`; 9 is in
//! `preprocess.rs`, 11 in `mixing.rs`, 12 also in `webdataset.rs`, 14 in `remote.rs`.
// Helpers fail as tests do.
#![allow(clippy::unwrap_used)]

mod common;

use common::{archive, config, folder, good, gzip, header, jpeg, members, png, read};
use jest_data::{DataError, LoaderConfig, SkipReason, SuperBatch, decode_rgb, read_all};
use tar::EntryType;

/// Reads a shard between two good ones; checks the keys that came through and the reasons, counted.
fn check(name: &str, shard: Vec<u8>, keys: &[&str], reasons: &[(SkipReason, u64)]) -> String {
    let good = folder(&[("0.tar", good("good", 1)), (name, shard), ("2.tar", good("after", 1))]);
    let (batches, skips) = read(&config(good.path()));
    let found: Vec<_> = batches.iter().flat_map(|batch| batch.keys.iter().map(String::as_str)).collect();
    assert_eq!((found[0], found[found.len() - 1]), ("good0", "after0"), "the run goes on");
    assert_eq!(&found[1..found.len() - 1], keys, "{skips}");
    assert_eq!(skips.counts().collect::<Vec<_>>(), reasons, "{skips}");
    assert!(skips.first().iter().all(|skip| &*skip.shard == name && &*skip.source == "test"), "{skips}");
    skips.to_string()
}

/// One sample with these members, skipped for this reason.
fn refused(files: &[(&str, &[u8])], reason: SkipReason) -> String {
    check("1.tar", archive(files), &[], &[(reason, 1)])
}

/// Fault 1.
#[test]
fn truncated_tar_keeps_the_samples_before_the_cut() {
    let whole = good("k", 3);
    let second = good("k", 2).len() - 1024;
    check("1.tar", whole[..second + 700].to_vec(), &["k0", "k1"], &[(SkipReason::TarTruncated, 1)]);
    check("1.tar", whole[..second + 100].to_vec(), &["k0", "k1"], &[(SkipReason::TarTruncated, 1)]);
    let between = check("1.tar", whole[..second].to_vec(), &["k0", "k1"], &[(SkipReason::TarTruncated, 1)]);
    assert!(between.contains("no end mark"), "{between}");
    check("1.tar", Vec::new(), &[], &[(SkipReason::TarTruncated, 1)]);
}

/// Fault 2.
#[test]
fn garbage_in_the_middle_is_reported_with_its_offset() {
    let whole = good("k", 4);
    let at = good("k", 2).len() - 1024;
    let (mut garbage, mut flipped, mut shifted) = (whole.clone(), whole.clone(), whole);
    garbage[at..at + 512].fill(0x5a);
    // One bit of the checksum, one of the name that it covers, and bytes that were never written.
    flipped[at + 150] ^= 1;
    let mut renamed = flipped.clone();
    (renamed[at + 150], renamed[at]) = (flipped[at + 150] ^ 1, flipped[at] ^ 4);
    shifted.splice(at..at, [0x5a; 100]);
    for shard in [garbage, flipped, renamed, shifted] {
        let report = check("1.tar", shard, &["k0", "k1"], &[(SkipReason::TarDamaged, 1)]);
        assert!(report.contains(&format!("at byte {at}")), "{report}");
    }
    check("1.tar", b"not a tar at all".repeat(100), &[], &[(SkipReason::TarDamaged, 1)]);
}

#[test]
fn damaged_and_truncated_gzip() {
    let whole = gzip(&good("k", 40));
    let half = folder(&[("0.tar", good("good", 1)), ("1.tar", whole[..whole.len() / 2].to_vec())]);
    let (batches, skips) = read(&config(half.path()));
    assert!(batches.iter().map(SuperBatch::len).sum::<usize>() > 5, "{skips}");
    assert_eq!(skips.count(SkipReason::TarTruncated), 1, "{skips}");

    let mut broken = whole.clone();
    let middle = broken.len() / 2;
    broken[middle..middle + 64].fill(0xff);
    let broken = folder(&[("0.tar", good("good", 1)), ("1.tar.gz", broken)]);
    let (_, skips) = read(&config(broken.path()));
    let reasons = [SkipReason::GzDamaged, SkipReason::TarDamaged, SkipReason::TarTruncated];
    assert_eq!(reasons.iter().map(|reason| skips.count(*reason)).sum::<u64>(), 1, "{skips}");
    check("1.tar", gzip(&good("k", 2)), &["k0", "k1"], &[]);
    check("1.tar", b"\x28\xb5\x2f\xfd....".to_vec(), &[], &[(SkipReason::ShardFormat, 1)]);
}

/// Fault 3.
#[test]
fn missing_shards_are_counted_and_none_at_all_is_an_error() {
    let folder = folder(&[("0.tar", good("k", 2))]);
    let pattern = format!("test={}/{{0..2}}.tar", folder.path().display());
    let config = LoaderConfig { sources: vec![jest_data::Source::parse(&pattern).unwrap()], ..config(folder.path()) };
    let (_, skips) = read(&config);
    assert_eq!((skips.kept(), skips.count(SkipReason::ShardMissing)), (2, 2));
    let gone = jest_data::Source::parse(&format!("{}/{{7..9}}.tar", folder.path().display())).unwrap();
    let error = read_all(&LoaderConfig { sources: vec![gone], ..config.clone() }, 1).err().unwrap();
    assert!(matches!(error, DataError::NoExamples { shards: 3, .. }), "{error}");
    let mut strict = LoaderConfig { sources: vec![jest_data::Source::parse(&pattern).unwrap()], ..config };
    for (limit, refused) in [(0, true), (1, true), (2, false)] {
        strict.limits.max_missing_shards = Some(limit);
        let answer = read_all(&strict, 1).err().map(|e| e.to_string()).unwrap_or_default();
        assert_eq!(
            answer.contains(&format!("2 of 3 shards are missing, more than the limit of {limit}")),
            refused,
            "{answer}"
        );
    }
}

/// Fault 3, for a shard that is there and may not be read.
#[cfg(unix)]
#[test]
fn a_shard_that_cannot_be_opened_is_counted() {
    // A missing permission stops nobody who is superuser; the system refuses to open these two for everyone: a link to itself, which
    // does not seem to be there, and a socket, which does.
    let folder = folder(&[("0.tar", good("k", 2)), ("3.tar", good("l", 1))]);
    std::os::unix::fs::symlink("1.tar", folder.path().join("1.tar")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(folder.path().join("2.tar")).unwrap();
    let (_, skips) = read(&config(folder.path()));
    assert_eq!((skips.kept(), skips.skipped(), skips.count(SkipReason::ShardMissing)), (3, 2, 2), "{skips}");
    for (skip, name) in skips.first().iter().zip(["1.tar", "2.tar"]) {
        assert!(&*skip.shard == name && skip.detail.contains(name) && skip.detail.contains("os error"), "{skip}");
    }
}

/// Fault 13: one tiny shard, and many more workers than shards.
#[test]
fn one_tiny_shard_serves_any_number_of_workers() {
    let folder = folder(&[("0.tar", good("k", 1))]);
    for workers in [1, 2, 16] {
        let config = LoaderConfig { workers, prefetch: 1 + workers % 2, ..config(folder.path()) };
        let mut loader = jest_data::Loader::new(config, Default::default()).unwrap();
        for epoch in 0..50 {
            assert_eq!(loader.next_super_batch(1).unwrap().keys, ["k0"], "{workers} workers");
            assert!(loader.state().epoch <= epoch + 1);
        }
    }
}

/// Fault 4.
#[test]
fn a_member_of_8_gib_is_refused_before_allocation() {
    let claim = |name: &str, size| header(name, size, EntryType::Regular).to_vec();
    let report = check("1.tar", claim("a.jpg", 8 << 30), &[], &[(SkipReason::MemberTooLarge, 1)]);
    assert!(report.contains("8589934592"), "{report}");
    check("1.tar", claim("a.jpg", u64::MAX), &[], &[(SkipReason::MemberTooLarge, 1)]);
    let long_name = header("././@LongLink", 1 << 40, EntryType::GNULongName).to_vec();
    check("1.tar", long_name, &[], &[(SkipReason::MemberTooLarge, 1)]);
    let pax = header("pax", 1 << 30, EntryType::XHeader).to_vec();
    check("1.tar", pax, &[], &[(SkipReason::MemberTooLarge, 1)]);
    // The header is honest, and a PAX record before it says otherwise.
    let mut shard = header("pax", 19, EntryType::XHeader).to_vec();
    shard.extend(b"19 size=8589934592\n");
    shard.resize(shard.len().next_multiple_of(512), 0);
    shard.extend(good("k", 1));
    let report = check("1.tar", shard, &[], &[(SkipReason::MemberTooLarge, 1)]);
    assert!(report.contains("8589934592") && report.contains("limit 67108864"), "{report}");
}

#[test]
fn a_member_over_the_limit_costs_its_sample_only() {
    let picture = vec![0u8; 5000];
    let files: [(&str, &[u8]); 4] = [("a.png", &picture), ("a.txt", b"big"), ("b.png", &png(1)), ("b.txt", b"small")];
    let folder = folder(&[("0.tar", archive(&files))]);
    let mut config = config(folder.path());
    config.limits.member_bytes = 1000;
    let (batches, skips) = read(&config);
    assert_eq!(
        (batches[0].keys.as_slice(), skips.count(SkipReason::MemberTooLarge)),
        (&["b".to_string()][..], 1),
        "{skips}"
    );
}

#[test]
fn a_gzip_bomb_costs_no_more_than_its_limit() {
    let bomb = |size: usize| gzip(&[members(&[("a.png", &vec![0; size]), ("a.txt", b"bomb")]), good("k", 1)].concat());
    for (size, kept) in [(1_000_000, 1), (20_000_000, 0)] {
        let folder = folder(&[("0.tar.gz", bomb(size)), ("1.tar", good("l", 1))]);
        let mut config = config(folder.path());
        config.limits.member_bytes = 100_000;
        let (_, skips) = read(&config);
        // Skipped up to 16 times the limit; beyond, the shard is not worth the time.
        assert_eq!((skips.kept(), skips.count(SkipReason::MemberTooLarge)), (kept + 1, 1), "{skips}");
    }
}

/// Fault 5.
#[test]
fn odd_names_links_and_meta_members() {
    let place = tempfile::tempdir().unwrap();
    let absolute = place.path().join("planted").display().to_string();
    let mut shard =
        members(&[("../../etc/a.png", &png(1)), ("../../etc/a.txt", b"kept as text"), ("__meta__/b.png", b"x")]);
    shard.extend(members(&[(&format!("{absolute}.png"), &png(3)), (&format!("{absolute}.txt"), b"kept as text")]));
    for kind in [EntryType::Symlink, EntryType::Link, EntryType::Block, EntryType::Char, EntryType::Fifo] {
        let mut link = tar::Header::from_byte_slice(&header("link.png", 0, kind)).clone();
        link.set_link_name("/etc/hostname").unwrap();
        link.set_cksum();
        shard.extend(link.as_bytes());
    }
    shard.extend(members(&[
        ("folder/", b""),
        ("Upper.PNG", &png(2)),
        ("Upper.TXT", b"upper case"),
        ("readme", b"no dot"),
    ]));
    shard.resize(shard.len() + 1024, 0);
    check("1.tar", shard, &["../../etc/a", &absolute, "Upper"], &[]);
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0, "nothing is unpacked");
}

#[test]
fn long_names_of_both_kinds() {
    let name = format!("{}/deep", "x".repeat(150));
    let mut shard = header("././@LongLink", name.len() as u64 + 5, EntryType::GNULongName).to_vec();
    shard.extend(format!("{name}.png\0").bytes());
    shard.resize(shard.len().next_multiple_of(512), 0);
    shard.extend(members(&[("cut.png", &png(1))]));
    let line = format!(" path={name}.txt\n");
    let record = format!("{}{line}", line.len() + 3);
    shard.extend(header("pax", record.len() as u64, EntryType::XHeader));
    shard.extend(record.bytes());
    shard.resize(shard.len().next_multiple_of(512), 0);
    shard.extend(archive(&[("cut.txt", b"one sample")]));
    check("1.tar", shard, &[&name], &[]);
}

/// Fault 6.
#[test]
fn images_that_are_none() {
    for bytes in [&b"<!doctype html><html>404</html>"[..], b"", b"\0", b"GIF89a\x01\0\x01\0\0\0\0;"] {
        refused(&[("a.jpg", bytes), ("a.txt", b"caption")], SkipReason::UnknownFormat);
    }
    let png_named_jpg: [(&str, &[u8]); 2] = [("a.jpg", &png(1)), ("a.txt", b"caption")];
    check("1.tar", archive(&png_named_jpg), &["a"], &[]);
}

/// Fault 7.
#[test]
fn truncated_and_corrupt_images_are_never_half_grey() {
    let (jpeg, png) = (jpeg(1), png(1));
    for cut in [3, jpeg.len() / 3, jpeg.len() / 2, jpeg.len() - 2] {
        let result = decode_rgb(&jpeg[..cut], &Default::default());
        assert_eq!(result.unwrap_err().0, SkipReason::DecodeError, "cut at {cut} of {}", jpeg.len());
    }
    let (mut corrupt, mut sum) = (png.clone(), png.clone());
    let middle = png.len() / 2;
    corrupt[middle] ^= 0x40;
    // The checksum of the last chunk of pixels lies before the 12 bytes of the end chunk.
    let at = png.len() - 13;
    sum[at] ^= 1;
    for bytes in [&corrupt[..], &sum, &png[..png.len() / 2]] {
        refused(&[("a.png", bytes), ("a.txt", b"caption")], SkipReason::DecodeError);
    }
    refused(&[("a.jpg", &jpeg[..jpeg.len() / 2]), ("a.txt", b"caption")], SkipReason::DecodeError);
}

/// A PNG whose header states this size and whose data is a few zeros.
fn bomb(width: u32, height: u32) -> Vec<u8> {
    let chunk = |kind: &[u8; 4], data: &[u8]| {
        let mut crc = flate2::Crc::new();
        crc.update(kind);
        crc.update(data);
        [&(data.len() as u32).to_be_bytes(), &kind[..], data, &crc.sum().to_be_bytes()].concat()
    };
    let mut head = [width.to_be_bytes(), height.to_be_bytes()].concat();
    head.extend([8, 2, 0, 0, 0]);
    let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    std::io::Write::write_all(&mut zlib, &[0; 100_000]).unwrap();
    let data = zlib.finish().unwrap();
    [&b"\x89PNG\r\n\x1a\n"[..], &chunk(b"IHDR", &head), &chunk(b"IDAT", &data), &chunk(b"IEND", b"")].concat()
}

/// Fault 8.
#[test]
fn a_decompression_bomb_is_refused_from_its_header() {
    let bytes = bomb(60_000, 60_000);
    assert!(bytes.len() < 1024);
    let report = refused(&[("a.png", &bytes), ("a.txt", b"caption")], SkipReason::ImageTooLarge);
    assert!(report.contains("60000 x 60000"), "{report}");
    let peak = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = peak
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    assert!(peak.unwrap_or(0) < 1_000_000, "peak memory {peak:?} kB");
}

/// Fault 10, with the next.
#[test]
fn captions() {
    let picture = png(1);
    for caption in [&b""[..], b" \n\t", b"\0\0", b"?!...", b"\xef\xbb\xbf", "\u{a0}".as_bytes()] {
        refused(&[("a.png", &picture), ("a.txt", caption)], SkipReason::EmptyCaption);
    }
    refused(&[("a.png", &picture), ("a.txt", b"broken \xff\xfe text")], SkipReason::CaptionNotUtf8);
    refused(&[("a.png", &picture), ("a.txt", b"cut in a character \xc3")], SkipReason::CaptionNotUtf8);
    refused(&[("a.png", &picture)], SkipReason::NoCaption);
    refused(&[("a.txt", b"caption"), ("a.json", b"{}")], SkipReason::NoImage);
}

#[test]
fn a_caption_of_a_megabyte_is_cut_at_a_character() {
    let caption = "aß".repeat(400_000);
    let folder = folder(&[("0.tar", archive(&[("a.png", &png(1)), ("a.txt", caption.as_bytes())]))]);
    let (batches, _) = read(&config(folder.path()));
    assert_eq!(batches[0].captions[0], caption[..8191]);
    assert_eq!((batches[0].tokens.len(), batches[0].lengths[0], batches[0].tokens[7]), (8, 8, 1));
}

/// Fault 12, with the next.
#[test]
fn interleaved_members_are_noticed() {
    let (a, b) = (png(1), png(2));
    let files: [(&str, &[u8]); 4] = [("a.png", &a), ("b.png", &b), ("a.txt", b"one"), ("b.txt", b"two")];
    let reasons = [(SkipReason::WdsOrder, 2), (SkipReason::NoImage, 2), (SkipReason::NoCaption, 2)];
    check("1.tar", archive(&files), &[], &reasons);
}

#[test]
fn a_repeated_extension_starts_a_new_sample() {
    let (a, b) = (png(1), png(2));
    let files: [(&str, &[u8]); 4] = [("a.png", &a), ("a.txt", b"one"), ("a.png", &b), ("a.txt", b"two")];
    check("1.tar", archive(&files), &["a", "a"], &[(SkipReason::WdsOrder, 1)]);
    let folder = folder(&[("0.tar", archive(&files))]);
    let (batches, _) = read(&config(folder.path()));
    assert_ne!(batches[0].ids[0], batches[0].ids[1]);
    assert_eq!(batches[0].captions, ["one", "two"]);
}

#[test]
fn too_large_a_share_of_bad_samples_ends_the_run() {
    let picture = png(1);
    let files: [(&str, &[u8]); 5] =
        [("a.png", &picture), ("a.txt", b"good"), ("b.txt", b"bad"), ("c.txt", b"bad"), ("d.txt", b"bad")];
    let folder = folder(&[("0.tar", archive(&files))]);
    let mut config = config(folder.path());
    config.limits.max_skipped_share = 0.5;
    let error = read_all(&config, 4).unwrap().find_map(Result::err).unwrap().to_string();
    assert!(error.contains("3 of 4") && error.contains("no_image 3") && error.contains("`b`"), "{error}");
}

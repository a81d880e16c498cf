//! Fault 14: shards from a server that stalls, fails, cuts off, and works in the end or not.
// Helpers fail as tests do.
#![allow(clippy::unwrap_used)]

mod common;

use common::{config, good, gzip};
use jest_data::{
    DataError, Loader, LoaderConfig, LoaderState, RemoteOptions, SkipReason, SkipReport, Source, SourceOptions,
    SuperBatch, read_all,
};
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What the server does with one request; the last of a list is for all that follow.
#[derive(Clone, Copy, PartialEq)]
enum Act {
    Serve,
    Status(u16),
    /// Half of what was asked for, and then nothing while the connection stays open.
    Stall,
    /// Half of what was asked for, then a byte now and then.
    Drip,
    /// Half of what was asked for, and the connection is closed.
    CutOff,
    /// The connection is closed at once.
    HangUp,
    /// Half of the file, also where the rest of it is asked for.
    CutOffWithoutRanges,
    /// The file, also where the rest of it is asked for.
    ServeWithoutRanges,
    /// All of it, but a thousand bytes more are promised.
    ClaimMore,
    /// All of it, but a thousand bytes fewer are promised.
    ClaimFewer,
    /// All of it, under the name of another version.
    ServeAnother,
}

struct Server {
    address: String,
    requests: Arc<Mutex<HashMap<String, usize>>>,
}

impl Server {
    fn start(files: Vec<(&'static str, Vec<u8>, Vec<Act>)>) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(HashMap::new()));
        let (files, counts) = (Arc::new(files), requests.clone());
        std::thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let (files, counts) = (files.clone(), counts.clone());
                std::thread::spawn(move || answer(connection, &files, &counts));
            }
        });
        Server { address, requests }
    }

    fn requests(&self, name: &str) -> usize {
        self.requests.lock().unwrap().get(name).copied().unwrap_or(0)
    }
}

type Files = [(&'static str, Vec<u8>, Vec<Act>)];

fn answer(mut connection: TcpStream, files: &Files, counts: &Mutex<HashMap<String, usize>>) {
    let mut lines = BufReader::new(connection.try_clone().unwrap()).lines().map_while(Result::ok);
    let Some(request) = lines.next() else { return };
    let name = request.split(' ').nth(1).unwrap_or_default().trim_start_matches('/').to_string();
    let mut first = 0;
    for line in lines.by_ref().take_while(|line| !line.is_empty()) {
        if let Some(range) = line.to_ascii_lowercase().strip_prefix("range: bytes=") {
            first = range.split('-').next().unwrap().parse().unwrap();
        }
    }
    let before = {
        let mut counts = counts.lock().unwrap();
        let count = counts.entry(name.clone()).or_insert(0);
        *count += 1;
        *count - 1
    };
    let known = files.iter().find(|(file, _, _)| *file == name);
    let act = known.map_or(Act::Status(404), |(_, _, acts)| *acts.get(before).or(acts.last()).unwrap_or(&Act::Serve));
    let bytes: &[u8] = known.map_or(&[], |(_, bytes, _)| bytes);
    if let Act::Status(code) = act {
        write!(connection, "HTTP/1.1 {code} No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").ok();
        return;
    }
    if act == Act::HangUp {
        return;
    }
    if matches!(act, Act::CutOffWithoutRanges | Act::ServeWithoutRanges) {
        first = 0;
    }
    if first >= bytes.len() {
        write!(connection, "HTTP/1.1 416 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").ok();
        return;
    }
    // The client may give up at any time.
    send(&mut connection, act, bytes, first).ok();
}

fn send(connection: &mut TcpStream, act: Act, bytes: &[u8], first: usize) -> std::io::Result<()> {
    let (size, body) = (bytes.len(), &bytes[first..]);
    let status = if first > 0 { "206 Partial Content" } else { "200 OK" };
    let promised = match act {
        Act::ClaimMore => body.len() + 1000,
        Act::ClaimFewer => body.len() - 1000,
        _ => body.len(),
    };
    let version = if act == Act::ServeAnother { 2 } else { 1 };
    write!(
        connection,
        "HTTP/1.1 {status}\r\nContent-Length: {promised}\r\nContent-Range: bytes {first}-{}/{size}\r\n\
         ETag: \"{version}\"\r\nLast-Modified: Mon, 06 Jul 2026 10:00:00 GMT\r\nConnection: close\r\n\r\n",
        size - 1
    )?;
    let halves = [Act::Stall, Act::Drip, Act::CutOff, Act::CutOffWithoutRanges];
    connection.write_all(if halves.contains(&act) { &body[..body.len() / 2] } else { body })?;
    // Open until the client gives up.
    connection.set_read_timeout(Some(Duration::from_secs(20)))?;
    match act {
        Act::Stall => std::io::Read::read(connection, &mut [0]).map(|_| ()),
        Act::Drip => body[body.len() / 2..].chunks(1).try_for_each(|byte| {
            std::thread::sleep(Duration::from_millis(20));
            connection.write_all(byte)
        }),
        _ => Ok(()),
    }
}

fn options() -> RemoteOptions {
    // Long enough for a server on a busy machine to answer.
    let (stall, backoff) = (Duration::from_millis(1500), Duration::from_millis(2));
    RemoteOptions { stall, least_bytes: 64, retries: 3, backoff, ..RemoteOptions::default() }
}

fn reading(server: &Server, pattern: &str, remote: RemoteOptions) -> LoaderConfig {
    let options = SourceOptions { remote: Some(remote), ..SourceOptions::default() };
    let source = Source::parse_with(&format!("test={}/{pattern}", server.address), &options).unwrap();
    let place = tempfile::tempdir().unwrap();
    std::fs::write(place.path().join("0.tar"), good("x", 1)).unwrap();
    LoaderConfig { sources: vec![source], ..config(place.path()) }
}

fn read(server: &Server, pattern: &str, remote: RemoteOptions) -> (Vec<SuperBatch>, SkipReport) {
    common::read(&reading(server, pattern, remote))
}

fn keys(batches: &[SuperBatch]) -> Vec<&str> {
    batches.iter().flat_map(|batch| batch.keys.iter().map(String::as_str)).collect()
}

#[test]
fn shards_arrive_whole_whatever_the_server_does_at_first() {
    let shard = |n| good(["a", "b", "c", "d", "e", "f"][n], 4);
    let server = Server::start(vec![
        ("0.tar", shard(0), vec![Act::Serve]),
        ("1.tar", shard(1), vec![Act::Status(500), Act::Status(503), Act::Status(429), Act::Serve]),
        ("2.tar", shard(2), vec![Act::Stall, Act::Stall, Act::Serve]),
        ("3.tar", gzip(&shard(3)), vec![Act::CutOff, Act::CutOff, Act::CutOff, Act::CutOff, Act::CutOff, Act::Serve]),
        ("4.tar", shard(4), vec![Act::HangUp, Act::CutOff, Act::Status(502), Act::Serve]),
        ("5.tar", shard(5), vec![Act::Serve]),
    ]);
    let (batches, skips) = read(&server, "{0..5}.tar", options());
    let wanted: Vec<_> = "abcdef".chars().flat_map(|c| (0..4).map(move |i| format!("{c}{i}"))).collect();
    assert_eq!((keys(&batches), skips.skipped()), (wanted.iter().map(String::as_str).collect(), 0), "{skips}");
    // What arrived is not fetched again: five halves and the rest.
    assert_eq!((server.requests("3.tar"), server.requests("0.tar")), (6, 1));
}

#[test]
fn a_server_that_never_answers_costs_its_shard_and_no_more() {
    let server = Server::start(vec![
        ("0.tar", good("a", 2), vec![Act::Serve]),
        ("1.tar", good("b", 2), vec![Act::Status(503)]),
        ("2.tar", good("c", 2), vec![Act::HangUp]),
        ("4.tar", good("d", 2), vec![Act::Status(403)]),
        ("5.tar", good("e", 2), vec![Act::Serve]),
    ]);
    let (batches, skips) = read(&server, "{0..5}.tar", options());
    assert_eq!(keys(&batches), ["a0", "a1", "e0", "e1"]);
    assert_eq!((skips.count(SkipReason::ShardMissing), skips.skipped()), (4, 4), "{skips}");
    // Three retries; none where the answer is final.
    let requests: Vec<_> = (1..=4).map(|i| server.requests(&format!("{i}.tar"))).collect();
    assert_eq!(requests, [4, 4, 1, 1]);
    let details: Vec<_> = skips.first().iter().map(|skip| skip.detail.as_str()).collect();
    assert!(details[0].contains("given up at byte 0 after 4 attempts") && details[0].contains("503"), "{details:?}");
    assert!(details[2].contains("is not there"), "{details:?}");
}

#[test]
fn a_shard_that_breaks_off_for_good_gives_what_came_before() {
    let whole = good("k", 40);
    let server =
        Server::start(vec![("0.tar", whole, vec![Act::Stall, Act::Status(500)]), ("1.tar", good("l", 1), vec![])]);
    let (batches, skips) = read(&server, "{0..1}.tar", options());
    let keys = keys(&batches);
    assert!(keys.len() > 10 && keys.len() < 41 && keys.last() == Some(&"l0"), "{keys:?}");
    assert_eq!((skips.count(SkipReason::ReadError), skips.skipped()), (1, 1), "{skips}");
    assert!(skips.to_string().contains("given up at byte"), "{skips}");
}

#[test]
fn a_server_that_drips_is_given_up() {
    let server = Server::start(vec![
        ("0.tar", good("k", 40), vec![Act::Drip, Act::Serve]),
        ("1.tar", good("l", 40), vec![Act::Drip, Act::Drip, Act::Drip, Act::Drip, Act::Drip, Act::Drip, Act::Drip]),
        ("2.tar", good("m", 1), vec![]),
    ]);
    let (batches, skips) = read(&server, "{0..2}.tar", RemoteOptions { least_bytes: 20_000, ..options() });
    let keys = keys(&batches);
    assert!(keys[39] == "k39" && keys.len() < 81 && keys.last() == Some(&"m0"), "{keys:?}");
    assert_eq!((skips.count(SkipReason::ReadError), skips.skipped()), (1, 1), "{skips}");
    assert!(skips.to_string().contains("less than 20000 bytes in 1500 ms"), "{skips}");
}

#[test]
fn a_server_that_knows_no_ranges_is_read_from_the_beginning() {
    let (cut, serve) = (Act::CutOffWithoutRanges, Act::ServeWithoutRanges);
    let server = Server::start(vec![("0.tar", good("k", 40), vec![cut, cut, cut, serve])]);
    let (batches, skips) = read(&server, "0.tar", options());
    let wanted: Vec<_> = (0..40).map(|i| format!("k{i}")).collect();
    assert_eq!((keys(&batches), skips.skipped()), (wanted.iter().map(String::as_str).collect(), 0), "{skips}");
}

#[test]
fn lengths_that_are_not_true_are_noticed() {
    let server = Server::start(vec![
        ("0.tar", good("k", 4), vec![Act::ClaimMore]),
        ("1.tar", good("l", 4), vec![Act::ClaimFewer]),
        ("2.tar", gzip(&good("m", 40)), vec![Act::ClaimFewer]),
        ("3.tar", good("n", 1), vec![]),
    ]);
    let folder = tempfile::tempdir().unwrap();
    let cached = RemoteOptions { cache: Some(folder.path().to_path_buf()), ..options() };
    let (batches, skips) = read(&server, "{0..3}.tar", cached);
    let keys = keys(&batches);
    // The end mark of the first is there, and what was promised behind it is not missed.
    assert_eq!((&keys[..4], keys.last()), (&["k0", "k1", "k2", "k3"][..], Some(&"n0")), "{skips}");
    assert_eq!((skips.count(SkipReason::TarTruncated), skips.skipped()), (2, 2), "{skips}");
    assert!(server.requests("0.tar") == 4 && std::fs::read_dir(folder.path()).unwrap().count() <= 3);
}

#[test]
fn two_versions_of_a_shard_are_never_joined() {
    let server = Server::start(vec![
        ("0.tar", good("k", 40), vec![Act::CutOff, Act::ServeAnother]),
        ("1.tar", good("l", 1), vec![]),
    ]);
    let (batches, skips) = read(&server, "{0..1}.tar", options());
    let keys = keys(&batches);
    assert!(keys.len() > 10 && keys.len() < 41 && keys.last() == Some(&"l0"), "{keys:?}");
    assert_eq!((skips.count(SkipReason::ReadError), skips.skipped()), (1, 1), "{skips}");
    assert!(skips.to_string().contains("changed on the server while it was read"), "{skips}");
}

#[test]
fn a_server_that_is_gone_ends_the_run_before_the_epoch() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let gone = Server { address: format!("http://{closed}"), requests: Arc::default() };
    let mut config = reading(&gone, "{000..999}.tar", RemoteOptions { retries: 1, ..options() });
    config.limits.max_skipped_share = 0.5;
    let error = read_all(&config, 4).unwrap().find_map(Result::err).unwrap().to_string();
    assert!(error.contains("16 of 16") && error.contains("000.tar") && error.contains("shard_missing"), "{error}");
}

#[test]
fn an_order_of_shards_is_the_same_from_a_server_as_from_files() {
    let files = ["0.tar", "1.tar", "2.tar", "3.tar", "4.tar"].map(|name| (name, good(&name[..1], 5), vec![]));
    let folder = common::folder(&files.clone().map(|(name, bytes, _)| (name, bytes)));
    let server = Server::start(files.to_vec());
    let take = |config: LoaderConfig| {
        let mut loader = Loader::new(config, LoaderState::default()).unwrap();
        (0..20).map(|_| loader.next_super_batch(7).unwrap()).collect::<Vec<_>>()
    };
    for cache_bytes in [0, 20_000, 1 << 30] {
        let local = take(LoaderConfig { cache_bytes, ..config(folder.path()) });
        let remote = LoaderConfig { cache_bytes, ..reading(&server, "{0..4}.tar", options()) };
        assert_eq!(local, take(remote), "cache of {cache_bytes} bytes");
    }
}

#[test]
fn whole_shards_are_kept_within_bounds() {
    let files = ["0.tar", "1.tar", "2.tar"].map(|name| (name, good("a", 3), vec![Act::CutOff, Act::Serve]));
    let size = files[0].1.len() as u64;
    let server = Server::start(files.to_vec());
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("mine.txt"), "not a shard").unwrap();
    let cached = |shards: u64| RemoteOptions {
        cache: Some(folder.path().to_path_buf()),
        cache_bytes: shards * size,
        ..options()
    };
    // What a killed process has left behind counts, and goes first.
    std::fs::write(folder.path().join("part-dead.jest-shard"), vec![0; 2 * size as usize]).unwrap();
    let (first, _) = read(&server, "{0..2}.tar", cached(3));
    let (again, _) = read(&server, "{0..2}.tar", cached(3));
    assert!(first == again && server.requests("0.tar") == 2 && server.requests("2.tar") == 2);
    let held = || std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(held(), 4);
    std::fs::read_dir(folder.path())
        .unwrap()
        .flatten()
        .filter(|e| e.path().extension().is_some_and(|e| e == "jest-shard"))
        .for_each(|entry| std::fs::remove_file(entry.path()).unwrap());
    read(&server, "{0..2}.tar", cached(2));
    assert_eq!((held(), server.requests("0.tar")), (3, 3));
    // A shard that is larger than the bound is not kept, nothing else is removed, and nothing is left half.
    read(&server, "0.tar", RemoteOptions { cache_bytes: size - 1, ..cached(1) });
    assert_eq!(held(), 3);
    let nowhere = folder.path().join("mine.txt");
    let config = reading(&server, "0.tar", RemoteOptions { cache: Some(nowhere.clone()), ..options() });
    let error = config.check().unwrap_err().to_string();
    assert!(error.contains("cache of shards") && error.contains(nowhere.to_str().unwrap()), "{error}");
}

#[test]
fn addresses_name_sources_and_settings_stay_secret() {
    let source = Source::parse("s3://bucket/data/train/{00..02}.tar").unwrap();
    let names: Vec<_> = source.shards().iter().map(|shard| shard.name.as_ref()).collect();
    assert_eq!((source.name(), names.as_slice()), ("train", &["00.tar", "01.tar", "02.tar"][..]));
    assert!(source.count().unwrap_err().to_string().contains("data.num_examples"));
    for (spec, words) in [
        ("https://host/0.tar?signature=1", "`?`"),
        ("s3://bucket/train", "tar shards"),
        ("ftp://host/0.tar", "https://"),
    ] {
        let error = Source::parse(spec).unwrap_err();
        assert!(matches!(error, DataError::Source { .. }) && error.to_string().contains(words), "{error}");
    }
    let options = RemoteOptions { settings: vec![("AWS_SECRET_ACCESS_KEY".into(), "hidden".into())], ..options() };
    assert!(!format!("{options:?}").contains("hidden"));
}

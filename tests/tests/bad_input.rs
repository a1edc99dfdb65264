//! Bad input gets the protocol's error or a closed connection, one log line, and no other client notices.

use std::io::Write as _;
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{JoinHandle, sleep};
use std::time::Duration;

use bytes::BytesMut;
use flate2::Compression as Level;
use flate2::write::GzEncoder;
use tailwater_kafka::ErrorCode;
use tailwater_kafka::batch::{BatchBuilder, BatchHeader, Compression, HEADER_BYTES, assemble};
use tailwater_kafka::messages::{ApiVersionsRequest, MetadataRequest, MetadataRequestTopic};
use tailwater_kafka::{ApiKey, Message as _, Str};
use tailwater_tests::{Connection, Server, batch, wait_until};

const CONFIG: &str = "[wal]\ncapacity = '64MiB'\n";
const TOPIC: &str = "bad-input";
/// What a bad request may add to the server's memory at its worst.
const MAX_EXTRA_BYTES: u64 = 96 << 20;
/// Within this time a second log line would have come.
const QUIET: Duration = Duration::from_millis(300);
const LIMIT: Duration = Duration::from_secs(60);

/// A server, and a client that has been connected since before anything bad happened and keeps producing.
struct Scene {
    server: Server,
    witness: Option<JoinHandle<()>>,
    produced: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

impl Scene {
    fn new() -> Self {
        // What each test provokes is counted here; whatever else is a warning fails the test.
        let mut server = Server::new(CONFIG).allow("127.0.0.1:");
        server.start();
        let mut connection = Connection::open(server.kafka());
        assert_eq!(connection.create_topic(TOPIC, 1, &[]).unwrap(), ErrorCode::None);
        assert_eq!(connection.create_topic("witness", 1, &[]).unwrap(), ErrorCode::None);
        let (produced, stop) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let witness = std::thread::spawn({
            let (produced, stop) = (produced.clone(), stop.clone());
            move || {
                while !stop.load(Ordering::Relaxed) {
                    let answer = connection
                        .produce("witness", 0, batch(&[b"all is well"]))
                        .expect("the witness stays connected");
                    assert_eq!(answer.error_code, ErrorCode::None, "{answer:?}");
                    let expected = i64::try_from(produced.load(Ordering::Relaxed)).unwrap();
                    assert_eq!(answer.base_offset, expected, "the witness is alone on its partition");
                    produced.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        Self {
            server,
            witness: Some(witness),
            produced,
            stop,
        }
    }

    fn connect(&self) -> Connection {
        Connection::open(self.server.kafka())
    }

    /// Runs `case`, then checks that the server logged one line about its connection, and that the witness goes on.
    fn expect_one_line(&self, name: &str, case: impl FnOnce(&mut Connection)) {
        self.expect_lines(name, 1, case);
    }

    fn expect_lines(&self, name: &str, expected: usize, case: impl FnOnce(&mut Connection)) {
        let mark = self.server.log().mark();
        let mut connection = self.connect();
        let peer = connection.local().to_string();
        case(&mut connection);
        drop(connection);
        let lines = || -> Vec<String> {
            self.server
                .log()
                .since(mark)
                .into_iter()
                .filter(|line| line.contains(&peer))
                .collect()
        };
        wait_until(&format!("a log line about {name}"), LIMIT, || lines().len() >= expected);
        sleep(QUIET);
        assert_eq!(lines().len(), expected, "log lines about {name}: {:#?}", lines());
        let before = self.produced.load(Ordering::Relaxed);
        wait_until(&format!("the witness to go on after {name}"), LIMIT, || {
            assert!(
                !self.witness.as_ref().expect("it runs").is_finished(),
                "the witness was disturbed by {name}"
            );
            self.produced.load(Ordering::Relaxed) > before + 5
        });
    }

    fn finish(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.witness
            .take()
            .expect("it runs")
            .join()
            .expect("the witness noticed nothing");
        self.server.finish();
    }
}

/// A frame with a header of version 1 and this body.
fn frame(api: i16, version: i16, body: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    frame.extend(api.to_be_bytes());
    frame.extend(version.to_be_bytes());
    frame.extend(7_i32.to_be_bytes());
    frame.extend((-1_i16).to_be_bytes());
    frame.extend(body);
    let length = i32::try_from(frame.len()).unwrap().to_be_bytes();
    [&length[..], &frame].concat()
}

/// Frames that can't be: the connection is closed.
#[test]
fn bad_frames_close_the_connection() {
    let scene = Scene::new();
    for (name, length) in [
        ("length -1", -1_i32),
        ("length 0", 0),
        ("length 2 GiB", i32::MAX),
        ("least length", i32::MIN),
    ] {
        scene.expect_one_line(name, |connection| {
            connection.send_raw(&length.to_be_bytes()).unwrap();
            assert!(connection.is_closed_by_peer(), "{name}");
        });
    }
    scene.expect_one_line("a torn frame", |connection| {
        connection
            .send_raw(&frame(ApiKey::Metadata.code(), 1, &[0; 100])[..50])
            .unwrap();
        connection.shutdown(Shutdown::Write);
        assert!(connection.is_closed_by_peer());
    });
    scene.expect_one_line("a torn length", |connection| {
        connection.send_raw(&[0, 0]).unwrap();
        connection.shutdown(Shutdown::Write);
        assert!(connection.is_closed_by_peer());
    });
    scene.expect_one_line("an unknown API", |connection| {
        connection.send_raw(&frame(9999, 0, &[])).unwrap();
        assert!(connection.is_closed_by_peer());
    });
    scene.expect_one_line("a negative API", |connection| {
        connection.send_raw(&frame(-1, -1, &[])).unwrap();
        assert!(connection.is_closed_by_peer());
    });
    for version in [-1, 99] {
        scene.expect_one_line("an unknown version", |connection| {
            connection
                .send_raw(&frame(ApiKey::Metadata.code(), version, &[0, 0, 0, 0]))
                .unwrap();
            assert!(connection.is_closed_by_peer());
        });
    }
    scene.expect_one_line("a body that is cut off", |connection| {
        connection
            .send_raw(&frame(ApiKey::Produce.code(), 8, &[0xff, 0xff, 0xff]))
            .unwrap();
        assert!(connection.is_closed_by_peer());
    });
    scene.expect_one_line("an array of 2 Gi elements", |connection| {
        connection
            .send_raw(&frame(ApiKey::Metadata.code(), 1, &i32::MAX.to_be_bytes()))
            .unwrap();
        assert!(connection.is_closed_by_peer());
    });
    scene.expect_one_line("noise", |connection| {
        connection
            .send_raw(b"GET / HTTP/1.1\r\nHost: tailwater\r\n\r\n")
            .unwrap();
        assert!(connection.is_closed_by_peer());
    });
    scene.finish();
}

/// A client asks for the versions in one that isn't served: it gets the list in version 0, and may go on (KIP-511).
#[test]
fn an_unknown_version_of_api_versions_is_answered() {
    let scene = Scene::new();
    // No line: a client newer than this server asks so each time it connects, and is answered as it expects.
    scene.expect_lines("ApiVersions 99", 0, |connection| {
        // As a client of the future would: no tagged fields in the header, two empty strings and no tagged fields in the body.
        connection
            .send_raw(&frame(ApiKey::ApiVersions.code(), 99, &[0, 1, 1, 0]))
            .unwrap();
        let answer = connection.read_frame().unwrap().expect("an answer");
        assert_eq!(answer[..4], 7_i32.to_be_bytes());
        assert_eq!(answer[4..6], ErrorCode::UnsupportedVersion.code().to_be_bytes());
        let response = connection
            .call(0, &ApiVersionsRequest::default())
            .expect("the connection is still good");
        assert_eq!(response.error_code, ErrorCode::None);
    });
    scene.finish();
}

/// Topics and partitions that can't be, or aren't, there.
#[test]
fn bad_names_get_the_protocols_error() {
    let scene = Scene::new();
    let metadata = |name: &str| MetadataRequest {
        topics: Some(vec![MetadataRequestTopic {
            name: Some(Str::from(name)),
            ..Default::default()
        }]),
        ..MetadataRequest::default()
    };
    for name in ["with/slash", "..", "", "space here", &"x".repeat(250)] {
        scene.expect_one_line("creating a name that can't be", |connection| {
            let code = connection.create_topic(name, 1, &[]).unwrap();
            assert_eq!(code, ErrorCode::InvalidTopicException, "{name}");
        });
        scene.expect_one_line("asking for a name that can't be", |connection| {
            let response = connection.call(9, &metadata(name)).unwrap();
            assert_eq!(
                response.topics[0].error_code,
                ErrorCode::InvalidTopicException,
                "{name}"
            );
        });
        scene.expect_one_line("a produce to a name that can't be", |connection| {
            let code = connection.produce(name, 0, batch(&[b"x"])).unwrap().error_code;
            let allowed = [ErrorCode::InvalidTopicException, ErrorCode::UnknownTopicOrPartition];
            assert!(allowed.contains(&code), "{name}: {code:?}");
        });
    }
    for partition in [1, -1, i32::MAX] {
        scene.expect_one_line("a partition that isn't there", |connection| {
            let code = connection.produce(TOPIC, partition, batch(&[b"x"])).unwrap().error_code;
            assert_eq!(code, ErrorCode::UnknownTopicOrPartition);
        });
        scene.expect_one_line("a fetch of a partition that isn't there", |connection| {
            let (code, _) = connection.fetch(TOPIC, partition, 0).unwrap();
            assert_eq!(code, ErrorCode::UnknownTopicOrPartition);
        });
    }
    scene.finish();
}

/// The batch with a changed header and a right sum.
fn with_header(batch: &[u8], change: impl FnOnce(&mut BatchHeader)) -> BytesMut {
    let mut header = BatchHeader::read(batch).unwrap();
    change(&mut header);
    assemble(&header, &batch[HEADER_BYTES..])
}

/// Batches that are damaged or say what isn't so: an error for them, and the connection goes on.
#[test]
fn bad_batches_get_the_protocols_error() {
    let scene = Scene::new();
    let good = batch(&[b"one", b"two"]);
    let mut flipped = good.clone();
    *flipped.last_mut().unwrap() ^= 0x40;
    let mut bad_sum = good.clone();
    bad_sum[17] ^= 1;
    let mut old = good.clone();
    old[16] = 1;
    let mut long = good.clone();
    long[8..12].copy_from_slice(&i32::MAX.to_be_bytes());
    let mut longer = good.clone();
    longer[8..12].copy_from_slice(&i32::try_from(good.len() - 11).unwrap().to_be_bytes());
    let mut negative = good.clone();
    negative[8..12].copy_from_slice(&(-1_i32).to_be_bytes());
    let cases = [
        ("a flipped bit", flipped, ErrorCode::CorruptMessage),
        ("a wrong sum", bad_sum, ErrorCode::CorruptMessage),
        (
            "half a batch",
            BytesMut::from(&good[..good.len() / 2]),
            ErrorCode::CorruptMessage,
        ),
        ("a length of 2 GiB", long, ErrorCode::MessageTooLarge),
        ("a length one beyond the end", longer, ErrorCode::CorruptMessage),
        ("a negative length", negative, ErrorCode::CorruptMessage),
        ("magic 1", old, ErrorCode::InvalidRecord),
        (
            "a count too high",
            with_header(&good, |header| header.count = 3),
            ErrorCode::InvalidRecord,
        ),
        (
            "a count of 2 Gi",
            with_header(&good, |header| {
                (header.count, header.last_offset_delta) = (i32::MAX, i32::MAX - 1)
            }),
            ErrorCode::InvalidRecord,
        ),
        (
            "a negative count",
            with_header(&good, |header| (header.count, header.last_offset_delta) = (-1, -2)),
            ErrorCode::InvalidRecord,
        ),
        (
            "a last offset too high",
            with_header(&good, |header| header.last_offset_delta = 9),
            ErrorCode::InvalidRecord,
        ),
        (
            "a control batch",
            with_header(&good, |header| header.attributes = 0x20),
            ErrorCode::InvalidRecord,
        ),
        (
            "an unknown codec",
            with_header(&good, |header| header.attributes = 6),
            ErrorCode::UnsupportedCompressionType,
        ),
        (
            "no codec's data",
            with_header(&good, |header| header.attributes = 1),
            ErrorCode::InvalidRecord,
        ),
        ("nothing", BytesMut::new(), ErrorCode::InvalidRecord),
    ];
    for (name, bad, expected) in cases {
        scene.expect_one_line(name, |connection| {
            let answer = connection.produce(TOPIC, 0, bad).unwrap();
            assert_eq!(answer.error_code, expected, "{name}: {answer:?}");
            assert_eq!(answer.base_offset, -1, "{name}");
            let answer = connection
                .produce(TOPIC, 0, batch(&[b"good"]))
                .expect("the connection is still good");
            assert_eq!(answer.error_code, ErrorCode::None, "{name}");
        });
    }
    // Nothing of it was stored.
    let mut connection = scene.connect();
    let (code, bytes) = connection.fetch(TOPIC, 0, 0).unwrap();
    assert_eq!(code, ErrorCode::None);
    let mut rest = &bytes[..];
    let mut next = 0;
    while !rest.is_empty() {
        let header = BatchHeader::read(rest).unwrap();
        assert_eq!((header.base_offset.0, header.count), (next, 1));
        next += 1;
        rest = &rest[header.size()..];
    }
    assert_eq!(next, 15);
    scene.finish();
}

/// The most memory that the process has had since the last look, in bytes.
fn peak_bytes(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
    // "5" resets the peak to what is there now.
    std::fs::write(format!("/proc/{pid}/clear_refs"), "5").unwrap();
    kib << 10
}

/// One record with a value of zeros, or what claims to be one.
fn bomb(compression: Compression, compress: impl FnOnce(&[u8]) -> Vec<u8>) -> BytesMut {
    let mut builder = BatchBuilder::new();
    builder.push(0, None, Some(&vec![0; 256 << 20]), &[]);
    let plain = builder.build();
    let compressed = compress(&plain[HEADER_BYTES..]);
    let mut header = BatchHeader::read(&plain).unwrap();
    header.attributes |= compression as i16;
    assemble(&header, &compressed)
}

/// Compression that lies about its size, or hides more than may be: refused, without the memory it claims.
#[test]
fn compression_that_lies_is_refused_in_bounded_memory() {
    let mut scene = Scene::new();
    let pid = scene.server.process().id();
    let claim = |compression: Compression, body: &[u8]| {
        with_header(
            &assemble(&BatchHeader::read(&batch(&[b"x"])).unwrap(), body),
            |header| header.attributes = compression as i16,
        )
    };
    // A zstd frame header with 8 bytes of content size, 1 TiB; then nothing like it.
    let zstd_claim = [
        &[0x28, 0xb5, 0x2f, 0xfd, 0xe0][..],
        &(1_u64 << 40).to_le_bytes(),
        &[1, 0, 0],
    ]
    .concat();
    let cases = [
        (
            "a gzip bomb",
            bomb(Compression::Gzip, |plain| {
                let mut encoder = GzEncoder::new(Vec::new(), Level::fast());
                encoder.write_all(plain).unwrap();
                encoder.finish().unwrap()
            }),
        ),
        (
            "a zstd bomb",
            bomb(Compression::Zstd, |plain| zstd::encode_all(plain, 1).unwrap()),
        ),
        ("a zstd frame that claims 1 TiB", claim(Compression::Zstd, &zstd_claim)),
        (
            "a snappy block that claims 4 GiB",
            claim(Compression::Snappy, &[0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0]),
        ),
        (
            "an lz4 frame that isn't one",
            claim(Compression::Lz4, &[0x04, 0x22, 0x4d, 0x18, 0xff, 0xff, 0xff, 0xff]),
        ),
    ];
    for (name, bad) in cases {
        let before = peak_bytes(pid);
        let size = bad.len();
        scene.expect_one_line(name, |connection| {
            let answer = connection.produce(TOPIC, 0, bad).unwrap();
            let expected = if size > 1_048_588 {
                ErrorCode::MessageTooLarge
            } else {
                ErrorCode::InvalidRecord
            };
            assert_eq!(answer.error_code, expected, "{name} of {size} bytes: {answer:?}");
        });
        let extra = peak_bytes(pid).saturating_sub(before);
        assert!(
            extra < MAX_EXTRA_BYTES,
            "{name}: the server took {} MiB for it",
            extra >> 20
        );
    }
    scene.finish();
}

/// The versions of this file's raw requests are served: otherwise it tests nothing.
#[test]
fn the_versions_used_here_exist() {
    assert!(MetadataRequest::VERSIONS.contains(1) && MetadataRequest::VERSIONS.contains(9));
    assert!(!MetadataRequest::VERSIONS.contains(99));
}

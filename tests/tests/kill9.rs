//! `kill -9` at random moments of an idempotent acks=all run: whatever was acknowledged is there, once, in order.
//!
//! The device is small and uploads are frequent, so that the ring laps, and what is read after a restart comes partly from
//! objects and partly from the WAL. One life uploads nothing, so that much is read from the WAL and survives in it alone.

use std::thread::sleep;
use std::time::{Duration, Instant};

use tailwater_kafka::ErrorCode;
use tailwater_kafka::batch::BatchHeader;
use tailwater_tests::{Connection, Load, Seed, Server, is_long, python, verify, wait_until};

const CAPACITY_MIB: u32 = 64;
const CONFIG: &str = r#"
[wal]
capacity = "64MiB"
flush_window = "4MiB"
[compactor]
trigger_bytes = "16MiB"
trigger_age = "10s"
"#;
/// Nothing is uploaded for now, and next to nothing is kept in memory: what is read comes from the WAL.
const HELD_BACK: &str = r#"
[wal]
capacity = "64MiB"
flush_window = "4MiB"
[compactor]
trigger_bytes = "1GiB"
trigger_age = "1h"
trigger_device_percent = 90
[frontend.cache]
tail_bytes = "1MiB"
"#;
/// Acknowledged bytes that are only in the WAL when they are read, and when the last kill comes.
const ONLY_IN_WAL_BYTES: f64 = 8_000_000.0;
/// Far beyond anything that should happen.
const LIMIT: Duration = Duration::from_secs(60);
/// What a run must have written to have lapped the ring "many times".
const LAPS: f64 = 3.0;

/// Where reads were served from, summed over the lives of the server.
#[derive(Clone, Copy, Debug, Default)]
struct Sources {
    object_bytes: f64,
    wal_bytes: f64,
}

impl Sources {
    fn add(&mut self, server: &Server) {
        let metrics = server.metrics();
        self.object_bytes += metrics.sum_where("tailwater_frontend_read_bytes_total", "source=\"object\"");
        self.wal_bytes += metrics.sum_where("tailwater_frontend_read_bytes_total", "source=\"wal\"");
    }
}

/// The newest of what was acknowledged before the kill, read at once: it lies in the WAL, nobody has uploaded it yet.
fn read_last_acked(server: &Server, load: &Load) {
    let mut connection = Connection::open(server.kafka());
    let begun = Instant::now();
    for (partition, offset) in load.last_acked() {
        let batches = loop {
            match connection.fetch("load", partition, offset).expect("the server answers") {
                (ErrorCode::None, batches) => break batches,
                // A partition may open a little later than the others, or its records be on their way from the WAL to objects.
                (ErrorCode::NotLeaderOrFollower | ErrorCode::KafkaStorageError, _) if begun.elapsed() < LIMIT => {
                    sleep(Duration::from_millis(2));
                }
                (code, _) => panic!("partition {partition} at {offset}: {code:?}"),
            }
        };
        let first = BatchHeader::read(&batches).expect("a batch");
        assert!(
            first.base_offset.0 <= offset && offset < first.end_offset().0,
            "asked for {offset}, got {first:?}"
        );
    }
}

/// Everything acknowledged survives every kill: records, offsets, producers' sequences, committed group offsets.
#[test]
fn acknowledged_records_survive_kill_9() {
    let Some(python) = python("kill -9") else { return };
    let mut seed = Seed::from_environment();
    // A disk that is slow for a moment makes producers wait, as it should.
    let mut server = Server::new(CONFIG).allow("the WAL has no room");
    let history = server.folder().join("history");
    let mut sources = Sources::default();

    server.start();
    // Bytes a second and producer: every round reads everything, so twenty rounds go slower.
    let rate = if is_long() { "2000000" } else { "6000000" };
    let load = Load::start(&python, &server.bootstrap(), &history, &["--rate", rate]);
    for round in 0..if is_long() { 20 } else { 3 } {
        sleep(Duration::from_millis(seed.draw(2_000, 6_000)));
        sources.add(&server);
        println!("round {round}: killed with {} records acknowledged", load.acked());
        server.kill9();
        sleep(Duration::from_millis(seed.draw(0, 500)));
        println!("round {round}: ready after {:?}", server.start());
        read_last_acked(&server, &load);
        verify(&python, &server.bootstrap(), &history, false);
    }

    let capacity_bytes = f64::from(CAPACITY_MIB << 20);
    wait_until("the ring to lap", Duration::from_secs(300), || {
        server.metrics().sum("tailwater_wal_trim_position_bytes") > LAPS * capacity_bytes
    });
    sources.add(&server);
    println!("{sources:?}");
    assert!(sources.wal_bytes > 0.0, "the newest is read from the WAL: {sources:?}");

    // A life without uploads: a large part is only in the WAL, is read from there, and outlives the next kill.
    server.kill9();
    server.set_config(HELD_BACK);
    server.start();
    let lag_bytes = |server: &Server| server.metrics().sum("tailwater_upload_lag_bytes");
    // What the life before left is uploaded at once, since its journal is sealed: only what this one has written counts.
    let written_bytes = |server: &Server| server.metrics().sum("tailwater_wal_appended_bytes_total");
    wait_until("much to be only in the WAL", Duration::from_secs(120), || {
        written_bytes(&server) > 1.5 * ONLY_IN_WAL_BYTES && lag_bytes(&server) > ONLY_IN_WAL_BYTES
    });
    load.finish();
    verify(&python, &server.bootstrap(), &history, true);
    let mut held_back = Sources::default();
    held_back.add(&server);
    println!("without uploads: {held_back:?}, lag {}", lag_bytes(&server));
    assert!(lag_bytes(&server) > ONLY_IN_WAL_BYTES, "nothing was uploaded meanwhile");
    assert!(
        held_back.wal_bytes > ONLY_IN_WAL_BYTES / 2.0 && held_back.object_bytes > ONLY_IN_WAL_BYTES,
        "read from both? {held_back:?}"
    );

    // Once more with nothing in flight, by SIGKILL and then in order.
    server.kill9();
    server.set_config(CONFIG);
    server.start();
    let verified = verify(&python, &server.bootstrap(), &history, true);
    assert!(verified.acked > 1000, "{verified:?}");
    server.finish();
}

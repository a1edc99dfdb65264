//! `kill -9` at random moments of an idempotent acks=all run: whatever was acknowledged is there, once, in order.
//!
//! The device is small and uploads are frequent, so that the ring laps, and what is read after a restart comes partly from
//! objects and partly from the WAL.

use std::thread::sleep;
use std::time::Duration;

use tailwater_kafka::ErrorCode;
use tailwater_kafka::batch::BatchHeader;
use tailwater_tests::{Connection, Load, Seed, Server, is_long, python, verify};

const CAPACITY_MIB: u32 = 64;
const CONFIG: &str = r#"
[wal]
capacity = "64MiB"
flush_window = "4MiB"
[compactor]
trigger_bytes = "16MiB"
trigger_age = "10s"
"#;
/// What a run must have written to have lapped the ring "many times".
const LAPS: f64 = 3.0;

/// Where reads were served from, summed over the lives of the server.
#[derive(Debug, Default)]
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
    for (partition, offset) in load.last_acked() {
        let batches = loop {
            match connection.fetch("load", partition, offset).expect("the server answers") {
                (ErrorCode::None, batches) => break batches,
                // A partition may open a little later than the others.
                (ErrorCode::NotLeaderOrFollower, _) => sleep(Duration::from_millis(2)),
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
    let mut server = Server::new(CONFIG);
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
    tailwater_tests::wait_until("the ring to lap", Duration::from_secs(300), || {
        server.metrics().sum("tailwater_wal_trim_position_bytes") > LAPS * capacity_bytes
    });
    load.finish();
    // Once more with nothing in flight, by SIGKILL and then in order.
    sources.add(&server);
    server.kill9();
    server.start();
    let verified = verify(&python, &server.bootstrap(), &history, true);
    assert!(verified.acked > 1000, "{verified:?}");
    sources.add(&server);
    assert!(
        sources.object_bytes > 0.0 && sources.wal_bytes > 0.0,
        "read from both? {sources:?}"
    );
    println!("{sources:?}");
    server.finish();
}

//! What happens when something is full: the WAL's device, the object store, the controller's volume. Producers slow down
//! or get an error that they retry by themselves, nothing acknowledged is lost, and it goes on when there is room.

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use tailwater_tests::{Connection, Load, Server, Tmpfs, python, verify, wait_until};

const CONFIG: &str = r#"
[wal]
capacity = "32MiB"
flush_window = "2MiB"
[compactor]
trigger_bytes = "2MiB"
trigger_age = "1s"
"#;
const MIB: u64 = 1 << 20;
/// What a server says while its objects go nowhere.
const STORE_FAILS: [&str; 5] = [
    "object store fails, trying on",
    "upload failed, it will be tried again",
    "journal can't be uploaded",
    "object was not deleted, it will be tried again",
    "the WAL has no room",
];
/// And while its metadata can't be changed.
const METADATA_FAILS: [&str; 4] = [
    "metadata can't be changed until this is mended",
    "upload failed, it will be tried again",
    "journal can't be uploaded",
    "the WAL has no room",
];
/// How long nothing may be acknowledged before it counts as standing still.
const STILL: Duration = Duration::from_secs(4);
const LIMIT: Duration = Duration::from_secs(120);

/// Waits until the device takes nothing more: no acknowledgement for a while.
fn wait_for_standstill(load: &mut Load) {
    let mut last = load.acked();
    wait_until("producers to stand still", LIMIT, || {
        sleep(STILL);
        let now = load.acked();
        assert!(load.is_running(), "the load has ended: a producer got a final error");
        std::mem::replace(&mut last, now) == now
    });
}

fn wait_for_progress(load: &mut Load) {
    let from = load.acked();
    wait_until("producers to go on", LIMIT, || load.acked() > from + 2_000);
    assert!(load.is_running());
}

/// Ends the load, checks everything, restarts, checks everything again.
fn settle(python: &std::path::Path, mut server: Server, load: Load) {
    let history = server.folder().join("history");
    load.finish();
    verify(python, &server.bootstrap(), &history, true);
    server.kill9();
    server.start();
    verify(python, &server.bootstrap(), &history, true);
    server.finish();
}

/// Without an object store the device fills up; it empties once the store is back.
#[test]
fn a_full_device_holds_producers_back() {
    let Some(python) = python("device full") else { return };
    let mut server = STORE_FAILS.into_iter().fold(Server::new(CONFIG), Server::allow);
    server.start();
    let mut load = Load::start(&python, &server.bootstrap(), &server.folder().join("history"), &[]);
    let (objects, away) = (server.data().join("objects"), server.folder().join("objects.away"));
    fs::rename(&objects, &away).unwrap();
    fs::write(&objects, "not a folder").unwrap();
    wait_for_standstill(&mut load);
    fs::remove_file(&objects).unwrap();
    fs::rename(&away, &objects).unwrap();
    wait_for_progress(&mut load);
    settle(&python, server, load);
}

/// ENOSPC in the object store: uploads stop, the device fills up; both go on when the store has grown.
#[test]
fn a_full_object_store_holds_producers_back() {
    let Some(python) = python("object store full") else {
        return;
    };
    let server = STORE_FAILS.into_iter().fold(Server::new(CONFIG), Server::allow);
    let store = server.folder().join("small");
    let Some(tmpfs) = Tmpfs::mount("object store full", &store, 24 * MIB) else {
        return;
    };
    let mut server = server
        .argument("--object-store")
        .argument(&format!("file://{}", store.display()));
    server.start();
    let mut load = Load::start(&python, &server.bootstrap(), &server.folder().join("history"), &[]);
    wait_for_standstill(&mut load);
    tmpfs.resize(2048 * MIB);
    wait_for_progress(&mut load);
    settle(&python, server, load);
}

/// ENOSPC in the controller's store: what needs metadata waits or is refused for now, and goes on when there is room.
#[test]
fn a_full_metadata_volume_is_survived() {
    let Some(python) = python("metadata volume full") else {
        return;
    };
    let mut server = METADATA_FAILS.into_iter().fold(Server::new(CONFIG), Server::allow);
    let Some(tmpfs) = Tmpfs::mount("metadata volume full", &server.data().join("controller"), 64 * MIB) else {
        return;
    };
    server.start();
    let mut load = Load::start(&python, &server.bootstrap(), &server.folder().join("history"), &[]);
    let filler = tmpfs.fill();
    // Uploads can't be committed now, so the device fills up.
    wait_for_standstill(&mut load);
    let refused = Connection::open(server.kafka())
        .create_topic("while-full", 1, &[])
        .unwrap();
    assert!(refused.is_retriable(), "creating a topic answered {refused:?}");
    fs::remove_file(filler).unwrap();
    wait_for_progress(&mut load);
    wait_until("topics to be created again", LIMIT, || {
        let code = Connection::open(server.kafka())
            .create_topic("after-full", 1, &[])
            .unwrap();
        code.code() == 0 || code == tailwater_kafka::ErrorCode::TopicAlreadyExists
    });
    settle(&python, server, load);
}

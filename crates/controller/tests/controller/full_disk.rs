//! The embedded store on a disk that fills up.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use tailwater_controller::{Config, ControllerService, start};
use tailwater_rpc::Error;
use tailwater_rpc::controller::*;
use tailwater_runtime::config::ByteSize;
use tailwater_types::*;

use crate::support::*;

/// A small file system of its own.
struct Mounted(tempfile::TempDir);

impl Mounted {
    /// `None`, said aloud, where mounting isn't permitted; under `CI=true` that is a failure.
    fn new(size: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(folder.path())
            .status();
        if mounted.is_ok_and(|status| status.success()) {
            return Some(Self(folder));
        }
        #[allow(clippy::disallowed_methods, reason = "tests say what they skip")]
        let ci = std::env::var("CI").is_ok_and(|value| value == "true");
        assert!(!ci, "mounting a tmpfs is not permitted here");
        eprintln!("SKIPPED: a full disk, since mounting a tmpfs is not permitted here");
        None
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Takes all the room that is left.
    fn fill(&self) {
        let mut file = fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(self.path().join("filler"))
            .unwrap();
        while file.write(&[1; 4096]).is_ok_and(|written| written > 0) {}
    }

    fn empty(&self) {
        fs::remove_file(self.path().join("filler")).unwrap();
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(self.path()).status());
    }
}

async fn open(config: &Config) -> Arc<ControllerService> {
    let wals = Arc::new(Directory(DeviceId::from_bytes([9; 16]), Arc::default()));
    start(config.clone(), wals, runtime()).await.unwrap()
}

async fn register(controller: &ControllerService, incarnation: u128) -> Caller {
    let request = request(FRONTEND, Tier::Frontend, incarnation);
    let registration = controller.register(request).await.unwrap();
    caller(FRONTEND, &registration)
}

async fn topics(controller: &ControllerService, caller: Caller) -> Vec<String> {
    let mut watch = controller.watch(caller).await.unwrap();
    let first = futures::StreamExt::next(&mut watch).await.unwrap().unwrap();
    let name = |change: &MetadataChange| match change {
        MetadataChange::Topic(topic) => Some(topic.name.clone()),
        _ => None,
    };
    let mut names: Vec<_> = first.changes.iter().filter_map(name).collect();
    names.sort();
    names
}

/// Without room changes are refused and nothing that was answered is lost; reads and heartbeats go on; with room changes do,
/// without a restart. Several times, and over a restart.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_and_goes_on() {
    let Some(disk) = Mounted::new("24m") else {
        return;
    };
    let config = Config {
        data_dir: disk.path().join("controller"),
        ballast: ByteSize::mib(6),
        ..Config::default()
    };
    let mut controller = open(&config).await;
    let mut expected = Vec::new();
    let (mut refused, mut round) = (0, 0);
    for fill in 0..3u128 {
        let caller = register(&controller, fill).await;
        disk.fill();
        // Each of these rewrites about 12 KB; sled may go on for a while in the room that its log has already.
        let mut refused_now = 0;
        for _ in 0..4000 {
            let name = format!("topic-{round:05}");
            round += 1;
            match controller.create_topic(caller, topic(&name, 50)).await {
                Ok(_) => expected.push(name),
                Err(error) => {
                    assert!(matches!(error, Error::Throttled(_)), "{error:?}");
                    assert_eq!(error.outcome(), Outcome::DidNotHappen);
                    refused_now += 1;
                    if refused_now == 20 {
                        break;
                    }
                    disk.fill();
                }
            }
        }
        assert_eq!(refused_now, 20, "the disk never filled up");
        refused += refused_now;
        let heartbeat = controller.heartbeat(caller, Heartbeat::default()).await.unwrap();
        assert_eq!(heartbeat.state, NodeState::Active);
        assert_eq!(topics(&controller, caller).await, expected);
        disk.empty();
        until(async || {
            let name = format!("after-{fill}");
            let created = controller.create_topic(caller, topic(&name, 1)).await;
            created.ok().map(|_| expected.push(name))
        })
        .await;
        // Keeps the state small enough for the small disk.
        expected.sort();
        assert_eq!(topics(&controller, caller).await, expected);
        controller.shutdown().await;
        controller = open(&config).await;
        let caller = register(&controller, 100 + fill).await;
        assert_eq!(topics(&controller, caller).await, expected);
    }
    assert!(refused >= 60);
    tokio::time::timeout(Duration::from_secs(10), controller.shutdown())
        .await
        .unwrap();
}

/// Prints what a controller costs: `cargo test -p tailwater-controller -- --ignored --nocapture costs`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn costs() {
    let resident = || {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
    };
    let folder = tempfile::tempdir_in(".").unwrap();
    let config = Config {
        data_dir: folder.path().to_owned(),
        ..Config::default()
    };
    let clock = tailwater_runtime::Clock::system();
    let idle = resident();
    for start in 0..3u128 {
        let began = clock.now();
        let controller = open(&config).await;
        println!(
            "start {start}: {:?}, resident {} -> {} MiB",
            clock.now() - began,
            idle,
            resident()
        );
        let caller = register(&controller, start).await;
        let began = clock.now();
        for n in 0..300 {
            let name = format!("t-{start}-{n}");
            controller.create_topic(caller, topic(&name, 10)).await.unwrap();
        }
        println!("300 topics: {:?}, resident {} MiB", clock.now() - began, resident());
        controller.shutdown().await;
    }
}
